"""Time and peak memory of one phantom tomogram of full size.

    python -m benchmarks.phantom
    python -m benchmarks.phantom --runs 1 --shape 64 192 192

Each run is a process of its own: the time includes the start of Python, the memory is the largest resident set.
"""

from command_line import run_script

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import config
from benchmarks.processes import run_measured

ROOT = Path(__file__).parents[1]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.phantom", description=__doc__, allow_abbrev=False)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--shape", type=int, nargs=3, metavar=("D", "H", "W"), default=config.PHANTOM_SHAPE)
    parser.add_argument("--device", default="auto")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    seconds, gigabytes = [], []
    for _ in range(args.runs):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "make_phantom_dataset.py", "--output_dir", folder, "--device", args.device]
            command += ["--num_train", "1", "--num_eval", "0", "--shape", *map(str, args.shape)]
            start = time.perf_counter()
            gigabytes.append(run_measured(command, ROOT))
            seconds.append(time.perf_counter() - start)
    shape = " x ".join(map(str, args.shape))
    print(
        f"{shape}, median of {args.runs}: {statistics.median(seconds):.1f} s "
        f"({min(seconds):.1f} to {max(seconds):.1f}), peak memory {max(gigabytes):.2f} GB"
    )


if __name__ == "__main__":
    run_script(main)
