"""How long each piece of work took, written down when it was done: one JSON object a line."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd


@dataclass(frozen=True)
class Timings:
    """A file that only grows; a campaign that goes on adds to it."""

    path: Path

    @contextmanager
    def measured(self, **what: str) -> Iterator[None]:
        """Write down the seconds that the block took, and what it did; nothing when it fails."""
        begin = time.perf_counter()
        yield
        line = json.dumps({**what, "seconds": round(time.perf_counter() - begin, 4)})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def read(self) -> pd.DataFrame:
        """One row a piece of work; a line that a killed process left unfinished is passed over."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        columns = ["work", "key", "configuration", "detector", "tomogram", "seconds"]
        return pd.DataFrame([row for line in lines if (row := _parsed(line)) is not None], columns=columns)


def _parsed(line: str) -> dict | None:
    try:
        return json.loads(line)
    except ValueError:
        return None
