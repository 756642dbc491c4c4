"""Models of IMOD (.mod) and the text of its model2point (.coords).

The binary is big-endian (bio3d.colorado.edu/imod/doc/binspec.html): a header of 240 bytes, then chunks of a four-letter
name and their data.
x and y run from 0 to the width, z from -0.5, so that x = i + 0.5, y = j + 0.5, z = k for voxel (i, j, k). Bit 16 of the
header's flags says that the model is stored flipped: y and z are exchanged, as they are (libimod, imodFlipYZ). The
header also has the size of the volume in voxels, 0 where the writer does not know it.
Each particle is an object of scattered points; the score of a point is its value, by which 3dmod can colour and hide.
"""

import struct
from pathlib import Path

import numpy as np

from data.files import atomic_path
from data.picks import Picks
from data.text_files import read_text
from errors import InputError, raise_scarcity
from formats.export import Export, PickedTomogram, colour_fractions
from formats.next_command import Command, shell_command
from formats.point_groups import PIXELS, PointGroup
from formats.tomogram_names import safe_name
from particle_config import Particle

MAGIC, HEADER_BYTES, OBJECT_BYTES, CONTOUR_BYTES, MESH_BYTES = b"IMOD", 240, 176, 16, 16
NAME_BYTES = 64
SIZE_AT, FLAGS_AT, FLIPPED_YZ = 136, 152, 1 << 16
PIXEL_AT = 216
# The header's units of the pixel size that are used for volumes, in angstrom; 0 is pixels.
NANOMETRE = -9
ANGSTROM_PER_UNIT = {-6: 1e4, NANOMETRE: 10.0, -10: 1.0}
# Magic and version, name, sizes, objects, flags, drawing and mouse mode, black and white, offset, scale, current
# object, contour and point, resolution, threshold, pixel size, its unit, checksum, three angles.
HEADER = ">8s128s3iiI2i2i3f3f3i2if2i3f"
# Name, extra, contours, flags, axis, drawing mode, colour, radius of spheres, symbol to transparency, meshes, surfaces.
OBJECT = ">64s64siI2i3fi8B2i"
VERSION = b"V1.2"
Z_FROM_MINUS_HALF, NEW_TO_3DMOD = 1 << 10, 1 << 11
# Flags of open contours and of scattered points (imod: include/iobj.h); symbol 1 is none.
OPEN, SCATTERED, NO_SYMBOL, SYMBOL_SIZE, LINE_WIDTH = 1 << 3, 1 << 9, 1, 3, 1
# Types of stored values and their flags (imod: include/istore.h, libimod/istore.c): the value is a float; so is the
# index, which is no number of a point.
VALUE, VALUE_FLAGS, RANGE, RANGE_FLAGS = 10, 1 << 2, 11, 1 << 2 | 1 | 1 << 4
VOXEL_OFFSET_XYZ = np.array([0.5, 0.5, 0.0])
SUFFIXES = (".mod", ".coords")


