"""What it costs to spread picking over processes, and how many tasks one command can keep at work.

    python -m benchmarks.scale_out --tomograms 40 --shape 96 192 192
    python -m benchmarks.scale_out --tasks 10000

The first picks in as many tomograms of noise with an untrained network: in one process, on one worker of Dask and on
two, side by side in rounds. The process has one core, the worker and the command that it works for share one, and two
workers and their command share two: a process that reads the next tomogram with another thread would use a second
core. Each has done a tomogram before (and imported what it needs, and loaded the network): times are those of the
others; what all that takes stands beside it. The second sends tasks that only sleep through the same code, and watches
the memory of this process.
"""

from command_line import run_script

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import mrcfile
import numpy as np
import psutil

import pick_particles
from cluster.dask_workers import DaskWorkers, dask_workers
from evaluation.arguments import map_settings, saved_maps, without_search
from evaluation.detector_arguments import read_detector
from evaluation.picking import PickingRecord, PickingTask
from evaluation.progress import ProgressBars
from evaluation.runs import open_sources
from evaluation.selection_arguments import selection_of
from evaluation.work import InTurn
from inference.maps.network_maps import MapSettings
from particle_config import PARTICLES
from tests import fake_work, tiny_campaign

ROOT = Path(__file__).parents[1]
MOST_WORKERS = 2


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale_out",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--tomograms", type=int, default=0, metavar="N", help="to pick in")
    parser.add_argument("--shape", type=int, nargs=3, default=(96, 192, 192), metavar=("Z", "Y", "X"))
    parser.add_argument("--rounds", type=int, default=2, help="each with its share of the tomograms")
    parser.add_argument("--tasks", type=int, default=0, metavar="N", help="that sleep")
    parser.add_argument("--task_seconds", type=float, default=0.01, help="each sleeps")
    parser.add_argument("--task_workers", type=int, default=4, help="for them")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    with tempfile.TemporaryDirectory() as folder:
        if args.tomograms:
            picking(Path(folder), args.tomograms, tuple(args.shape), args.rounds)
        if args.tasks:
            sleeping(Path(folder), args.tasks, args.task_seconds, args.task_workers)


# --- Picking ------------------------------------------------------------------------------------------
def picking(root: Path, count: int, shape: tuple[int, int, int], rounds: int) -> None:
    """Each round takes its share of the tomograms through all, side by side: the machine's speed may change."""
    write_data(root, count + MOST_WORKERS, shape)
    overheads, gains = [], []
    for index in range(rounds):
        seconds = {"one process": once(root, f"{index}_alone", index, rounds)}
        for number in range(1, MOST_WORKERS + 1):
            seconds[number], starting = on_workers(root, f"{index}_{number}", number, index, rounds)
        overheads.append(seconds[1] / seconds["one process"] - 1)
        gains.append(seconds[1] / seconds[2])
        print(
            f"{len(range(index, count, rounds))} tomograms: in one process {seconds['one process']:.1f} s, on one "
            f"worker {seconds[1]:.1f} s, on two {seconds[2]:.1f} s, and {starting:.1f} s to start them",
            flush=True,
        )
    print(f"one worker takes {median(overheads):+.1%}; two are {median(gains):.2f} times as fast as one (medians)")


def write_data(root: Path, count: int, shape: tuple[int, int, int]) -> None:
    tiny_campaign.write_checkpoint(root / "network.ckpt", fold=0, seed=1)
    (root / "tomograms").mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        with mrcfile.new(root / "tomograms" / f"noise_{number:04d}.mrc") as file:
            file.set_data(rng.normal(size=shape).astype(np.float32))
            file.voxel_size = tiny_campaign.SPACING


def words(root: Path, out: str) -> list[str]:
    folders = ("--tomograms", root / "tomograms", "--output_dir", root / out, "--cache_dir", root / f"cache_{out}")
    flags = ("--device", "cpu", "--fixed_plm_gpu_peak_thresh", "0.5")
    return list(map(str, ("--model_path", root / "network.ckpt", *folders, *flags)))


