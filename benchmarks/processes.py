"""Running the project's scripts as a user does, and what they cost."""

import os
import subprocess
from pathlib import Path

from errors import InputError


def run_measured(command: list[str], folder: Path) -> float:
    """Run to the end; the peak resident memory of that process in GB (10^9 bytes)."""
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise InputError(f"{' '.join(command)} failed")
    return usage.ru_maxrss * 1024 / 1e9
