"""The voxel size of a tomogram: from the command line, its file, its portal metadata or its folder.

None of the last three may contradict another.
"""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.number_ranges import VOXEL_SIZE
from data.portal_metadata import TOMOGRAM_METADATA
from errors import InputError

GIVE_SPACING = "give it with --voxel_spacing (angstrom)"
# Folder names are rounded (VoxelSpacing10.000 of 10.012); what differs more is another voxel size.
CONTRADICTION = 0.02
# Rounding of header values: half a voxel over the longest axis.
ROUNDING = 0.001

Spacing = tuple[float, float, float]


def decide_spacing(
    path: Path,
    *,
    given_angstrom: float | None,
    file_zyx_angstrom: Sequence[float] | None,
    folder_angstrom: float | None,
    metadata_angstrom: float | None = None,
    may_be_anisotropic: bool = False,
) -> Spacing:
    """The voxel size along z, y, x in angstrom: what is given, else what the first of the others says.

    Parameters
    ----------
    given_angstrom : of cubes; beats all others.
    file_zyx_angstrom : None, beyond what voxels are, or 1.0 along all axes (written by software that does not know):
        unknown.
    metadata_angstrom : of the portal's tomogram_metadata.json, see data.portal_metadata; that of y and x.
    folder_angstrom : the number in ``VoxelSpacing10.012``, which is that of y and x.
    may_be_anisotropic : the tomogram will be resampled to cubes.

    Raises
    ------
    InputError : unknown, not cubes, or two of file, metadata and folder more than 2 % apart.
    """
    if given_angstrom is not None:
        check_voxel_spacing(given_angstrom)
        return (float(given_angstrom),) * 3
    found = _known(file_zyx_angstrom)
    if found is not None and not may_be_anisotropic and max(found) > min(found) * (1 + ROUNDING):
        sizes = " x ".join(f"{s:g}" for s in found)
        raise InputError(
            f"{path}: voxels of {sizes} angstrom (z, y, x) are not cubes; resample the tomogram with --rescale, "
            "or, when the metadata is wrong, give the size with --voxel_spacing (angstrom)"
        )
    # Who says it, how, and along y and x.
    said = [("the file", f"{found[2]:g} A per voxel", found[1:])] if found is not None else []
    if metadata_angstrom is not None:
        said.append((TOMOGRAM_METADATA, f"{metadata_angstrom:g} A per voxel", (metadata_angstrom,)))
    if folder_angstrom is not None:
        said.append(("its folder", f"VoxelSpacing{folder_angstrom:.3f}", (folder_angstrom,)))
    if not said:
        raise InputError(f"{path}: the voxel size is not in the file; {GIVE_SPACING}")
    for (one, size, sizes), (other, other_size, (expected,)) in itertools.combinations(said, 2):
        if any(abs(s / expected - 1) > CONTRADICTION for s in sizes):
            raise InputError(
                f"{path}: {one} says {size}, {other} {other_size}; "
                "say which is right with --voxel_spacing (angstrom), which decides"
            )
    return found or (said[0][2][0],) * 3


def check_voxel_spacing(voxel_spacing_angstrom: float, flag: str = "--voxel_spacing") -> None:
    """InputError unless tomograms have voxels of that size."""
    if voxel_spacing_angstrom not in VOXEL_SIZE:
        raise InputError(f"voxel spacing {voxel_spacing_angstrom:g} must be {VOXEL_SIZE}; give {flag} in angstrom")


def spacing_of_folder(path: Path) -> float | None:
    """10.012 for a path that lies in a folder ``VoxelSpacing10.012``; None when there is none."""
    for folder in Path(path).absolute().parents:
        match = re.fullmatch(r"VoxelSpacing(\d+(?:\.\d+)?)", folder.name)
        if match and float(match[1]) in VOXEL_SIZE:
            return float(match[1])
    return None


def folder_of_spacing(voxel_spacing_angstrom: float) -> str:
    """``VoxelSpacing10.012``, with three decimals or as many more as the size needs, at most six."""
    whole, _, decimals = f"{voxel_spacing_angstrom:.6f}".partition(".")
    return f"VoxelSpacing{whole}.{decimals.rstrip('0').ljust(3, '0')}"


def _known(spacing_zyx: Sequence[float] | None) -> Spacing | None:
    # No tomogram has voxels of one angstrom.
    if spacing_zyx is None or not all(float(s) in VOXEL_SIZE for s in spacing_zyx):
        return None
    if np.allclose(spacing_zyx, 1.0, rtol=0, atol=1e-5):
        return None
    z, y, x = map(float, spacing_zyx)
    return z, y, x
