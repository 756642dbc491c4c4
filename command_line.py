"""How every script starts and ends."""

import gc
import io
import os
import select
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType

from errors import InputError, Terminated, explained, one_line
from versions import versions

# Large arrays in huge pages: else the first touch of every new one costs as much as computing with it. torch reads this
# variable when it first allocates.
HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
# Scripts draw into files. A notebook or a desktop names a backend that may not be there; then matplotlib cannot be
# imported, which other libraries do, too: scripts import this module before all others.
os.environ["MPLBACKEND"] = "Agg"


def run_script(main: Callable[[list[str] | None], None], argv: list[str] | None = None) -> None:
    """Run a script's ``main``. Whatever ends it but a defect becomes one line on stderr, and so does a warning.

    Exit codes: 2 for an InputError, 1 for a MachineError or a defect, 130 for Ctrl-C, 143 for SIGTERM, 141 where nobody
    reads the output any more.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        # A locale without letters for the names of files: start again with them, once.
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    os.environ.setdefault(HUGE_PAGES, "1")
    for stream in (sys.stdout, sys.stderr):
        # Names of runs may hold letters that the terminal's encoding does not have.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.formatwarning = lambda message, *_args, **_kwargs: f"warning: {message}\n"
    if not gc.get_freeze_count():
        # Libraries stay: garbage (a picture leaves 11 MB) is then collected often and quickly, without a look at them.
        gc.freeze()
        gc.collect()
    try:
        with _hearing_sigterm():
            _with_its_output(main, argv)
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(_report(error))
    finally:
        _forget_unwritten()


def _with_its_output(main: Callable[[list[str] | None], None], argv: list[str] | None) -> None:
    """Output that cannot be written is an error of the script, not of Python's end."""
    try:
        main(argv)
    except SystemExit as stop:
        if stop.code:
            raise
    if sys.stdout is not None:
        sys.stdout.flush()


@contextmanager
def _hearing_sigterm() -> Iterator[None]:
    def terminate(*_: object) -> None:
        raise Terminated

    before = signal.getsignal(signal.SIGTERM)
    if before == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _report(error: BaseException) -> int:
    """Say what has ended the script; its exit code."""
    if isinstance(error, BrokenPipeError) and any(map(_has_no_reader, (sys.stdout, sys.stderr))):
        return 128 + signal.SIGPIPE
    known = explained(error)
    with suppress(OSError):  # nobody reads it
        if isinstance(error, KeyboardInterrupt):
            print(str(error) or ("terminated" if isinstance(error, Terminated) else "interrupted"), file=sys.stderr)
        elif known is None:
            _report_defect(error)
        else:
            print(f"error: {one_line(known)}", file=sys.stderr)
    if isinstance(error, KeyboardInterrupt):
        return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
    return 2 if isinstance(known, InputError) else 1


def _report_defect(error: BaseException) -> None:
    traceback.print_exception(error)
    made_with = ", ".join(f"{name} {version}" for name, version in versions().items())
    print(
        f"this is a defect of ETFinder: please report it with the lines above and these\n"
        f"command   {shlex.join(sys.orig_argv)}\nversions  {made_with}",
        file=sys.stderr,
    )


def _report_of_import(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As :func:`_report`, of what happens before ``main``; the exit code is Python's, and so are defects."""
    if isinstance(error, KeyboardInterrupt) or explained(error) is not None:
        _report(error)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _report_of_import


def _has_no_reader(stream: io.TextIOBase | None) -> bool:
    """Whether a stream is a pipe whose other end is closed, as behind ``| head``."""
    with suppress(AttributeError, OSError, ValueError):  # no such stream, no file, no poll
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
        return any(events & select.POLLERR for _, events in poll.poll(0))
    return False


def _forget_unwritten() -> None:
    """Python would complain in its end of what it cannot write."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def end_with_failures(failures: Mapping[str, Exception]) -> None:
    """Name what could not be done, and end with exit code 1; nothing where there is none."""
    for name, error in failures.items():
        print(f"failed    {name}: {one_line(error)}", file=sys.stderr)
    if failures:
        sys.exit(1)
