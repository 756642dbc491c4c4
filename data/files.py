"""Files of people: their paths and texts; and writing without leaving anything half-written."""

import argparse
import errno
import fnmatch
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from data.names import check_path
from errors import InputError, MachineError, causes, os_error, raise_scarcity, some_names

# In a temporary folder: which process writes there.
WRITER = ".writer"
# In a folder whose files belong together: some of them are missing.
INCOMPLETE = ".incomplete"
# Folders that this process has freed of what killed ones left.
_tidied: set[str] = set()
# Folders that must stay while this process writes into them, and what tells them from others of the same name.
_kept: list[tuple[Path, tuple[int, int] | None]] = []


def path_argument(text: str) -> Path:
    """A path of the command line; ``~`` is the home folder, also where the shell leaves it (``--flag=~/folder``)."""
    try:
        check_path(text)
        return Path(text).expanduser()
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}; give the whole path") from error


def files_below(folder: Path, *, leave_out: tuple[str, ...] = ()) -> list[Path]:
    """All files of a folder and its folders, sorted; those behind symbolic links too, each folder once.

    Folders whose name ends as in ``leave_out`` are not entered: a zarr holds very many files. InputError for one that
    must not be read.
    """
    found, known = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_refuse_unreadable):
        # A link to a folder above would be walked for ever.
        known.add(Path(parent).resolve())
        enter = [name for name in folders if not name.lower().endswith(leave_out)]
        folders[:] = [name for name in enter if Path(parent, name).resolve() not in known]
        found += [path for name in names if (path := Path(parent, name)).is_file()]
    return sorted(found)


def entries(folder: Path, pattern: str = "*") -> list[Path]:
    """What lies in a folder, sorted; nothing where there is no such folder.

    InputError where it must not be read, of which Path.glob says nothing.
    """
    try:
        return sorted(path for path in folder.iterdir() if fnmatch.fnmatchcase(path.name, pattern))
    except OSError as error:
        _refuse_unreadable(error)
        return []


def _refuse_unreadable(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise_scarcity(error)
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); change its permissions") from error


def check_regular(path: Path) -> None:
    """InputError for a pipe, a device or a folder, which would be read without end or not at all."""
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise InputError(f"{path}: not a regular file; give one")


def no_link(path: str, flags: int) -> int:
    """The opener of files that are written in place: a symbolic link is not followed, OSError."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


# --- Folders that must stay ---------------------------------------------------------------------------
@contextmanager
def kept_folder(folder: Path) -> Iterator[None]:
    """A folder that a command fills until the block ends. Removed meanwhile it is not made again: results would lack.

    Raises
    ------
    MachineError : it was removed or exchanged; as soon as :func:`atomic_path` writes there, else in the end.
    """
    folder = folder.absolute()
    kept = folder, _identity(folder)
    _kept.append(kept)
    opened = os.open(folder, os.O_RDONLY)  # else a folder made in its place may get the same inode
    try:
        yield
        check_kept(folder)
    finally:
        os.close(opened)
        _kept.remove(kept)


def check_kept(path: Path) -> None:
    """MachineError where the path lies in a kept folder that is gone."""
    for folder, identity in _kept:
        if path.is_relative_to(folder) and _identity(folder) != identity:
            raise MachineError(f"{folder} was removed or exchanged while this command wrote into it; run it again")


def check_still_there(paths: Iterable[Path]) -> None:
    """MachineError where one of the results that this command has written is gone."""
    if gone := [str(path) for path in paths if not path.exists()]:
        raise MachineError(f"removed while this command was at work: {some_names(gone)}; run it again")


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        state = folder.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino


# --- Groups of files ----------------------------------------------------------------------------------
@contextmanager
def complete_group(folder: Path) -> Iterator[None]:
    """Files in a folder that belong together: until the block ends well, :func:`check_complete` refuses the folder."""
    marker = folder / INCOMPLETE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _tidy(folder.absolute())
        with open(marker, "w", opener=no_link) as file:
            os.fsync(file.fileno())
    except OSError as error:
        raise os_error(error, f"cannot write {folder}", advice="choose another folder") from error
    with kept_folder(folder):
        yield
    marker.unlink(missing_ok=True)


def check_complete(folder: Path) -> None:
    """InputError where files of a group are missing, since the command that writes them was stopped."""
    if (folder / INCOMPLETE).exists():
        raise InputError(
            f"{folder} is incomplete: the command that writes it was stopped, or is still at work; run it again"
        )


# --- One file or folder -------------------------------------------------------------------------------
@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to, which becomes ``path`` only when the block ends well.

    The yielded path has the final name (so that suffix-sensitive writers behave) but lies in a hidden
    folder beside it, on the same file system. The block may make it a file or a folder; an older ``path``
    is replaced, a folder as a whole. When the block raises, all of it is removed and an older ``path`` stays. The
    content is on the disk before its name is: a power failure leaves no empty file under a final name. What killed
    processes left in the folder is removed; where one was killed between the two renames that replace a folder, the new
    one takes its place.

    Raises
    ------
    InputError : there cannot be such a path, or its folder was removed meanwhile.
    MachineError : the disk is full, the folder must not be written to, or one that is kept was removed.
    RuntimeError : the block ended without having written anything.
    """
    path = Path(path).absolute()
    check_kept(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _tidy(path.parent)
        workplace = _workplace(path)
    except OSError as error:
        raise os_error(error, f"cannot write {path}", advice="choose another folder") from error
    try:
        yield workplace / path.name
        _flush(workplace)
        _replace(workplace / path.name, path, aside=workplace / f"old-{path.name}")
    except (OSError, RuntimeError) as error:
        # torch only ends with an OSError behind its own; of what is read meanwhile errors name another path.
        failed = next((one for one in causes(error) if isinstance(one, OSError)), None)
        if failed is None or (failed.filename is not None and not Path(failed.filename).is_relative_to(workplace)):
            raise
        raise os_error(failed, f"cannot write {path}") from error
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def _workplace(path: Path) -> Path:
    """A new hidden folder beside ``path`` that names this process; none stays where there is no room for the name."""
    workplace = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    try:
        (workplace / WRITER).write_text(f"{os.getpid()} {_machine()}", encoding="utf-8")
    except BaseException:
        shutil.rmtree(workplace, ignore_errors=True)
        raise
    return workplace


def _machine() -> str:
    """Where the numbers of processes mean the same processes."""
    try:
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _tidy(folder: Path) -> None:
    """Remove the temporary folders of killed processes, once in the life of this one."""
    if str(folder) in _tidied:
        return
    _tidied.add(str(folder))
    for left in folder.glob(".*.partial"):
        if _writer_is_gone(left):
            for aside in left.glob("old-*"):
                final = folder / aside.name.removeprefix("old-")
                new = left / final.name
                if not final.exists():
                    (new if new.exists() else aside).replace(final)
            shutil.rmtree(left, ignore_errors=True)


def _writer_is_gone(workplace: Path) -> bool:
    """False where it is not known, as for a process on another machine."""
    try:
        number, _, machine = (workplace / WRITER).read_text(encoding="utf-8").partition(" ")
        if machine != _machine():
            return False
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError):
        return False
    return False


def _flush(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink() and file.name != WRITER:
            with file.open("r+b") as opened:
                os.fsync(opened.fileno())


def _replace(new: Path, path: Path, aside: Path) -> None:
    if not new.exists():
        if not new.parent.exists():
            raise FileNotFoundError(errno.ENOENT, "its folder was removed meanwhile")
        raise RuntimeError(f"nothing was written for {path}")
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
