"""Files told apart by what they hold, so that a copy or another name is the same and a change is not."""

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data.files import files_below

FileStates = tuple[tuple[str, int, int], ...]


def file_states(path: Path) -> FileStates:
    """(name, bytes, time in ns) of the file, or of all files of a folder, sorted by path."""
    files = files_below(path) if path.is_dir() else [path]
    return tuple((str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def content_hash(path: str | Path) -> str:
    """32 hex digits of what the file holds, or a folder and the names in it; its own name and place play no part.

    A process reads it once, as long as sizes and times stay the same.
    """
    path = Path(path).resolve()
    return _content_hash(path, file_states(path))


@functools.cache
def _content_hash(path: Path, states: FileStates) -> str:
    contents = []
    for name, _, _ in states:
        with (path / name).open("rb") as file:
            contents.append((name, hashlib.file_digest(file, "blake2b").hexdigest()))
    return hash_of(contents)


def hash_of(value: object) -> str:
    """32 hex digits of plain values, as JSON can hold them; the order of a mapping plays no part."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def points_hash(picks: Mapping[str, np.ndarray]) -> str:
    """32 hex digits of particle name -> (N, 3) zyx in angstrom; an empty entry counts as none."""
    return hash_of({name: np.asarray(points).tolist() for name, points in picks.items() if len(points)})
