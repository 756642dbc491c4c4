"""Annotations of the CryoET Data Portal (ndjson): voxels of the VoxelSpacing folder they lie in."""

from pathlib import Path

from data.picks import object_name_of_annotation, read_ndjson
from data.tomogram import spacing_of_folder
from formats.point_groups import PIXELS, UNBINNED_PIXELS, PointGroup

SUFFIXES = (".ndjson",)


def recognises(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def read(path: Path) -> list[PointGroup]:
    """The object's name is that of the file, the tomogram's that of the run's folder."""
    spacing = spacing_of_folder(path)
    folders = path.absolute().parts
    run = folders[folders.index("Reconstructions") - 1] if "Reconstructions" in folders else None
    # Outside of such a folder the voxels may be those of any tomogram: the size must be given.
    unit = UNBINNED_PIXELS if spacing is None else PIXELS
    points = read_ndjson(path)[:, ::-1]
    return [PointGroup(path, points, unit, run, object_name_of_annotation(path), pixel_size_angstrom=spacing)]
