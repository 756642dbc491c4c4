"""Tables of Dynamo (.tbl): 35 columns or more, positions in pixels counted from 1 as in MATLAB.

Position = columns 24 to 26 plus shifts 4 to 6 (Dynamo's table convention), minus 1.
Column 20 numbers the tomogram; a .doc
(number and file in each line) or .vll (the n-th line is file n) beside it has the name.
"""

import io
from pathlib import Path

import numpy as np

from errors import InputError
from formats.point_groups import PIXELS, PointGroup, read_text, split_groups

# Columns counted from 0.
SHIFTS, SCORE, TOMOGRAM, CLASS, POSITIONS = slice(3, 6), 9, 19, 21, slice(23, 26)
FIRST_PIXEL = 1.0
SUFFIXES = (".tbl",)


def recognises(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def read(path: Path) -> list[PointGroup]:
    """A table of one class alone gives no particle name, else the class numbers are the names."""
    try:
        rows = np.loadtxt(io.StringIO(read_text(path)), ndmin=2, dtype=np.float64)
    except ValueError as error:
        raise InputError(f"{path}: not a readable Dynamo table ({error}); export it again") from error
    if rows.size == 0:
        return []
    if rows.shape[1] < POSITIONS.stop:
        raise InputError(f"{path}: {rows.shape[1]} columns, a Dynamo table has 26 or more; export it again")
    shifts = np.nan_to_num(rows[:, SHIFTS])
    names = _tomogram_names(path)
    numbers, classes = rows[:, TOMOGRAM].astype(int).tolist(), rows[:, CLASS].astype(int).tolist()
    # Number 0 stands for no tomogram at all.
    tomograms = [names.get(number, str(number) if number else None) for number in numbers]
    particles = [str(one) for one in classes] if len(set(classes)) > 1 else [None] * len(rows)
    points = rows[:, POSITIONS] + shifts - FIRST_PIXEL
    return split_groups(path, points, PIXELS, tomogram_names=tomograms, particle_names=particles, scores=rows[:, SCORE])


def _tomogram_names(table: Path) -> dict[int, str]:
    companions = [table.with_suffix(s) for s in (".doc", ".vll") if table.with_suffix(s).is_file()]
    if not companions:
        alone = sorted(p for s in ("*.doc", "*.vll") for p in table.parent.glob(s))
        companions = alone if len(alone) == 1 else []
    if not companions:
        return {}
    lines = [line.split("#")[0].strip() for line in read_text(companions[0]).splitlines()]
    lines = [line for line in lines if line]
    if companions[0].suffix == ".vll":
        return dict(enumerate((line for line in lines if line[0] not in ">*"), start=1))
    pairs = [line.split(maxsplit=1) for line in lines]
    return {int(pair[0]): pair[1] for pair in pairs if len(pair) == 2 and pair[0].isdigit()}
