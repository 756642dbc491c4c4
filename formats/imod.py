"""Models of IMOD (.mod) and the text of its model2point (.coords).

The binary is big-endian (IMOD's description of its model format): a header of 240 bytes, then chunks of a four-letter
name and their data.
x and y run from 0 to the width, z from -0.5, so that x = i + 0.5, y = j + 0.5, z = k for voxel (i, j, k). Bit 16 of the
header's flags says that the model is stored flipped: y and z are exchanged, as they are (libimod, imodFlipYZ). The
header also has the size of the volume in voxels, 0 where the writer does not know it.
"""

import struct
from pathlib import Path

import numpy as np

from errors import InputError
from formats.point_groups import PIXELS, PointGroup, read_text

MAGIC, HEADER_BYTES, OBJECT_BYTES, CONTOUR_BYTES, MESH_BYTES = b"IMOD", 240, 176, 16, 16
NAME_BYTES = 64
SIZE_AT, FLAGS_AT, FLIPPED_YZ = 136, 152, 1 << 16
PIXEL_AT = 216
# The header's units of the pixel size that are used for volumes, in angstrom; 0 is pixels.
ANGSTROM_PER_UNIT = {-6: 1e4, -9: 10.0, -10: 1.0}
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
            place = start + MESH_BYTES + 12 * vertices + 4 * indices
        else:
            (size,) = struct.unpack_from(">i", content, start)
            if size < 0:
                raise ValueError("a chunk has no size")
            place = start + 4 + size
    return objects


def _text_points(path: Path) -> np.ndarray:
    """x y z of each line; model2point may write object and contour, whole numbers, before, others a score behind."""
    try:
        rows = [[float(word) for word in line.split()] for line in read_text(path).splitlines() if line.strip()]
        numbered = all(row[0] == int(row[0]) for row in rows)
        first = {5: 2, 4: 1} if numbered else {}
        points = np.array([row[first.get(len(row), 0) :][:3] for row in rows])
        return points.astype(np.float64).reshape(-1, 3)
    except ValueError as error:
        raise InputError(f"{path}: not lines of x y z ({error}); write it with model2point again") from error
