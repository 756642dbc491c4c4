"""Units of work that need neither tomogram nor network: they sleep, fail or kill their worker."""

import os
import signal
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from errors import InputError


@dataclass(frozen=True)
class FakeSource:
    name: str


@dataclass(frozen=True)
class FakeRecord:
    run_name: str
    pid: int = 0
    error: Exception | None = None


@dataclass(frozen=True)
class FakeWork:
    """A unit of work, see evaluation.work.TomogramWork.

    Attributes
    ----------
    seconds : that it sleeps
    then : what it does: nothing, kill its worker, or fail for the input's or for the machine's sake
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
        errors = {"input": InputError("not a tomogram"), "machine": OSError("no space left")}
        return FakeRecord(self.source.name, os.getpid(), errors.get(self.then))

    def failed(self, error):
        return FakeRecord(self.source.name, error=error)

    def in_words(self, record):
        return f"{record.run_name}: {record.error or 'done'}"


def works(count, **what):
    return [FakeWork(FakeSource(f"TS_{number:05d}"), **what) for number in range(count)]
