"""Running the project's scripts as a user does, and what they cost."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from errors import InputError

ROOT = Path(__file__).parents[1]


def run_measured(command: list[str], folder: Path) -> float:
    """Run to the end; the peak resident memory of that process in GB (10^9 bytes)."""
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise InputError(f"{' '.join(command)} failed")
    return usage.ru_maxrss * 1024 / 1e9


def run_beside_others(jobs: int, script: str, *flags, environment: Mapping[str, str] | None = None) -> None:
    """Run a script of the project, or a module by its dotted name, silently, as one of so many that share the cores.

    Variables of ``environment`` are set besides those that are set already.
    """
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    done = subprocess.run(
        [sys.executable, *([str(ROOT / script)] if script.endswith(".py") else ["-m", script]), *map(str, flags)],
        env={**os.environ, **(environment or {}), "OMP_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise InputError(f"{script} failed: {done.stderr[-2000:]}")
