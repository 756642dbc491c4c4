"""Tomograms and picks as a person names them: files, globs, folders and text lists of files."""

import glob
from collections.abc import Sequence
from pathlib import Path

from data.files import files_below
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
        word = str(Path(word).expanduser())
        # Path.glob takes no absolute patterns.
        paths = [Path(one) for one in sorted(glob.glob(word, recursive=True))] or [Path(word)]  # noqa: PTH207
        if not paths[0].exists():
            raise InputError(f"{word}: no such file or folder; check the path")
        here = [file for path in paths for file in _files_of(path, suffixes, lists)]
        if not here:
            raise InputError(f"{word}: nothing of {', '.join(suffixes)} in it; check the path")
        found |= {file.absolute() for file in here}
    return sorted(found)


def _files_of(path: Path, suffixes: tuple[str, ...], lists: bool) -> list[Path]:
    name = path.name.lower()
    if path.is_dir() and not name.endswith(".zarr"):
        inside = path.iterdir() if lists else files_below(path, leave_out=(".zarr",))
        leave_out = () if lists else NOT_FROM_FOLDERS
        named = [f for f in inside if f.name.lower().endswith(suffixes) and not f.name.lower().endswith(leave_out)]
        return [f for f in named if not f.name.startswith(".")]
    if lists and name.endswith(LIST_SUFFIXES):
        lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
        # Paths in a list count from where the list lies.
        return _find([str(path.parent / line) for line in lines], suffixes, lists=False) if lines else []
    return [path]
