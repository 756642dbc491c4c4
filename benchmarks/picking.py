"""What picking costs by the number of tomograms: time and memory, and what a killed command does again.

    python -m benchmarks.picking --model_path CHECKPOINT --tomograms DATA --copies 40

The tomograms, and as many linked copies of them under other names as asked for, go through pick_particles.py with an
empty cache, in a few formats and with the gallery. Then the same again, killed (SIGKILL) when half of the tomograms are
done, and started once more. The memory is the highest resident size of the process.
"""

from command_line import run_script

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from data.files import path_argument
from formats.tomogram_inputs import runs_of_words
from inference.checkpoints import find_checkpoints, read_description

ROOT = Path(__file__).parents[1]
DONE_BEFORE = "finished before"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.picking",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--model_path", type=path_argument, required=True, help="a checkpoint, or a folder of them")
    parser.add_argument("--tomograms", nargs="+", required=True, help="as of pick_particles.py")
    parser.add_argument("--copies", type=int, default=40, help="tomograms of the large run")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    tomo_type = read_description(find_checkpoints(args.model_path)[0]).tomo_types[0]
    sources = [run.tomogram_path(tomo_type) for run in runs_of_words(args.tomograms, tomo_type=tomo_type)]
    print("| tomograms | seconds | seconds each | peak memory, GB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for count in (len(sources), args.copies):
            _link(sources, root / f"tomograms_{count}", count)
            seconds, gigabytes, _ = _pick(args.model_path, root, count, f"all_{count}")
            print(f"| {count} | {seconds:.0f} | {seconds / count:.1f} | {gigabytes:.2f} |", flush=True)
        begun, _, _ = _pick(args.model_path, root, args.copies, "killed", kill_after=args.copies // 2)
        rest, _, lines = _pick(args.model_path, root, args.copies, "killed")
    before = sum(DONE_BEFORE in line for line in lines)
    print(f"killed after {begun:.0f} s; again {rest:.0f} s, {before} of {args.copies} tomograms {DONE_BEFORE}")


def _link(sources: Sequence[Path], folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        source = sources[number % len(sources)]
        (folder / f"copy{number:04d}{source.suffix}").symlink_to(source.resolve())


def _pick(
    model: Path, root: Path, count: int, name: str, *, kill_after: int | None = None
) -> tuple[float, float, list[str]]:
    """Seconds, peak memory in 10^9 bytes, and what was printed."""
    command = [sys.executable, "-u", "pick_particles.py", "--model_path", model]
    command += ["--tomograms", root / f"tomograms_{count}", "--output_dir", root / name]
    command += ["--cache_dir", root / f"cache_{name}", "--formats", "relion5", "imod"]
    start, lines = time.perf_counter(), []
    with subprocess.Popen([str(word) for word in command], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            lines.append(line)
            if kill_after is not None and sum(" picks" in one and ", " in one for one in lines) == kill_after:
                process.kill()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and kill_after is None:
        raise subprocess.CalledProcessError(process.returncode, command)
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e9, lines


if __name__ == "__main__":
    run_script(main)
