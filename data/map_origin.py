"""Where a tomogram begins in the coordinates that other programs show it in.

ChimeraX and napari count angstrom from the origin of an MRC header or the translation of an OME-Zarr; positions in this
program count from the centre of the first voxel.
"""

import warnings
from pathlib import Path

import mrcfile
import numpy as np
import zarr

from data.ngff import ANGSTROM_PER_UNIT, image_of, multiscale_of
from data.tomogram import MRC_SUFFIXES

AXES = ("x", "y", "z")
# Read as CCP4 maps, which have no origin besides nstart.
CCP4_SUFFIXES = tuple(name + packed for name in (".map", ".ccp4") for packed in ("", ".gz", ".bz2"))
# Beyond this many times the longest side, nstart was never set.
LARGEST_START = 10


def map_origin_xyz_angstrom(path: Path) -> tuple[float, float, float]:
    """Where ChimeraX puts the first voxel of a tomogram, x y z in angstrom.

    Of an MRC file it is the origin in the header or, where that is 0 or impossible, and in CCP4 files, nstart times the
    voxel size (ChimeraX: map_data/src/mrc/mrc_format.py). Of an OME-Zarr it is the translation of level 0
    (github.com/uermel/chimerax-ome-zarr, as napari reads it).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what was told when the tomogram was opened
        if path.name.lower().endswith(MRC_SUFFIXES):
            return _of_header(path)
        return _of_ngff(path)


def _of_header(path: Path) -> tuple[float, float, float]:
    with mrcfile.open(path, header_only=True, permissive=True) as mrc:
        header = mrc.header
        origin, start, counts, size, cell = (
            np.array([float(values[axis]) for axis in names])
            for values, names in (
                (header.origin, AXES),
                (header, [f"n{axis}start" for axis in AXES]),
                (header, [f"m{axis}" for axis in AXES]),
                (header, [f"n{axis}" for axis in AXES]),
                (header.cella, AXES),
            )
        )
        is_mrc2000 = bytes(header.map) == b"MAP " and not path.name.lower().endswith(CCP4_SUFFIXES)
    step = cell / counts if (counts > 0).all() and (cell > 0).all() else np.ones(3)
    # So large that voxels cannot be told apart: never set.
    is_possible = np.isfinite(origin).all() and (origin + step != origin).all()
    if is_mrc2000 and origin.any() and is_possible:
        return tuple(origin.tolist())
    if (np.abs(start) > LARGEST_START * max(*counts, *size)).any():
        return 0.0, 0.0, 0.0
    return tuple((start * step).tolist())


def _of_ngff(path: Path) -> tuple[float, float, float]:
    node, _ = image_of(zarr.open(path, mode="r"))
    multiscale = multiscale_of(dict(node.attrs))
    level = next(iter(multiscale.get("datasets", [])), {})
    place = np.zeros(3)
    for transform in (one for part in (level, multiscale) for one in part.get("coordinateTransformations", [])):
        if transform["type"] == "scale":
            place *= transform["scale"][-3:]
        elif transform["type"] == "translation":
            place += transform["translation"][-3:]
    axes = multiscale.get("axes", [])[-3:] or [{}] * 3
    units = [(axis.get("unit") if isinstance(axis, dict) else None) or "angstrom" for axis in axes]
    place *= [ANGSTROM_PER_UNIT.get(unit.lower(), 0.0) for unit in units]  # of an unknown unit nothing is known
    return tuple(place[::-1].tolist())
