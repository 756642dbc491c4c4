"""One exception for what the user can mend."""


class InputError(Exception):
    """Something in the user's input is wrong: one line that says what, where, and what to do about it."""
