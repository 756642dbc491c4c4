"""Units of work that need neither tomogram nor network: they sleep, wait, warn, fail or kill their worker."""

import os
import signal
import threading
import time
import uuid
import warnings
from dataclasses import dataclass
from pathlib import Path

from errors import InputError


@dataclass(frozen=True)
class FakeSource:
    """``reads``: folder for an empty file once it is read; None: it need not be."""

    name: str
    reads: Path | None = None

    def voxels(self):
        warnings.warn(f"{self.name} is read", stacklevel=1)
        (self.reads / self.name).touch()


@dataclass(frozen=True)
class FakeRecord:
    run_name: str
    pid: int = 0
    thread: str = ""
    error: Exception | None = None


@dataclass(frozen=True)
class FakeWork:
    """A unit of work, see evaluation.work.TomogramWork.

    Attributes
    ----------
    seconds : that it sleeps
    then : what it does: nothing, warn when another was read, kill its worker, or fail for the input's or the machine's
        sake
    attempts : folder for an empty file each time it begins; None: none
    """

    source: FakeSource
    seconds: float = 0.0
    then: str = "nothing"
    attempts: Path | None = None

    def do(self, maps, progress=None):
        if self.attempts is not None:
            (self.attempts / f"{self.source.name}-{uuid.uuid4()}").touch()
        time.sleep(self.seconds)
        if self.then == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.then == "warn":
            end = time.monotonic() + 30
            while len(list(self.source.reads.iterdir())) < 2 and time.monotonic() < end:
                time.sleep(0.01)
            warnings.warn(f"{self.source.name} is done beside {len(list(self.source.reads.iterdir()))}", stacklevel=1)
        errors = {"input": InputError("not a tomogram"), "machine": OSError("no space left")}
        return FakeRecord(self.source.name, os.getpid(), threading.current_thread().name, errors.get(self.then))

    def needs_voxels(self, maps):
        return self.source.reads is not None

    def failed(self, error):
        return FakeRecord(self.source.name, error=error)

    def in_words(self, record):
        return f"{record.run_name}: {record.error or 'done'}"


def works(count, **what):
    return [FakeWork(FakeSource(f"TS_{number:05d}"), **what) for number in range(count)]