def recognises(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def read(path: Path) -> list[PointGroup]:
    """One group an object of a model, by the object's name; a .coords file is one group."""
    if path.name.lower().endswith(".coords"):
        return [PointGroup(path, _text_points(path) - VOXEL_OFFSET_XYZ, PIXELS)]
    try:
        content = path.read_bytes()
        objects = _objects(content)
        (flags,) = struct.unpack_from(">I", content, FLAGS_AT)
        size = struct.unpack_from(">3i", content, SIZE_AT)
        pixel, unit = struct.unpack_from(">fi", content, PIXEL_AT)
    except (OSError, ValueError, struct.error) as error:
        raise_scarcity(error)
        raise InputError(f"{path}: not a readable IMOD model ({error}); save it again") from error
    axes = [0, 2, 1] if flags & FLIPPED_YZ else [0, 1, 2]
    return [
        PointGroup(
            path,
            np.concatenate(contours)[:, axes] - VOXEL_OFFSET_XYZ,
            PIXELS,
            particle_name=name or None,
            picked_shape_xyz=tuple(size[axis] for axis in axes) if min(size) > 0 else None,
            picked_spacing_angstrom=pixel * ANGSTROM_PER_UNIT.get(unit, 0.0) or None,
        )
        for name, contours in objects
        if contours
    ]


def _objects(content: bytes) -> list[tuple[str, list[np.ndarray]]]:
    """Name and contours, each (N, 3) xyz as written, of every object."""
    if content[:4] != MAGIC or len(content) < HEADER_BYTES:
        raise ValueError("it does not begin as a model does")
    objects: list[tuple[str, list[np.ndarray]]] = []
    place = HEADER_BYTES
    while place + 4 <= len(content) and content[place : place + 4] != b"IEOF":
        chunk, start = content[place : place + 4], place + 4
        if chunk == b"OBJT":
            name = content[start : start + NAME_BYTES].split(b"\0")[0].decode("utf-8", "replace").strip()
            objects.append((name, []))
            place = start + OBJECT_BYTES
        elif chunk == b"CONT":
            (count,) = struct.unpack_from(">i", content, start)
            place = start + CONTOUR_BYTES + 12 * count
            if count < 0 or place > len(content) or not objects:
                raise ValueError("a contour is cut off")
            points = np.frombuffer(content, ">f4", 3 * count, start + CONTOUR_BYTES).reshape(-1, 3)
            objects[-1][1].append(points.astype(np.float64))
        elif chunk == b"MESH":
            vertices, indices = struct.unpack_from(">ii", content, start)
            if min(vertices, indices) < 0:
                raise ValueError("a mesh has no size")
            place = start + MESH_BYTES + 12 * vertices + 4 * indices
        else:
            (size,) = struct.unpack_from(">i", content, start)
            if size < 0:
                raise ValueError("a chunk has no size")
            place = start + 4 + size
    if content[place : place + 4] != b"IEOF":
        raise ValueError("its end is cut off")
    return objects


def _text_points(path: Path) -> np.ndarray:
    """x y z of each line; model2point may write object and contour, whole numbers, before, others a score behind."""
    try:
        rows = [[float(word) for word in line.split()] for line in read_text(path).split("\n") if line.strip()]
        numbered = all(row[0].is_integer() for row in rows)
        first = {5: 2, 4: 1} if numbered else {}
        points = np.array([row[first.get(len(row), 0) :][:3] for row in rows])
        return points.astype(np.float64).reshape(-1, 3)
    except ValueError as error:
        raise InputError(f"{path}: not lines of x y z ({error}); write it with model2point again") from error


def write(folder: Path, export: Export) -> list[Command]:
    """``{tomogram}.mod``: one object a particle with its name and colour, and spheres of its radius at the points."""
    for tomogram in export.tomograms:
        found = export.of_tomogram(tomogram)
        with atomic_path(folder / f"{safe_name(tomogram.name)}.mod") as temporary:
            chunks = [_object(tomogram, particle, picks) for particle, picks in found]
            temporary.write_bytes(b"".join([_header(tomogram, len(found)), *chunks, b"IEOF"]))
    example = export.example_tomogram()
    if example is None:
        return []
    model = folder.absolute() / f"{safe_name(example.name)}.mod"
    return [shell_command("3dmod", example.path, model, tomogram=example)]


def _header(tomogram: PickedTomogram, objects: int) -> bytes:
    z, _, x = tomogram.voxel_size_zyx_angstrom
    name, flags = tomogram.name.encode("utf-8")[:127], Z_FROM_MINUS_HALF | NEW_TO_3DMOD
    modes, black_white, none = (1, 1), (0, 255), (0, 0, 0)
    image = (*tomogram.size_xyz, objects, flags, *modes, *black_white, *none, 1, 1, z / x, *none)
    return struct.pack(HEADER, MAGIC + VERSION, name, *image, 3, 128, x / 10, NANOMETRE, 0, *none)


def _object(tomogram: PickedTomogram, particle: Particle, picks: Picks) -> bytes:
    name = particle.name.encode("utf-8")[: NAME_BYTES - 1]
    radius = max(1, round(particle.radius_angstrom / tomogram.voxel_size_angstrom))
    symbol = (NO_SYMBOL, SYMBOL_SIZE, LINE_WIDTH, LINE_WIDTH, 0, 0, 0, 0)
    look = (1, OPEN | SCATTERED, 0, 1, *colour_fractions(particle), radius, *symbol, 0, 0)
    points = (tomogram.voxels_xyz(picks) + VOXEL_OFFSET_XYZ).astype(">f4")
    contour = b"CONT" + struct.pack(">iIii", len(points), 0, 0, 0) + points.tobytes()
    return b"OBJT" + struct.pack(OBJECT, name, b"", *look) + contour + _values(picks)


def _values(picks: Picks) -> bytes:
    """The scores of the points of a contour, and their range for its object."""
    if picks.scores is None:
        return b""
    items = [struct.pack(">hHif", VALUE, VALUE_FLAGS, number, score) for number, score in enumerate(picks.scores)]
    bounds = struct.pack(">hHff", RANGE, RANGE_FLAGS, np.min(picks.scores), np.max(picks.scores))
    return b"".join(n + struct.pack(">i", len(c)) + c for n, c in ((b"COST", b"".join(items)), (b"OBST", bounds)))
