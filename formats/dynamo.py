"""Tables of Dynamo (.tbl): 35 columns or more, positions in pixels counted from 1 as in MATLAB.

Position = columns 24 to 26 plus shifts 4 to 6 (Dynamo's table convention), minus 1.
Column 20 numbers the tomogram; a .doc (number and file in each line) or .vll (the n-th line is file n) beside it has
the name. Converters differ by one pixel: here the first voxel is 1, as it is for MATLAB, which crops.
Source: wiki.dynamo.biozentrum.unibas.ch, "Table convention", "Cropping table" and "Particle extraction".
"""

import io
import re
from pathlib import Path

import numpy as np

from data.files import atomic_path
from data.text_files import read_text
from errors import InputError
from formats.export import Export, box_size, scores_of
from formats.next_command import Command
from formats.point_groups import PIXELS, PointGroup, split_groups
from formats.tomogram_names import safe_name

# Columns counted from 0.
SHIFTS, SCORE, TOMOGRAM, CLASS, POSITIONS = slice(3, 6), 9, 19, 21, slice(23, 26)
TAG, ALIGNED, AVERAGED, PIXEL_SIZE, COLUMNS = 0, 1, 2, 35, 36
FIRST_PIXEL = 1.0
NUMBERS_FILE = "tomograms.doc"
# Of a tomogram, as a word.
NUMBER = r"\d{1,15}"
SUFFIXES = (".tbl",)


def recognises(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def read(path: Path) -> list[PointGroup]:
    """A table of one class alone gives no particle name, else the class numbers are the names."""
    text = read_text(path)
    if not text.strip():
        return []
    try:
        rows = np.loadtxt(io.StringIO(text), ndmin=2, dtype=np.float64)
    except ValueError as error:
        raise InputError(f"{path}: not a readable Dynamo table ({error}); export it again") from error
    if rows.size == 0:
        return []
    if rows.shape[1] < POSITIONS.stop:
        raise InputError(f"{path}: {rows.shape[1]} columns, a Dynamo table has 26 or more; export it again")
    shifts = np.nan_to_num(rows[:, SHIFTS])
    names = tomogram_names(path)
    numbers, classes = whole_numbers(path, rows[:, TOMOGRAM]), whole_numbers(path, rows[:, CLASS])
    # Number 0 stands for no tomogram at all.
    tomograms = [names.get(number, str(number) if number else None) for number in numbers]
    particles = [str(one) for one in classes] if len(set(classes)) > 1 else [None] * len(rows)
    points = rows[:, POSITIONS] + shifts - FIRST_PIXEL
    return split_groups(path, points, PIXELS, tomogram_names=tomograms, particle_names=particles, scores=rows[:, SCORE])


def whole_numbers(path: Path, column: np.ndarray) -> list[int]:
    """A column of numbers of tomograms or classes; InputError for one that is none."""
    wrong = np.flatnonzero(~(np.abs(column) < 2**53) | (column != np.rint(column)))
    if len(wrong):
        raise InputError(
            f"{path}, row {wrong[0] + 1}: {column[wrong[0]]:g} is no number of a tomogram or class; mend or remove it"
        )
    return column.astype(int).tolist()


def tomogram_names(table: Path) -> dict[int, str]:
    """Tomograms by their numbers, of the .doc or .vll beside a table; empty where there is none."""
    companions = [table.with_suffix(s) for s in (".doc", ".vll") if table.with_suffix(s).is_file()]
    if not companions:
        alone = sorted(p for s in ("*.doc", "*.vll") for p in table.parent.glob(s))
        companions = alone if len(alone) == 1 else []
    if not companions:
        return {}
    lines = [line.split("#")[0].strip() for line in read_text(companions[0]).split("\n")]
    lines = [line for line in lines if line]
    if companions[0].suffix == ".vll":
        return dict(enumerate((line for line in lines if line[0] not in ">*"), start=1))
    pairs = [line.split(maxsplit=1) for line in lines]
    return {int(pair[0]): pair[1] for pair in pairs if len(pair) == 2 and re.fullmatch(NUMBER, pair[0])}


def write(folder: Path, export: Export) -> list[Command]:
    """``{particle}.tbl``, one row a pick, and ``tomograms.doc`` with the files by their numbers.

    Column 10 is the score, 22 the label of the particle, 36 the voxel size. Angles, shifts and tilts are not known: 0.
    """
    write_numbers(folder, export)
    numbers, example, commands = numbers_of(export), export.example_particle(), []
    for particle, found in export.found():
        tables = []
        for tomogram, picks in found:
            table = np.zeros((len(picks.coordinates_zyx_angstrom), COLUMNS))
            table[:, [ALIGNED, AVERAGED]] = 1
            table[:, SCORE], table[:, TOMOGRAM], table[:, CLASS] = (
                scores_of(picks),
                numbers[tomogram.name],
                particle.label,
            )
            table[:, POSITIONS] = tomogram.voxels_xyz(picks) + FIRST_PIXEL
            table[:, PIXEL_SIZE] = tomogram.voxel_size_angstrom
            tables.append(table)
        whole = np.concatenate(tables)
        whole[:, TAG] = np.arange(1, len(whole) + 1)
        path = folder.absolute() / f"{safe_name(particle.name)}.tbl"
        with atomic_path(path) as temporary:
            np.savetxt(temporary, whole, fmt="%.9g")
        if particle == example:
            box = box_size(particle.radius_angstrom, found[0][0].voxel_size_angstrom)
            line = f"dtcrop {folder.absolute() / NUMBERS_FILE} {path} {path.stem}_particles {box}"
            commands = [Command(line, "Dynamo", found[0][0].is_zarr)]
    return commands


def numbers_of(export: Export) -> dict[str, int]:
    """Tomograms 1, 2, ... in their order, by name."""
    return {tomogram.name: number for number, tomogram in enumerate(export.tomograms, start=1)}


def write_numbers(folder: Path, export: Export) -> None:
    """The file that says which tomogram is which number."""
    lines = [f"{number} {tomogram.path}" for number, tomogram in enumerate(export.tomograms, start=1)]
    with atomic_path(folder / NUMBERS_FILE) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
