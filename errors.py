"""One exception for what the user can mend, and the way every script starts and ends."""

import os
import sys
import warnings
from collections.abc import Callable


class InputError(Exception):
    """Something in the user's input is wrong: one line that says what, where, and what to do about it."""


def run_script(main: Callable[[list[str] | None], None], argv: list[str] | None = None) -> None:
    """Run a script's ``main``; an InputError becomes one line on stderr and exit code 2, a warning one line."""
    # Large arrays in huge pages: else the first touch of every new one costs as much as computing with it. torch reads
    # this when it first allocates.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
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
