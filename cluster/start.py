"""Workers that this program starts itself: processes on this machine, or jobs of SLURM."""

import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dask
import torch
from distributed import LocalCluster, SpecCluster

from cluster.worker import AT_A_TIME
from errors import InputError

# A unit of work that so many workers died of is set aside, and once more done alone.
DEATHS, MOST_DEATHS = "distributed.scheduler.allowed-failures", 1
# Of each worker: a connection that is lost for longer ends it.
DEATH_SECONDS = 60
# A process that lives for less has not started; the longest wait before it is tried again; seconds.
START_SECONDS, MOST_SECONDS = 5.0, 60.0
# The first worker is there by then, or none will be; seconds.
FIRST_WORKER = 180
# Of a job, unless sbatch's options say otherwise.
JOB_CORES, JOB_MEMORY = "8", "48G"
# Names of one letter of sbatch's options.
LONG_NAMES = {
    **{"p": "partition", "t": "time", "c": "cpus-per-task", "A": "account", "q": "qos", "G": "gpus"},
    **{"C": "constraint", "w": "nodelist", "x": "exclude", "N": "nodes", "n": "ntasks", "J": "job-name"},
}
# Dask looks at itself 50 times a second and at what workers do twice as often, for its dashboard; the work pays for it.
# These are settings of Dask for the command and its workers, where tasks take seconds.
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
}
QUIET_VARIABLES = {
    f"DASK_{name.upper().replace('.', '__').replace('-', '_')}": str(value) for name, value in QUIET.items()
}
# What a job says about GPUs.
GPUS = ("gres", "gpus", "gpus-per-node", "gpus-per-task")
# Before the end of a job a worker ends by itself, and hands its work on; seconds.
BEFORE_THE_END, STAGGER = 300, 120


@dataclass(frozen=True)
class WorkerStart:
    """The folder of the program, which workers import; where they write what they say; whether they take a GPU each."""

    program: Path
    logs: Path
    on_gpu: bool

    @property
    def import_path(self) -> str:
        return os.pathsep.join(filter(None, [str(self.program), os.environ.get("PYTHONPATH")]))


# --- On this machine ----------------------------------------------------------------------------------
@contextmanager
def local_workers(start: WorkerStart, number: int | None) -> Iterator[tuple[LocalCluster, int]]:
    """A scheduler, and a worker for each GPU, or that many that share the cores; they end with the block."""
    environments = local_environments(start, number)
    with (
        dask.config.set({DEATHS: MOST_DEATHS}),
        LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=False) as cluster,
    ):
        processes = [
            _Process(cluster.scheduler_address, str(index), environment, start)
            for index, environment in enumerate(environments)
        ]
        try:
            try:
                cluster.wait_for_workers(1, timeout=FIRST_WORKER)
            except TimeoutError:
                raise InputError(f"no worker has started within {FIRST_WORKER} s; see {start.logs}") from None
            yield cluster, len(processes)
        finally:
            for process in processes:
                process.end()


