"""Locks between processes, of one machine or of several that share a file system.

A lock goes with the process that holds it, however that ends. Its file says who that is.
"""

import os
import platform
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from data.files import no_link
from errors import InputError

# Whom a process waits for is said after so long.
QUIET_SECONDS = 5.0
# Of what a lock file says.
LONGEST_NOTE = 300


class Held(Exception):
    """Another process holds the lock; the text says which, as far as it is known."""


@contextmanager
def locked(path: Path, *, timeout: float = -1, shared: bool = False) -> Iterator[None]:
    """Hold a lock file until the block ends; its folder is made where it is missing.

    Parameters
    ----------
    timeout : seconds to wait for another process; below 0: until it is done
    shared : other users may hold this lock, too

    Raises
    ------
    Held : another process has it still.
    InputError : the file is a symbolic link, which may lead anywhere.
    OSError : the file cannot be made, or not be locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        raise InputError(f"{path} is a link, which no lock may be; remove it")
    lock = FileLock(path, **({"mode": 0o666} if shared else {}))
    quiet = QUIET_SECONDS if timeout < 0 else min(timeout, QUIET_SECONDS)
    try:
        try:
            lock.acquire(timeout=quiet)
        except Timeout:
            if timeout == quiet:
                raise
            warnings.warn(f"waiting for {holder_of(path)}, which holds {path}", stacklevel=3)
            lock.acquire(timeout=timeout if timeout < 0 else timeout - quiet)
    except Timeout:
        raise Held(holder_of(path)) from None
    try:
        if not isinstance(lock, SoftFileLock):  # which has a note of its own, where a file system knows no locks
            _sign(path)
        yield
    finally:
        lock.release()


def _sign(path: Path) -> None:
    """Say in the lock file whose it is; the lock counts without it, too."""
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    if len(command) > LONGEST_NOTE // 2:
        command = f"{command[: LONGEST_NOTE // 2]}..."
    note = f"process {os.getpid()} on {platform.node()} ({command})"
    with suppress(OSError), open(path, "wb", opener=no_link) as file:
        file.write(note.encode("utf-8", "backslashreplace"))


def holder_of(path: Path) -> str:
    """Who wrote a lock file last."""
    with suppress(OSError), open(path, "rb", opener=no_link) as file:
        note = file.read(LONGEST_NOTE).decode("utf-8", "replace").strip()
        return "".join(letter for letter in note if letter.isprintable()) or "another process"
    return "another process"
