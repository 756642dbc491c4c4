"""What names of tomograms, experiments and files may be: folders, tables and pictures are made of them."""

import argparse
import re
import unicodedata

from errors import InputError

# Bytes; names of files are made of a tomogram's and a particle's name, and have up to 255.
LONGEST_NAME, LONGEST_FILE_NAME = 180, 255
# Spreadsheets compute what begins so.
FORMULA = ("=", "+", "-", "@")
# A hyphen before a word, which is none.
HYPHENED = re.compile(r"-[^\W\d_][\w .\[\]-]*")
# Control characters, halves of letters, and ends of lines and paragraphs.
NOT_IN_NAMES = {"Cc", "Cs", "Zl", "Zp"}
SHOWN = 60


def fault_of_name(name: str) -> str | None:
    """Why a name cannot be that of a tomogram or an experiment, None where it can."""
    if fault := fault_of_text(name):
        return fault
    if not name or name != name.strip():
        return "is empty, or begins or ends with a blank"
    if "/" in name or "\\" in name:
        return "holds a slash"
    if name.startswith((".", *FORMULA)) and not HYPHENED.fullmatch(name):
        return "begins with one of . = + - @"
    length = len(name.encode())
    return f"has {length} bytes, more than {LONGEST_NAME}" if length > LONGEST_NAME else None


def fault_of_text(text: str) -> str | None:
    """Why a text can stand in no name, path or line; None where it can."""
    kinds = {unicodedata.category(letter) for letter in text} & NOT_IN_NAMES
    if "Cs" in kinds:
        return "is not written in UTF-8"
    return "holds a control character or a line's end" if kinds else None


def check_name(name: str, what: str, advice: str = "rename it") -> None:
    """InputError for a name that cannot be that of a tomogram or an experiment; ``what`` says whose it is."""
    if fault := fault_of_name(name):
        raise InputError(f"{what} {_shown(name)} {fault}; {advice}")


def name_argument(text: str) -> str:
    """The type of flags that name something."""
    if fault := fault_of_name(text):
        raise argparse.ArgumentTypeError(f"{_shown(text)} {fault}; give another name")
    return text


def comment_argument(text: str) -> str:
    """The type of flags for a part of a name, which may be empty."""
    return text and name_argument(text)


def no_formula(text: str) -> str:
    """A sentence for a table's cell, which no spreadsheet computes."""
    return f"'{text}" if text.startswith(FORMULA) else text


def fault_of_path(text: str) -> str | None:
    """Why a text can be no path of a file; None where it can."""
    longest = max(len(part.encode(errors="surrogateescape")) for part in text.split("/"))
    too_long = f"has a part of {longest} bytes, more than {LONGEST_FILE_NAME}" if longest > LONGEST_FILE_NAME else None
    return fault_of_text(text) or too_long


def check_path(text: str, advice: str = "check the path") -> None:
    """InputError for a text that can be no path."""
    if fault := fault_of_path(text):
        raise InputError(f"{_shown(text)} {fault}; {advice}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")