def local_environments(start: WorkerStart, number: int | None) -> list[dict[str, str]]:
    """What is set for each worker before its process starts: its GPU, and its share of the cores.

    A smaller OMP_NUM_THREADS of this process holds for them too. InputError for more workers than GPUs.
    """
    gpus, cores = _gpus() if start.on_gpu else [], len(os.sched_getaffinity(0))
    if gpus and number is not None and number > len(gpus):
        raise InputError(f"--workers {number}: there are {len(gpus)} GPUs, and a worker has one to itself")
    number = number or len(gpus) or max(1, cores // 4)
    given = os.environ.get("OMP_NUM_THREADS", "")
    share = max(1, cores // number)
    threads = str(min(share, int(given)) if given.isdecimal() and int(given) else share)
    of_all = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    of_all["PYTHONPATH"] = start.import_path
    of_all |= QUIET_VARIABLES
    return [{**of_all, **({"CUDA_VISIBLE_DEVICES": gpus[index]} if gpus else {})} for index in range(number)]


def _gpus() -> list[str]:
    """As CUDA_VISIBLE_DEVICES names those that this process may use."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    number = torch.cuda.device_count()
    return named.split(",")[:number] if named else [str(index) for index in range(number)]


class _Process:
    """A worker's process, started again when it dies."""

    def __init__(self, scheduler: str, name: str, environment: dict[str, str], start: WorkerStart) -> None:
        self._command = [
            *(sys.executable, "-m", "distributed.cli.dask_worker", scheduler, "--name", name),
            *("--nthreads", str(AT_A_TIME)),
            *("--no-nanny", "--no-dashboard", "--memory-limit", "0", "--death-timeout", str(DEATH_SECONDS)),
        ]
        self._environment, self._log = {**os.environ, **environment}, start.logs / f"worker_{name}.log"
        self._ends = threading.Event()
        self._process = self._begin()
        self._watch = threading.Thread(target=self._start_again, daemon=True)
        self._watch.start()

    def _begin(self) -> subprocess.Popen:
        with self._log.open("ab") as log:
            # In a session of its own: Ctrl-C is for the command, which then ends its workers.
            return subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def _start_again(self) -> None:
        wait = 0.0
        while not self._ends.is_set():
            begin = time.monotonic()
            self._process.wait()
            # One that cannot start at all is tried again, ever more rarely.
            wait = min(2 * wait + 1, MOST_SECONDS) if time.monotonic() - begin < START_SECONDS else 0.0
            if not self._ends.wait(wait):
                self._process = self._begin()

    def end(self) -> None:
        self._ends.set()
        while self._watch.is_alive():  # it may just have begun another one
            self._process.kill()
            self._watch.join(0.1)
        self._process.kill()
        self._process.wait()


# --- Jobs of SLURM ------------------------------------------------------------------------------------
@contextmanager
def slurm_workers(start: WorkerStart, number: int | None, options: str | None) -> Iterator[tuple[SpecCluster, int]]:
    """A scheduler here, and jobs with a worker each; those that end are replaced, and all are cancelled at the end."""
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise InputError(
            f"--cluster slurm needs dask-jobqueue ({error}); pip install -r requirements-cluster.txt"
        ) from error
    number, asked = number or 1, sbatch_options(options or "", on_gpu=start.on_gpu)
    cores, memory, wall_time = asked.pop("cpus-per-task"), asked.pop("mem"), asked.pop("time", None)
    ends = [] if wall_time is None else ["--lifetime", f"{lifetime(wall_time)}s", "--lifetime-stagger", f"{STAGGER}s"]
    with (
        dask.config.set({DEATHS: MOST_DEATHS}),
        SLURMCluster(
            cores=AT_A_TIME,  # as many threads
            processes=1,
            memory="1GB",
            job_cpu=int(cores),
            job_mem=memory,
            walltime=wall_time,
            job_directives_skip=[] if wall_time is not None else ["#SBATCH -t "],
            job_extra_directives=[
                f"--{name}" + ("" if value is None else f"={value}") for name, value in asked.items()
            ],
            job_script_prologue=[
                f"export PYTHONPATH={shlex.quote(start.import_path)}",
                f"export OMP_NUM_THREADS={cores}",
                *(f"export {name}={value}" for name, value in QUIET_VARIABLES.items()),
            ],
            worker_extra_args=["--memory-limit", "0", "--no-dashboard", *ends],
            python=sys.executable,
            death_timeout=DEATH_SECONDS,
            log_directory=str(start.logs),
            scheduler_options={"dashboard_address": ":0"},
        ) as cluster,
    ):
        cluster.adapt(minimum_jobs=number, maximum_jobs=number)
        yield cluster, number


def sbatch_options(text: str, *, on_gpu: bool) -> dict[str, str | None]:
    """Long name -> value (None: a switch) of options as sbatch takes them, with what a worker needs besides.

    InputError for a word that belongs to no option.
    """
    words, found = shlex.split(text), {}
    while words:
        word = words.pop(0)
        if not re.match("--?[A-Za-z]", word):
            raise InputError(f"--slurm_options: {word!r} belongs to no option; write --name=value")
        name, is_joined, value = word.lstrip("-").partition("=")
        if not word.startswith("--") and len(name) > 1 and not is_joined:  # -pgpu
            name, value, is_joined = name[0], name[1:], "="
        if not is_joined:
            value = words.pop(0) if words and not words[0].startswith("-") else None
        found[LONG_NAMES.get(name, name)] = value
    defaults = {"cpus-per-task": JOB_CORES, "mem": JOB_MEMORY}
    if on_gpu and not set(GPUS) & set(found):
        defaults["gres"] = "gpu:1"
    if not (found.get("cpus-per-task") or JOB_CORES).isdecimal():
        raise InputError(f"--slurm_options: --cpus-per-task={found['cpus-per-task']} is no number")
    return defaults | found


def lifetime(wall_time: str) -> int:
    """Seconds after which a worker of a job ends by itself; of ``M``, ``M:S``, ``H:M:S``, ``D-H``, ``D-H:M:S``."""
    days, dash, rest = wall_time.rpartition("-")
    parts = rest.split(":")
    if not all(part.isdecimal() for part in (days or "0", *parts)) or len(parts) > 3:
        raise InputError(f"--slurm_options: --time={wall_time} is no time; write it as 12:00:00 or 1-00:00:00")
    numbers = list(map(int, parts))
    if dash:
        hours, minutes, seconds = [*numbers, 0, 0][:3]
    else:
        hours, minutes, seconds = {1: [0, *numbers, 0], 2: [0, *numbers], 3: numbers}[len(numbers)]
    total = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    return max(total - BEFORE_THE_END, total // 2)
