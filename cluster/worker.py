"""What a worker of Dask does: one unit of work with networks that stay ready, while it reads the next tomogram."""

import os
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Worker, WorkerPlugin, get_worker

from data.content_hash import hash_of
from errors import InputError, MachineError, one_line
from evaluation.work import FAILURES, TomogramWork, give_back_memory
from inference.maps.network_maps import MapSettings, NetworkMaps

NAME = "etfinder"
ROOT = Path(__file__).parents[1]
# Units of work that a worker has at a time: one is done, and the tomogram of the other is read. More wait.
AT_A_TIME = 2


@dataclass(frozen=True)
class Report:
    """What comes back from a worker; ``unusable``: why it can do nothing at all."""

    record: Any
    worker: str
    warnings: tuple[str, ...] = ()
    unusable: str | None = None


class Networks(WorkerPlugin):
    """What a worker has from its start: the maps and with them the networks, each loaded when first used.

    Parameters
    ----------
    folder : in which paths were typed
    code : hash of the program, see :func:`code_hash`
    """

    name = NAME

    def __init__(self, settings: MapSettings, folder: str, code: str) -> None:
        self.settings, self.folder, self.code = settings, folder, code
        self.maps: NetworkMaps | None = None
        self.unusable: str | None = None

    def setup(self, worker: Worker) -> None:
        self._places = threading.BoundedSemaphore(AT_A_TIME)
        # Networks run in this one alone: CUDA graphs belong to the thread that made them.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="networks")
        try:
            if code_hash() != self.code:
                raise InputError(f"its program in {ROOT} is another version")
            os.chdir(self.folder)
            self.maps = self.settings.open()
        except (*FAILURES, MachineError) as error:
            # Raised here it would end the worker, and a new one would be started, without end.
            self.unusable = one_line(error)

    def record_of(self, work: TomogramWork) -> tuple[Any, tuple[str, ...]]:
        """The record of a unit of work, and what was warned of meanwhile."""
        with self._places:
            _, of_reading = heard(lambda: self._read(work))
            record, of_work = self._thread.submit(heard, lambda: work.do(self.maps, lambda voxels: None)).result()
        give_back_memory()
        return record, (*of_reading, *of_work)

    def _read(self, work: TomogramWork) -> None:
        """Have the voxels there when the turn comes; what goes wrong comes again then, and is noted."""
        with suppress(*FAILURES):
            if work.needs_voxels(self.maps):
                work.source.voxels()


def code_hash() -> str:
    """Of all modules of the program."""
    packages = [path.parent for path in ROOT.glob("*/__init__.py")]
    files = [*ROOT.glob("*.py"), *(file for package in packages for file in package.rglob("*.py"))]
    return hash_of({str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in files})


def do(work: TomogramWork) -> Report:
    """On a worker: a unit of work. What other workers may do better is raised: Dask tries it again."""
    worker = get_worker()
    networks: Networks = worker.plugins[NAME]
    if networks.unusable is not None:
        return Report(None, str(worker.name), unusable=networks.unusable)
    record, said = networks.record_of(work)
    if record.error is not None and not isinstance(record.error, InputError):
        raise record.error
    return Report(record, str(worker.name), tuple(dict.fromkeys(said)))


def device_type() -> str | None:
    """On a worker: the kind of its device; None where it can do nothing, which its first unit of work tells."""
    maps = get_worker().plugins[NAME].maps
    return None if maps is None else maps.device.type


# --- Warnings -----------------------------------------------------------------------------------------
_heard = threading.local()


def heard(call: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What a call returns, and what was warned of in its thread; warnings.catch_warnings takes all threads'."""
    if warnings.showwarning is not _hear:
        warnings.simplefilter("always")
        warnings.showwarning = _hear
    _heard.texts = texts = []
    return call(), texts


def _hear(message: Warning | str, *_: Any) -> None:
    getattr(_heard, "texts", []).append(str(message))
