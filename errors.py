"""One exception for what the user can mend, and how its texts name many things."""

from collections.abc import Sequence


class InputError(Exception):
    """Something in the user's input is wrong: one line that says what, where, and what to do about it."""


def some_names(names: Sequence[str], most: int = 3) -> str:
    """The first of them, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
