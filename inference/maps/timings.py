"""How long each piece of work took, written down when it was done: one JSON object a line."""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data.files import no_link
from data.text_files import is_finite_number
from errors import os_error


@dataclass(frozen=True)
class Timings:
    """A file that only grows; a campaign that goes on adds to it."""

    path: Path

    def write(self, *, seconds: float, **what: str) -> None:
        """Add a line: what was done, and the seconds that it took."""
        try:
            with open(self.path, "a", encoding="utf-8", opener=no_link) as file:
                if file.tell() and not self.path.read_bytes().endswith(b"\n"):  # a killed process wrote half a line
                    file.write("\n")
                file.write(json.dumps({**what, "seconds": round(seconds, 4)}) + "\n")
        except OSError as error:
            raise os_error(error, f"cannot write {self.path}") from error

    def read(self) -> pd.DataFrame:
        """One row a piece of work; a line that a killed process left unfinished, or that is damaged, is passed over."""
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines() if self.path.is_file() else []
        columns = ["work", "key", "configuration", "detector", "tomogram", "seconds"]
        return pd.DataFrame([row for line in lines if (row := _parsed(line)) is not None], columns=columns)


def _parsed(line: str) -> dict | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not is_finite_number(row.get("seconds")) or row["seconds"] < 0:
        return None
    return row if all(isinstance(value, str) for name, value in row.items() if name != "seconds") else None
