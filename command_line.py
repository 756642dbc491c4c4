"""How every script starts and ends."""

import io
import os
import sys
import warnings
from collections.abc import Callable, Mapping

from errors import InputError

# Large arrays in huge pages: else the first touch of every new one costs as much as computing with it. torch reads this
# variable when it first allocates.
HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
# Scripts draw into files. A notebook or a desktop names a backend that may not be there; then matplotlib cannot be
# imported, which other libraries do, too: scripts import this module before all others.
os.environ["MPLBACKEND"] = "Agg"


def run_script(main: Callable[[list[str] | None], None], argv: list[str] | None = None) -> None:
    """Run a script's ``main``; an InputError becomes one line on stderr and exit code 2, a warning one line."""
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
    try:
        main(argv)
    except InputError as error:
        # From a process that reads data it comes with that process's traceback in front.
        text = str(error).rsplit("InputError: ", 1)[-1]
        print(f"error: {' '.join(text.split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def end_with_failures(failures: Mapping[str, Exception]) -> None:
    """Name what could not be done, and end with exit code 1; nothing where there is none."""
    for name, error in failures.items():
        print(f"failed    {name}: {error}", file=sys.stderr)
    if failures:
        sys.exit(1)
