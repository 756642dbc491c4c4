"""Motive lists of AV3, TOM and Artiatomi (.em): 20 values a particle, positions in pixels counted from 1 as in MATLAB.

Rows, counted from 1: 1 score, 4 and 6 number of the particle, 5 of the tomogram, 8 to 10 x y z, 11 to 13 shifts, 17 to
19 angles, 20 class (AV3; ArtiaX: src/io/Artiatomi/ArtiatomiParticleData.py subtracts the same 1).
An EM file is a header of 512 bytes (byte order, type of the values, sizes) and the values, the 20 of a particle
together (TOM: tom_emread.m). A tomograms.doc beside it, as for Dynamo, has the names of the tomograms.
"""

import struct
from pathlib import Path

import numpy as np

from data.files import atomic_path
from errors import InputError, raise_scarcity
from formats.dynamo import FIRST_PIXEL, numbers_of, tomogram_names, whole_numbers, write_numbers
from formats.export import Export, scores_of
from formats.next_command import Command
from formats.point_groups import PIXELS, PointGroup, split_groups
from formats.tomogram_names import safe_name

HEADER_BYTES, VALUES = 512, 20
LITTLE_ENDIAN_MACHINES, PC, FLOAT = (1, 6), 6, 5
# Rows counted from 0.
SCORE, NUMBER, TOMOGRAM, NUMBER_IN_TOMOGRAM, CLASS = 0, 3, 4, 5, 19
POSITIONS, SHIFTS = slice(7, 10), slice(10, 13)
SUFFIXES = (".em",)


def recognises(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def read(path: Path) -> list[PointGroup]:
    """A list of one class alone gives no particle name, else the class numbers are the names."""
    rows = _values(path)
    numbers, classes = whole_numbers(path, rows[:, TOMOGRAM]), whole_numbers(path, rows[:, CLASS])
    names = tomogram_names(path)
    return split_groups(
        path,
        rows[:, POSITIONS] + rows[:, SHIFTS] - FIRST_PIXEL,
        PIXELS,
        # Number 0 stands for no tomogram at all.
        tomogram_names=[names.get(number, str(number) if number else None) for number in numbers],
        particle_names=[str(one) for one in classes] if len(set(classes)) > 1 else [None] * len(rows),
        scores=rows[:, SCORE],
    )


def _values(path: Path) -> np.ndarray:
    """(N, 20) float64."""
    try:
        content = path.read_bytes()
        order = "<" if content[0] in LITTLE_ENDIAN_MACHINES else ">"
        sizes = struct.unpack_from(f"{order}3i", content, 4)
        if content[3] != FLOAT or sizes[0] != VALUES or min(sizes) < 0:
            raise ValueError(f"{sizes[0]} values of type {content[3]} a particle, not {VALUES} floats")
        count = sizes[1] * sizes[2]
        if len(content) > HEADER_BYTES + 4 * VALUES * count:
            raise ValueError(f"more than the {count} particles that its header promises")
        values = np.frombuffer(content, f"{order}f4", VALUES * count, HEADER_BYTES)
    except (OSError, IndexError, ValueError, struct.error) as error:
        raise_scarcity(error)
        raise InputError(f"{path}: not a readable motive list ({error}); export it again") from error
    return values.reshape(count, VALUES).astype(np.float64)


def write(folder: Path, export: Export) -> list[Command]:
    """``{particle}.em`` with the picks of all tomograms, and ``tomograms.doc`` with their files by their numbers."""
    write_numbers(folder, export)
    numbers, example, commands = numbers_of(export), export.example_particle(), []
    for particle, found in export.found():
        lists = []
        for tomogram, picks in found:
            rows = np.zeros((len(picks.coordinates_zyx_angstrom), VALUES), dtype="<f4")
            rows[:, SCORE], rows[:, TOMOGRAM], rows[:, CLASS] = scores_of(picks), numbers[tomogram.name], particle.label
            rows[:, POSITIONS] = tomogram.voxels_xyz(picks) + FIRST_PIXEL
            rows[:, NUMBER_IN_TOMOGRAM] = np.arange(1, len(rows) + 1)
            lists.append(rows)
        whole = np.concatenate(lists)
        whole[:, NUMBER] = np.arange(1, len(whole) + 1)
        header = struct.pack("<4B3i", PC, 0, 0, FLOAT, VALUES, len(whole), 1).ljust(HEADER_BYTES, b"\0")
        path = folder.absolute() / f"{safe_name(particle.name)}.em"
        with atomic_path(path) as temporary:
            temporary.write_bytes(header + whole.tobytes())
        if particle == example:
            commands = [Command(f"motl = tom_emread('{path}');", "MATLAB with TOM")]
    return commands
