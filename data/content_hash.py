"""Files told apart by what they hold, so that a copy or another name is the same and a change is not."""

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from data.files import atomic_path, files_below
from errors import InputError, raise_scarcity

FileStates = tuple[tuple[str, int, int, int, int], ...]
# Read by this process.
_contents: dict[str, str] = {}
KEPT = re.compile(r"(?P<states>[0-9a-f]{32}) (?P<content>[0-9a-f]{32}) (?P<check>[0-9a-f]{32})\n")


def file_states(path: Path) -> FileStates:
    """(name, bytes, time of its content, time of its inode, inode) of the file, or of all files of a folder, by name.

    Times in ns. The inode and its time tell of a file that was exchanged for another one of the same size and date.
    """
    files = files_below(path) if path.is_dir() else [path]
    return tuple(_state(file, str(file.relative_to(path))) for file in files)


def _state(file: Path, name: str) -> tuple[str, int, int, int, int]:
    one = file.stat()
    return name, one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino


@dataclass(frozen=True)
class ContentHashes:
    """Hashes of files kept below ``folder``: a file is read again only when its state (:func:`file_states`) changes."""

    folder: Path

    def of(self, path: str | Path) -> str:
        """The same as :func:`content_hash`."""
        path = Path(path).resolve()
        kept, states = self.folder / f"{hash_of(str(path))}.txt", hash_of(file_states(path))
        try:
            found = KEPT.fullmatch(kept.read_text(encoding="ascii"))
        except (OSError, UnicodeDecodeError) as error:  # none, or one that cannot be read: made again
            raise_scarcity(error)
            found = None
        if found and found["states"] == states and found["check"] == hash_of([states, found["content"]]):
            return found["content"]
        content = content_hash(path)
        # Another user's store is none to keep hashes in.
        with suppress(InputError), atomic_path(kept) as temporary:
            temporary.write_text(f"{states} {content} {hash_of([states, content])}\n", encoding="ascii")
        return content


def content_hash(path: str | Path) -> str:
    """32 hex digits of what the file holds, or a folder and the names in it; its own name and place play no part.

    A process reads it once, as long as its state stays the same.
    """
    path = Path(path).resolve()
    states = file_states(path)
    known = hash_of([str(path), states])  # small, however many files a folder has
    if known not in _contents:
        _contents[known] = hash_of([(name, file_hash(path / name)) for name, *_ in states])
    return _contents[known]


def file_hash(path: Path) -> str:
    """128 hex digits of what a file holds, read anew at each call."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def hash_of(value: object) -> str:
    """32 hex digits of plain values, as JSON can hold them; the order of a mapping plays no part."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def table_hash(table: pd.DataFrame) -> str:
    """32 hex digits of names and values of the columns, in the order of columns and rows."""
    return hash_of({"columns": list(table.columns), "values": [table[name].tolist() for name in table.columns]})


def points_hash(picks: Mapping[str, np.ndarray]) -> str:
    """32 hex digits of particle name -> (N, 3) zyx in angstrom; an empty entry counts as none."""
    return hash_of({name: np.asarray(points).tolist() for name, points in picks.items() if len(points)})
