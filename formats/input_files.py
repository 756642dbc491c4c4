"""Tomograms and picks as a person names them: files, globs, folders and text lists of files.

In lists, lines that begin with # are comments.
"""

import glob
from collections.abc import Sequence
from pathlib import Path

from data.files import files_below
from data.names import check_path
from data.other_tomograms import ADVICE, how_to_convert
from data.text_files import read_text
from data.tomogram import TOMOGRAM_SUFFIXES
from errors import InputError
from formats import PICKS_SUFFIXES

LIST_SUFFIXES = (".txt", ".lst", ".list")
# A folder of picks may hold texts and projects' tables that are no picks.
NOT_FROM_FOLDERS = (".txt", "tomograms.star", "particles.json", "tomogram_metadata.json")


def find_tomograms(words: Sequence[str]) -> list[Path]:
    """Every tomogram once, sorted; a folder gives those directly in it. InputError for a word that gives none."""
    return _find(words, TOMOGRAM_SUFFIXES, lists=True)


def find_picks(words: Sequence[str]) -> list[Path]:
    """Every picks file once, sorted; a folder gives those anywhere below it. InputError for a word that gives none."""
    return _find(words, PICKS_SUFFIXES, lists=False)


def _find(words: Sequence[str], suffixes: tuple[str, ...], *, lists: bool) -> list[Path]:
    found: set[Path] = set()
    for word in words:
        paths = _paths_of(word)
        here = [file for path in paths for file in _files_of(path, suffixes, lists)]
        if not here:
            others = [file for path in paths if lists and path.is_dir() for file in path.iterdir()]
            unread = next((file for file in sorted(others) if file.suffix.lower() in ADVICE), None)
            advice = "check the path" if unread is None else f"{unread.name} is {how_to_convert(unread)}"
            raise InputError(f"{word}: nothing of {', '.join(suffixes)} in it; {advice}")
        found |= {file.absolute() for file in here}
    return sorted(found)


def _paths_of(word: str) -> list[Path]:
    """Of a path, which may have brackets in it, or a glob, also below such a folder."""
    check_path(word)
    path = Path(word).expanduser()
    if path.exists():
        return [path]
    if path.is_symlink():
        raise InputError(f"{path}: a link to {path.readlink()}, which is not there; check the path")
    for pattern in (str(path), str(path).replace("[", "[[]")):
        # Path.glob takes no absolute patterns.
        if found := glob.glob(pattern, recursive=True):  # noqa: PTH207
            return [Path(one) for one in sorted(found)]
    raise InputError(f"{path}: no such file or folder; check the path")


def _files_of(path: Path, suffixes: tuple[str, ...], lists: bool) -> list[Path]:
    name = path.name.lower()
    if path.is_dir() and not name.endswith(".zarr"):
        inside = path.iterdir() if lists else files_below(path, leave_out=(".zarr",))
        leave_out = () if lists else NOT_FROM_FOLDERS
        named = [f for f in inside if f.name.lower().endswith(suffixes) and not f.name.lower().endswith(leave_out)]
        return [f for f in named if not f.name.startswith(".")]
    if lists and name.endswith(LIST_SUFFIXES):
        lines = [line.strip() for line in read_text(path).split("\n")]
        # Paths in a list count from where the list lies.
        words = [str(path.parent / Path(line).expanduser()) for line in lines if line and not line.startswith("#")]
        return _find(words, suffixes, lists=False) if words else []
    return [path]
