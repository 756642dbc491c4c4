"""Files of people: their paths and texts; and writing without leaving anything half-written."""

import argparse
import codecs
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from errors import InputError


def path_argument(text: str) -> Path:
    """A path of the command line; ``~`` is the home folder, also where the shell leaves it (``--flag=~/folder``)."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}; give the whole path") from error


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 with its mark, as Excel writes; every line end is a newline.

    InputError where it is neither.
    """
    try:
        content = path.read_bytes()
        is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text in UTF-8 or UTF-16 ({error}); save it as UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def files_below(folder: Path, *, leave_out: tuple[str, ...] = ()) -> list[Path]:
    """All files of a folder and its folders, sorted; those behind symbolic links too, each folder once.

    Folders whose name ends as in ``leave_out`` are not entered: a zarr holds very many files.
    """
    found, known = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        # A link to a folder above would be walked for ever.
        known.add(Path(parent).resolve())
        enter = [name for name in folders if not name.lower().endswith(leave_out)]
        folders[:] = [name for name in enter if Path(parent, name).resolve() not in known]
        found += [path for name in names if (path := Path(parent, name)).is_file()]
    return sorted(found)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to, which becomes ``path`` only when the block ends well.

    The yielded path has the final name (so that suffix-sensitive writers behave) but lies in a hidden
    folder beside it, on the same file system. The block may make it a file or a folder; an older ``path``
    is replaced, a folder as a whole. When the block raises, all of it is removed and an older ``path`` stays. The
    content is on the disk before its name is: a power failure leaves no empty file under a final name.

    Raises
    ------
    InputError : the folder cannot be written to, or the disk is full.
    FileNotFoundError : the block ended without having written anything.
    """
    path = Path(path).absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        workplace = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; choose another folder") from error
    try:
        yield workplace / path.name
        _flush(workplace)
        _replace(workplace / path.name, path, aside=workplace / f"old-{path.name}")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"cannot write {path}: {error.strerror}; make room and run again") from error
        raise
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def _flush(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("r+b") as opened:
                os.fsync(opened.fileno())


def _replace(new: Path, path: Path, aside: Path) -> None:
    if not new.exists():
        raise FileNotFoundError(f"nothing was written for {path}")
    # A rename cannot put anything in the place of a filled folder: that one steps aside first.
    old_is_folder = path.is_dir() and not path.is_symlink()
    if old_is_folder:
        path.replace(aside)
    try:
        new.replace(path)
    except OSError:
        if old_is_folder:
            aside.replace(path)
        raise
