"""Text and JSON files read whole; whatever is wrong with one is one line."""

import codecs
import json
import math
from pathlib import Path

from data.files import check_regular
from errors import InputError, raise_scarcity


def read_text(path: Path, *, what: str = "text file", advice: str = "export it again") -> str:
    """The text of a file in UTF-8, or in UTF-16 with its mark, as Excel writes; every line end is a newline.

    InputError where it is neither.
    """
    try:
        check_regular(path)
        content = path.read_bytes()
        is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        # Programs on Windows begin a file with a byte order mark.
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a {what} in UTF-8 or UTF-16 ({error}); save it as UTF-8") from error
    except OSError as error:
        raise_scarcity(error)
        raise InputError(f"{path}: not a readable {what} ({error}); {advice}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path, *, what: str = "JSON file", advice: str = "restore it") -> object:
    """What a JSON file holds; InputError where it is none."""
    text = read_text(path, what=what, advice=advice)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # no JSON, numbers of thousands of digits, or too deep
        raise InputError(f"{path}: not a readable {what} ({error}); {advice}") from error


def is_finite_number(value: object) -> bool:
    """Whether a value of a JSON file is a number that a float can hold."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def read_json_object(path: Path, *, what: str = "JSON file", advice: str = "restore it") -> dict:
    """The names and values of a JSON file; InputError where it holds something else."""
    content = read_json(path, what=what, advice=advice)
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a readable {what} (no names and values inside); {advice}")
    return content