def tasks_of(root: Path, out: str) -> tuple[list[PickingTask], MapSettings]:
    """As pick_particles.py makes them."""
    args = without_search(pick_particles.build_parser().parse_args(words(root, out)))
    detector = read_detector(args)
    runs = pick_particles.find_inputs(args, detector.tomograms.tomo_type)
    sources, _ = open_sources(runs, detector.tomograms)
    folder, selection = root / out, selection_of(args, detector)
    tasks = [PickingTask(one, detector, selection, None, folder, saved_maps(args, folder)) for one in sources]
    return tasks, map_settings(args, detector.particles)


def once(root: Path, out: str, index: int, rounds: int) -> float:
    """Seconds in a process of its own, as the workers are: this one may have loaded libraries before."""
    call = f"scale_out.in_turn({str(root)!r}, {out!r}, {index}, {rounds})"
    command = [sys.executable, "-c", f"from benchmarks import scale_out; {call}"]
    with on_cores(1):
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return float(done.stdout.split()[-1])


def in_turn(root: str, out: str, index: int, rounds: int) -> None:
    tasks, settings = tasks_of(Path(root), out)
    with quiet():
        alone, (before, work) = InTurn(settings.open(), ProgressBars()), shares(tasks, 1, index, rounds)
        do_all(alone.records(before))
        begin = time.perf_counter()
        do_all(alone.records(work))
        seconds = time.perf_counter() - begin
    print(seconds)


def on_workers(root: Path, out: str, number: int, index: int, rounds: int) -> tuple[float, float]:
    """Seconds of the work, and of starting."""
    tasks, settings = tasks_of(root, out)
    before, work = shares(tasks, number, index, rounds)
    begin = time.perf_counter()
    with on_cores(number), quiet(), started(number, settings, root) as workers:
        do_all(workers.records(before))
        there = time.perf_counter()
        do_all(workers.records(work))
        end = time.perf_counter()
    return end - there, there - begin


def shares(
    tasks: Sequence[PickingTask], number: int, index: int, rounds: int
) -> tuple[Sequence[PickingTask], Sequence[PickingTask]]:
    """A task for each of so many workers to begin with, and those of a round."""
    return tasks[-number:], tasks[:-MOST_WORKERS][index::rounds]


def do_all(records: Iterator[PickingRecord]) -> None:
    for record in records:
        if record.error is not None:
            raise record.error


@contextlib.contextmanager
def on_cores(number: int) -> Iterator[None]:
    """For this process and those that it starts; threads that run already stay where they are."""
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(all_cores)[:number])
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_cores)


@contextlib.contextmanager
def started(number: int, settings: MapSettings, root: Path) -> Iterator[DaskWorkers]:
    with dask_workers("local", number, None, settings, ProgressBars(), root / "logs") as workers:
        workers.wait()
        yield workers


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()):
        yield


# --- Tasks that sleep ---------------------------------------------------------------------------------
def sleeping(root: Path, count: int, seconds: float, number: int) -> None:
    settings = MapSettings(root / "maps", 1.0, "cpu", "fp32", PARTICLES)
    work = [fake_work.FakeWork(fake_work.FakeSource(f"TS_{index:06d}"), seconds) for index in range(count)]
    process, memory = psutil.Process(), []
    with quiet(), started(number, settings, root) as workers:
        begin = time.perf_counter()
        for done, record in enumerate(workers.records(work), start=1):
            assert record.error is None
            if done % (count // 10) == 0:
                memory.append(process.memory_info().rss / 1e6)
        wall = time.perf_counter() - begin
    each = wall / count
    print(
        f"{count} tasks of {seconds * 1e3:g} ms on {number} workers: {wall:.1f} s, {each * 1e3:.2f} ms a task, "
        f"{(each - seconds / number) * 1e3:.2f} ms of it not asleep; memory of this process, at every tenth, "
        f"{', '.join(f'{one:.0f}' for one in memory)} MB"
    )


if __name__ == "__main__":
    run_script(main)
