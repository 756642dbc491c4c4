"""What ends a command: the user's mistakes and the machine's troubles, each in one line; and texts that name many."""

import errno
from collections.abc import Iterator, Mapping, Sequence

# In texts of errors that have no class of their own. cuDNN finds no engine where none gets its workspace; a process
# that reads data is mostly killed because memory ran out.
OUT_OF_MEMORY = (
    *("DefaultCPUAllocator: can't allocate memory", "CUDA out of memory", "CUDA error: out of memory"),
    *("CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED", "unable to find an engine"),
    *("Cannot allocate memory", "C error: out of memory", "MemoryError: ", "unable to allocate shared memory"),
    *(
        "is killed by signal: Killed",
        "is killed by signal: Bus error",
        "failed to map segment",
        "Error -4 while decompressing data",
    ),
)
OUT_OF_THREADS = ("can't start new thread", "can't allocate lock")
# Of an OSError -> what to do about it; these are the machine's, all others of a path that was given.
ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room and run again"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose another folder, or change its permissions"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "close other programs, or allow more open files (ulimit -n)"),
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ETIMEDOUT), "the disk or the way to it has failed"),
    errno.EFBIG: "allow larger files (ulimit -f), or choose another file system",
    errno.EPIPE: "a process that this one writes to has ended",
    errno.EAGAIN: "close other programs, or allow more processes (ulimit -u)",
}


class InputError(Exception):
    """Something in the user's input is wrong: one line that says what, where, and what to do about it."""


class MachineError(Exception):
    """The machine cannot do it, such as for want of memory, room on the disk or permissions: one line as well."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


def some_names(names: Sequence[str], most: int = 3) -> str:
    """The first of them, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def first_failure(failures: Mapping[str, Exception]) -> InputError | MachineError:
    """What to end with where everything failed: name -> error of each."""
    name, error = next(iter(failures.items()))
    return error if isinstance(error, InputError) else MachineError(f"{name}: {one_line(error)}")


def one_line(error: BaseException) -> str:
    """What an error says; that of a process which reads data without the traceback in front."""
    known = error if isinstance(error, InputError | MachineError) else explained(error) or error
    text = str(known).rsplit(f"{type(known).__name__}: ", 1)[-1]
    return " ".join(text.split()) or type(known).__name__


def explained(error: BaseException) -> InputError | MachineError | None:
    """Whose trouble an error is, and what to do about it; None for a defect of the program."""
    if isinstance(error, InputError | MachineError):
        return error
    if scarce := _scarcity(error):
        return scarce
    if isinstance(error, OSError):
        return os_error(error)
    if isinstance(error, UnicodeEncodeError):
        text = ascii(error.object[:80])
        return InputError(f"{text} holds bytes that are no letters in {error.encoding}; rename what is called so")
    if isinstance(error, RecursionError):
        return InputError("something in the input is nested too deep to be read; simplify it")
    if isinstance(error, ModuleNotFoundError):
        return MachineError(f"{error}; install the requirements (pip install -r requirements.txt)")
    return None


def os_error(error: OSError, action: str = "", *, advice: str = "check the path") -> InputError | MachineError:
    """A failed operation on a file in one line.

    ``action``: the words before what went wrong (default: the path); ``advice``: where it is not the machine's trouble.
    """
    paths = [str(path) for path in (error.filename, error.filename2) if path is not None]
    where = action or " -> ".join(paths)
    text = f"{where}: {error.strerror or error}" if where else error.strerror or str(error)
    if error.errno is None:  # as numpy has it
        advice = "is the disk full?" if action else ""
    advice = ADVICE.get(error.errno, advice if where else "")
    is_of_machine = error.errno is None or error.errno in ADVICE
    return (MachineError if is_of_machine else InputError)(f"{text}; {advice}" if advice else text)


# --- Scarcity -----------------------------------------------------------------------------------------
def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: of Python, or as the system, torch, CUDA, cuDNN and cuBLAS say it."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    is_ours = isinstance(error, InputError | MachineError)
    return not is_ours and isinstance(error, Exception) and any(text in str(error) for text in OUT_OF_MEMORY)


def raise_scarcity(error: BaseException) -> None:
    """For a reader that is about to call its file damaged: raise what the machine has run out of, if that was it.

    Raises
    ------
    MemoryError : memory; less may do for another file
    MachineError : threads, processes or open files
    """
    if isinstance(error, MemoryError):
        raise error
    if memory := next(filter(is_out_of_memory, causes(error)), None):
        raise MemoryError(str(memory)) from error
    if scarce := _scarcity(error):
        raise scarce from error


def _scarcity(error: BaseException) -> MachineError | None:
    for one in causes(error):
        if is_out_of_memory(one):
            return MachineError(f"out of memory{_detail(one)}; close other programs, or use a machine with more")
        if any(text in str(one) for text in OUT_OF_THREADS):
            return MachineError(f"{one}; {ADVICE[errno.EAGAIN]}")
        if isinstance(one, OSError) and one.errno in (errno.EMFILE, errno.ENFILE, errno.EAGAIN):
            return os_error(one)
    return None


def _detail(error: BaseException) -> str:
    """In brackets the first line of what an allocator says, if anything."""
    lines = str(error).split("MemoryError: ")[-1].strip().splitlines()
    return f" ({lines[0][:200].rstrip('.')})" if lines else ""


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it was raised from or that it bundles."""
    yield error
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    for one in (*([] if cause is None else [cause]), *getattr(error, "exceptions", ())):
        yield from causes(one)
