"""Work that is sent to workers of Dask, which write the files themselves and return a small record."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import dask
from distributed import Client, as_completed
from distributed.scheduler import KilledWorker

from cluster.start import QUIET, WorkerStart, local_workers, slurm_workers
from cluster.worker import AT_A_TIME, ROOT, Networks, Report, code_hash, device_type, do
from errors import InputError, MachineError
from evaluation.map_work import MapsWork, single_maps
from evaluation.progress import ProgressBars
from evaluation.work import FAILURES, Done, InTurn, TomogramWork
from inference.maps.network_maps import MapSettings

# Tries after the first, where something else than the input was wrong.
RETRIES = 2
# Units of work that a worker has or waits for: it never waits itself, and the scheduler holds few.
QUEUED = AT_A_TIME + 1
# The scheduler keeps so many tasks for its dashboard, 100,000 unless told otherwise.
HISTORY, HISTORY_LENGTH = "distributed.scheduler.dashboard.tasks.task-stream-length", 1000
# A scheduler that does not answer within so many seconds is none.
CONNECT_SECONDS = 30
# How often the number of workers is asked for, where others start them; seconds.
ASK_AGAIN = 10.0


class DaskWorkers:
    """Does work on the workers of a client.

    Parameters
    ----------
    number : of workers that are expected; None: as many as others have started
    logs : where workers write down what they say; None: others know
    """

    def __init__(
        self, client: Client, number: int | None, settings: MapSettings, bars: ProgressBars, logs: Path | None
    ) -> None:
        self.afterwards = self
        self._client, self._number, self._settings, self._bars, self._logs = client, number, settings, bars, logs
        self._known, self._ask_at = 1, 0.0

    @cached_property
    def here(self) -> InTurn:
        """This process, which reads the maps that workers have made."""
        return InTurn(replace(self._settings, remake=False).open(), self._bars)

    def wait(self) -> None:
        """Until all workers are there."""
        self._client.wait_for_workers(self._workers())

    def prepare(self, work: Sequence[MapsWork]) -> None:
        """Have the maps made, a network on a tomogram at a time; what failed fails here too, and is not tried again.

        InputError where workers compute on another kind of device than this process, which would look for other maps.
        """
        there, here = self._client.submit(device_type, pure=False).result(), self.here.maps.device.type
        if there not in (None, here):
            raise InputError(
                f"workers compute on {there}, this command on {here}, and what needs all maps is done here: start it "
                "on a machine with a GPU, or give --device cpu"
            )
        for one, record in self._done(single_maps(work)):
            if record.error is not None:
                self.here.maps.give_up(one.networks[0], one.source, record.error)

    def records(self, work: Sequence[TomogramWork[Done]]) -> Iterator[Done]:
        """A record for each unit of work, in the order in which they are done; a line each is said."""
        return (record for _, record in self._done(work))

    def _done(self, work: Sequence[TomogramWork[Done]]) -> Iterator[tuple[TomogramWork[Done], Done]]:
        waiting, at_work, killing = iter(work), {}, []
        done = as_completed(loop=self._client.loop)

        def submit(one: TomogramWork[Done]) -> None:
            future = self._client.submit(do, one, retries=RETRIES, pure=False)
            at_work[future] = one
            done.add(future)

        def send() -> None:
            while len(at_work) < QUEUED * self._workers() and (one := next(waiting, None)) is not None:
                submit(one)

        def finished() -> Iterator[tuple[TomogramWork[Done], Done]]:
            send()
            for future in done:
                one = at_work.pop(future)
                if isinstance(future.exception(), KilledWorker):
                    killing.append(one)
                else:
                    yield one, self._record(one, future)
                send()
            # What waited on the same workers is blamed for their deaths, too: each once more, with nothing beside it.
            for one in killing:
                submit(one)
                future = next(done)
                yield at_work.pop(future), self._record(one, future)

        try:
            yield from self._bars.each(finished(), "tomograms", total=len(work))
        finally:
            self._client.cancel(list(at_work))

    def _record(self, one: TomogramWork[Done], future: Any) -> Done:
        name = one.source.name
        try:
            report: Report = future.result()
        except KilledWorker as error:
            number, where = error.allowed_failures + 1, "" if self._logs is None else f"; see {self._logs}"
            died = MachineError(f"{number} workers died while they were at work on it alone{where}")
            return self._failed(one, died)
        except (*FAILURES, MachineError) as error:
            return self._failed(one, error)
        if report.unusable is not None:
            raise InputError(f"worker {report.worker}: {report.unusable}")
        for text in report.warnings:
            self._bars.say(f"warning: {name}: {text}")
        self._bars.say(f"{one.in_words(report.record)} (worker {report.worker})")
        return report.record

    def _failed(self, one: TomogramWork[Done], error: Exception) -> Done:
        record = one.failed(error)
        self._bars.say(one.in_words(record))
        return record

    def _workers(self) -> int:
        if self._number is not None:
            return self._number
        if time.monotonic() >= self._ask_at:
            self._known = max(1, len(self._client.nthreads()))
            self._ask_at = time.monotonic() + ASK_AGAIN
        return self._known


@contextmanager
def dask_workers(
    where: str,
    number: int | None,
    slurm_options: str | None,
    settings: MapSettings,
    bars: ProgressBars,
    logs: Path,
) -> Iterator[DaskWorkers]:
    """Start workers, or connect to those that are there; what was started ends with the block.

    Parameters
    ----------
    where : local, slurm, or the address or the file of a scheduler
    logs : folder for what workers say
    """
    # Of the workers that die this program tells itself.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with dask.config.set({HISTORY: HISTORY_LENGTH, **QUIET}), ExitStack() as stack:
        if where in ("local", "slurm"):
            logs.mkdir(parents=True, exist_ok=True)
            start = WorkerStart(ROOT, logs, on_gpu=settings.device != "cpu")
            begin = local_workers(start, number) if where == "local" else slurm_workers(start, number, slurm_options)
            cluster, number = stack.enter_context(begin)
            client = stack.enter_context(Client(cluster))
        else:
            client, number, logs = stack.enter_context(_connected(where)), None, None
        networks = Networks(settings, str(Path.cwd()), code_hash())
        try:
            client.register_plugin(networks)
        except ModuleNotFoundError as error:
            raise InputError(
                f"a worker of {where} lacks a module ({error}); start workers with this program's Python "
                f"and PYTHONPATH={ROOT}"
            ) from error
        what = "those there" if number is None else str(number)
        bars.say(f"workers   {what}; dashboard {client.dashboard_link}")
        yield DaskWorkers(client, number, settings, bars, logs)


@contextmanager
def _connected(where: str) -> Iterator[Client]:
    try:
        client = Client(scheduler_file=where) if Path(where).is_file() else Client(where, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"--cluster {where}: no scheduler of Dask answers there ({error}); give local, slurm, the "
            "address (tcp://...) or the file of a scheduler"
        ) from error
    with client:
        yield client
