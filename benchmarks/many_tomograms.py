"""What a training costs before and beside its steps, by the number of tomograms: time and memory.

    python -m benchmarks.many_tomograms --data_root DATA --copies 100

The runs of the data root, and as many linked copies of them as asked for, are trained on for a few steps with the same
two runs held out; each training runs twice, with an empty cache of normalised tomograms and with the one that it left.
The time is that of the whole process, the memory its highest resident size.
"""

from command_line import run_script

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data.czi import find_runs
from data.files import path_argument

ROOT = Path(__file__).parents[1]
TREES = ("static", "overlay")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.many_tomograms",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--data_root", type=path_argument, required=True, help="training tree")
    parser.add_argument("--copies", type=int, default=100, help="runs of the large data set")
    parser.add_argument("--steps", type=int, default=10, help="of training")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    names = [run.name for run in find_runs(args.data_root, split="train")]
    print("| tomograms | cache | seconds | peak memory, GB |\n|---|---|---|---|")
    for count in (len(names), args.copies):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            _link(args.data_root, names, root / "data", count)
            for state in ("empty", "full"):
                seconds, gigabytes = _train(root, args.steps, state)
                print(f"| {count} | {state} | {seconds:.1f} | {gigabytes:.2f} |", flush=True)


def _link(data_root: Path, names: list[str], target: Path, count: int) -> None:
    """``count`` runs, numbered, each a link to one of those named."""
    for number in range(count):
        for tree in TREES:
            source = data_root / "train" / tree / "ExperimentRuns" / names[number % len(names)]
            link = target / "train" / tree / "ExperimentRuns" / f"run_{number:04d}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source.resolve())


def _train(root: Path, steps: int, name: str) -> tuple[float, float]:
    """Seconds and peak memory in 10^9 bytes."""
    command = [sys.executable, "train.py", "--data_root", root / "data", "--cache_dir", root / "cache"]
    command += ["--output_dir", root / "out", "--experiment_name", name, "--validation_runs", "run_0000", "run_0001"]
    command += ["--epochs", 1, "--steps_per_epoch", steps]
    start = time.perf_counter()
    with subprocess.Popen([str(word) for word in command], cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    run_script(main)
