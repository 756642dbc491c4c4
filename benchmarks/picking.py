"""What picking costs by the number of tomograms: time and memory, and what a killed command does again.

    python -m benchmarks.picking --model_path CHECKPOINT --tomograms DATA --copies 40 --kill
    python -m benchmarks.picking --model_path CHECKPOINT --tomograms DATA --copies 500
    python -m benchmarks.picking --model_path CHECKPOINT --tomograms DATA --copies 0 --large 512 1024 1024 \
        --max_memory_gb 3

The tomograms, and as many linked copies of them under other names as asked for, go through pick_particles.py with an
empty cache, in a few formats and with the gallery. --kill: then the same again, killed (SIGKILL) when half of the
tomograms are done, and started once more. --large: instead one volume of noise. The memory is the highest resident size
of the process; its slope is that of a straight line through the resident sizes after each tomogram but the first fifth.
"""

from command_line import run_script

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
import psutil

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
    parser.add_argument("--copies", type=int, default=40, help="tomograms of the long run; 0: none")
    parser.add_argument("--kill", action="store_true", help="and go on")
    parser.add_argument("--max_memory_gb", help="as of pick_particles.py, for windows")
    parser.add_argument("--large", type=int, nargs=3, metavar=("Z", "Y", "X"), help="voxels of a volume of noise")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    tomo_type = read_description(find_checkpoints(args.model_path)[0]).tomo_types[0]
    sources = [run.tomogram_path(tomo_type) for run in runs_of_words(args.tomograms, tomo_type=tomo_type)]
    print("| tomograms | seconds | seconds each | peak memory, GB | MB more in 100 | open files |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for count in filter(None, (len(sources), args.copies)) if args.large is None else ():
            _link(sources, root / f"tomograms_{count}", count)
            _row(str(count), count, _pick(args, root, f"tomograms_{count}", f"all_{count}"))
        if args.large is not None:
            _write_noise(root / "large" / "noise.mrc", args.large)
            _row(" x ".join(map(str, args.large)), 1, _pick(args, root, "large", "large_picks"))
        if args.kill:
            name = f"tomograms_{args.copies}"
            begun = _pick(args, root, name, "killed", kill_after=args.copies // 2)
            rest = _pick(args, root, name, "killed")
            before = sum(DONE_BEFORE in line for line in rest.lines)
            print(
                f"killed after {begun.seconds:.0f} s; again {rest.seconds:.0f} s, {before} of {args.copies} tomograms "
                f"{DONE_BEFORE}"
            )


@dataclass(frozen=True)
class _Run:
    """Of one command: what was printed, and after each tomogram MB of resident memory and the number of open files."""

    seconds: float
    gigabytes: float
    lines: list[str]
    megabytes: list[float]
    handles: list[int]

    def slope(self) -> float:
        """MB more in 100 tomograms."""
        kept = self.megabytes[len(self.megabytes) // 5 :]
        return 100 * float(np.polyfit(range(len(kept)), kept, 1)[0]) if len(kept) > 1 else 0.0


def _row(name: str, count: int, run: _Run) -> None:
    handles = f"{min(run.handles)} to {max(run.handles)}" if run.handles else ""
    times = f"{run.seconds:.0f} | {run.seconds / count:.1f}"
    print(f"| {name} | {times} | {run.gigabytes:.2f} | {run.slope():.2f} | {handles} |", flush=True)


def _write_noise(path: Path, shape: Sequence[int]) -> None:
    path.parent.mkdir()
    rng = np.random.default_rng(0)
    with mrcfile.new_mmap(path, shape=tuple(shape), mrc_mode=2) as file:
        for plane in file.data:
            plane[:] = rng.normal(size=plane.shape)
        file.voxel_size = 10.0


def _link(sources: Sequence[Path], folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        source = sources[number % len(sources)]
        (folder / f"copy{number:04d}{source.suffix}").symlink_to(source.resolve())


def _pick(args: argparse.Namespace, root: Path, tomograms: str, name: str, *, kill_after: int | None = None) -> _Run:
    command = [sys.executable, "-u", "pick_particles.py", "--model_path", args.model_path]
    command += ["--tomograms", root / tomograms, "--output_dir", root / name]
    command += ["--cache_dir", root / f"cache_{name}", "--formats", "relion5", "imod"]
    command += [] if args.max_memory_gb is None else ["--max_memory_gb", args.max_memory_gb]
    start, lines, megabytes, handles = time.perf_counter(), [], [], []
    with subprocess.Popen([str(word) for word in command], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            lines.append(line)
            if " picks" in line and ", " in line:
                with contextlib.suppress(psutil.Error):  # it has ended
                    megabytes.append(psutil.Process(process.pid).memory_info().rss / 1e6)
                    handles.append(psutil.Process(process.pid).num_fds())
            if kill_after is not None and sum(" picks" in one and ", " in one for one in lines) == kill_after:
                process.kill()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and kill_after is None:
        raise subprocess.CalledProcessError(process.returncode, command)
    return _Run(time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e9, lines, megabytes, handles)


if __name__ == "__main__":
    run_script(main)
