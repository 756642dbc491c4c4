"""Flags that say where work is done, and who does it."""

import argparse
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from data.number_ranges import PROCESSES
from errors import InputError
from evaluation.progress import ProgressBars
from evaluation.shards import LOGS, Shard, ShardInTurn
from evaluation.work import InTurn, Workers
from inference.maps.network_maps import MapSettings

LOCAL, SLURM = "local", "slurm"
PACKAGES = "pip install -r requirements-cluster.txt"


def add_cluster_arguments(group: argparse._ArgumentGroup, what: str = "tomograms") -> None:
    group.add_argument(
        "--shard",
        type=shard_argument,
        metavar="I/N",
        help=f"do the I-th of N equal shares of the {what}; start all N with the same --output_dir and --cache_dir, on "
        "any machines: the last to finish writes the tables. slurm: this task's share of a SLURM job array (slurm/N: "
        "of N, where only some of its tasks run again)",
    )
    group.add_argument(
        "--cluster",
        metavar="WHERE",
        help=f"do the {what} on workers of Dask: local (one for each GPU, else --workers), slurm (jobs that this "
        f"command submits), or the address (tcp://...) or file of a scheduler; needs {PACKAGES}",
    )
    group.add_argument(
        "--workers",
        type=PROCESSES,
        metavar="N",
        help="with --cluster local or slurm: how many (default: one for each GPU, on a CPU one for 4 cores; 1 job)",
    )
    group.add_argument(
        "--slurm_options",
        metavar="TEXT",
        help='with --cluster slurm: of sbatch, for each job, as in "--partition=gpu --time=12:00:00 --mem=64G" '
        "(default: --cpus-per-task=8 --mem=48G, and --gres=gpu:1 unless --device cpu)",
    )


def shard_argument(text: str) -> Shard:
    try:
        return Shard.of_words(text, os.environ)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def check_cluster_arguments(args: argparse.Namespace) -> None:
    """InputError for flags that contradict each other or are without effect, and where Dask is not installed."""
    if args.shard is not None and args.cluster is not None:
        raise InputError("give either --shard or --cluster: shards need no Dask")
    if args.shard is not None and args.force_rerun:
        raise InputError(
            "--force_rerun would remove what other shards do; give another --output_dir, or remove the old results"
        )
    if args.workers is not None and args.cluster not in (LOCAL, SLURM):
        raise InputError("--workers has no effect without --cluster local or --cluster slurm")
    if args.slurm_options is not None and args.cluster != SLURM:
        raise InputError("--slurm_options has no effect without --cluster slurm")
    if args.cluster is not None:
        _dask()


def workers_of(
    args: argparse.Namespace, settings: MapSettings, bars: ProgressBars, folder: Path, key: str
) -> AbstractContextManager[Workers]:
    """Whoever does the work of a command: this process, a shard of it, or workers of Dask, which end with the block.

    Parameters
    ----------
    folder : of the results, held by this command
    key : of all that the results depend on, see evaluation.shards
    """
    if args.cluster is not None:
        return _dask()(args.cluster, args.workers, args.slurm_options, settings, bars, folder / LOGS)
    in_turn = InTurn(settings.open(), bars)
    return nullcontext(in_turn) if args.shard is None else ShardInTurn(args.shard, in_turn, folder, key)


def _dask() -> Callable:
    try:
        from cluster.dask_workers import dask_workers
    except ImportError as error:
        raise InputError(f"--cluster needs Dask ({error}); type: {PACKAGES}") from error
    return dask_workers
