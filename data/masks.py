"""Label masks: what the network is trained to paint."""

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.content_hash import points_hash
from data.files import atomic_path
from data.lazy_array import Region
from data.npy_files import open_npy
from data.text_files import read_json_object
from errors import InputError, raise_scarcity
from particle_config import PARTICLES, TABLE_SOURCE, Particle

if TYPE_CHECKING:  # preparing masks takes no torch, which is slow to import
    from torch import Tensor


def paint_spheres(
    shape_zyx: tuple[int, int, int],
    coordinates_zyx_by_label: Mapping[int, np.ndarray],
    radii_voxels: Mapping[int, float],
    region: Region | None = None,
) -> np.ndarray:
    """Spheres (or single voxels) of each label in an empty volume, or in a region of it.

    Parameters
    ----------
    shape_zyx : shape of the mask.
    coordinates_zyx_by_label : label (1 to 255) -> (N, 3) float centres in voxels; N = 0 is legal. Labels are
        painted in the order of the mapping: later ones overwrite earlier ones.
    radii_voxels : label -> radius r >= 0. A voxel belongs to a sphere when its squared distance from the
        centre is <= r^2. r = 0 sets the one voxel nearest to the centre, ties to the even index (np.rint).
    region : three slices with their ends; None for the whole volume.

    Returns
    -------
    np.ndarray : uint8 (Z, Y, X) of the region, 0 = background, the same as cut from the whole. Spheres are clipped at
        the borders; those that touch no voxel leave no trace (:func:`unpainted` finds them).
    """
    region = region or tuple(slice(0, side) for side in shape_zyx)
    first, last = np.array([(one.start, one.stop) for one in region]).T
    mask = np.zeros(last - first, dtype=np.uint8)
    for label, coordinates in coordinates_zyx_by_label.items():
        if not 1 <= label <= 255:
            raise ValueError(f"label {label} does not fit a uint8 mask with background 0")
        coordinates, radius = np.asarray(coordinates, dtype=np.float64).reshape(-1, 3), radii_voxels[label]
        # Half a voxel more, for the rounding of single voxels.
        near = ((coordinates >= first - radius - 0.5) & (coordinates <= last + radius)).all(axis=1)
        for centre in coordinates[near]:
            box, inside = _ball(first, last, centre, radius)
            mask[tuple(slice(a, b) for a, b in zip(*(box - first), strict=True))][inside] = label
    return mask


def unpainted(shape_zyx: tuple[int, int, int], coordinates_zyx_voxels: np.ndarray, radius_voxels: float) -> np.ndarray:
    """(N,) bool: the points whose sphere holds no voxel of the volume, since they lie outside of it."""
    coordinates = np.asarray(coordinates_zyx_voxels, dtype=np.float64).reshape(-1, 3)
    return np.array([not _ball((0, 0, 0), shape_zyx, c, radius_voxels)[1].any() for c in coordinates], dtype=bool)


def _ball(
    first_zyx: Sequence[int], last_zyx: Sequence[int], centre_zyx: np.ndarray, radius_voxels: float
) -> tuple[np.ndarray, np.ndarray]:
    """(2, 3) the bounding box from its first to behind its last voxel, clipped, and the ball's voxels (maybe none)."""
    if radius_voxels == 0:
        centre_zyx = np.rint(centre_zyx)
    low = np.clip(np.ceil(centre_zyx - radius_voxels), first_zyx, last_zyx).astype(int)
    high = np.clip(np.floor(centre_zyx + radius_voxels) + 1, low, last_zyx).astype(int)
    z, y, x = (np.arange(a, b) - c for a, b, c in zip(low, high, centre_zyx, strict=True))
    distance_squared = z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2
    return np.array([low, high]), distance_squared <= radius_voxels**2


def mask_radii_voxels(
    particles: Iterable[Particle], *, voxel_spacing_angstrom: float, radius_fraction: float
) -> dict[int, float]:
    """Label -> radius of its spheres in voxels."""
    return {p.label: p.radius_angstrom / voxel_spacing_angstrom * radius_fraction for p in particles}


def make_mask(
    shape_zyx: tuple[int, int, int],
    picks: Mapping[str, np.ndarray],
    *,
    voxel_spacing_angstrom: float,
    radius_fraction: float,
    particles: Iterable[Particle] = PARTICLES,
    region: Region | None = None,
) -> np.ndarray:
    """The mask of one tomogram, or a region of it: spheres of ``radius_fraction`` times each particle's radius.

    Parameters
    ----------
    picks : particle name (of the table) -> (N, 3) zyx in angstrom. Later rows of the table overwrite earlier.
    radius_fraction : 0 sets single voxels.
    region : three slices with their ends; None for the whole.

    Returns
    -------
    np.ndarray : uint8 (Z, Y, X) of labels, see :func:`paint_spheres`.
    """
    particles = tuple(particles)
    unknown = set(picks) - {particle.name for particle in particles}
    if unknown:
        raise InputError(f"particle {sorted(unknown)[0]!r} is not in the particle table; add a row to {TABLE_SOURCE}")
    centres = {p.label: np.asarray(picks[p.name]) / voxel_spacing_angstrom for p in particles if p.name in picks}
    radii = mask_radii_voxels(particles, voxel_spacing_angstrom=voxel_spacing_angstrom, radius_fraction=radius_fraction)
    return paint_spheres(shape_zyx, centres, radii, region)


def pool_labels(label: "Tensor", stride: int, *, single_voxels: bool = False) -> "Tensor":
    """Labels on the coarser grid of a network whose output has a stride.

    Parameters
    ----------
    label : (B, Z, Y, X) uint8 on any device; sides are multiples of the stride.
    stride : s >= 1. Coarse voxel j holds voxels j * s to j * s + s - 1; its centre is voxel (j + 0.5) * s - 0.5.
    single_voxels : labels are single voxels: each gives exactly one coarse voxel.

    Returns
    -------
    Tensor : (B, Z/s, Y/s, X/s) uint8. A coarse voxel belongs to a particle when at least half of its voxels do, so
        that spheres keep their volume; it has the highest label of its voxels, as later rows of the particle table
        overwrite earlier ones.
    """
    if any(side % stride for side in label.shape[1:]):
        raise ValueError(f"sides {tuple(label.shape[1:])} are not multiples of the stride {stride}")
    if stride == 1:
        return label
    cells, filled = label, (label > 0).to(label.dtype)
    for axis in (1, 2, 3):
        cells = cells.unflatten(axis, (-1, stride)).amax(axis + 1)
        filled = filled.unflatten(axis, (-1, stride)).sum(axis + 1)
    return cells if single_voxels else cells * (2 * filled >= stride**3)


# --- Files --------------------------------------------------------------------------------------------
# Part of every record: count up when the same points would be painted otherwise.
FORMAT = 1
# In a record: the checksum of the mask's voxels.
CHECKSUM = "crc32"
# What a mask is made from, in words.
INGREDIENTS = {
    "picks": "other picks",
    "particles": "another particle table",
    "voxel_spacing_angstrom": "another voxel size",
    "shape_zyx": "another shape",
    "radius_fraction": "another radius fraction",
}


def mask_record(
    shape_zyx: tuple[int, int, int],
    picks: Mapping[str, np.ndarray],
    *,
    voxel_spacing_angstrom: float,
    radius_fraction: float,
    particles: Iterable[Particle] = PARTICLES,
) -> dict:
    """What :func:`make_mask` makes a mask of, as plain values; kept beside the mask."""
    return {
        "format": FORMAT,
        "picks": points_hash(picks),
        "particles": [[p.name, p.label, p.radius_angstrom] for p in particles],
        "voxel_spacing_angstrom": float(voxel_spacing_angstrom),
        "shape_zyx": list(shape_zyx),
        "radius_fraction": float(radius_fraction),
    }


def save_mask(path: Path, mask: np.ndarray, record: Mapping) -> None:
    """Write a mask and, beside it as ``{run}.json``, what it is made from."""
    path.with_suffix(".json").unlink(missing_ok=True)  # if this is cut short, no mask has the record of another one
    with atomic_path(path) as temporary:
        np.save(temporary, mask)
    with atomic_path(path.with_suffix(".json")) as temporary:
        content = {**record, CHECKSUM: zlib.crc32(mask)}
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def is_damaged(path: Path, mask: np.ndarray) -> bool | None:
    """Whether the voxels of a mask file are not those that were written; None where its record does not say."""
    try:
        checksum = read_json_object(path.with_suffix(".json")).get(CHECKSUM)
    except InputError:
        return None
    return None if checksum is None else checksum != zlib.crc32(mask)


def difference(path: Path, record: Mapping) -> str | None:
    """In words, what a mask file was made from instead of the ingredients in ``record``; None when from them."""
    try:
        found = read_json_object(path.with_suffix(".json"))
    except InputError:
        return "nobody knows what"  # of an earlier version, which kept no record
    if {name: value for name, value in found.items() if name != CHECKSUM} == record:
        return None
    words = [word for name, word in INGREDIENTS.items() if found.get(name) != record.get(name)]
    return " and ".join(words) or "the same by an earlier version"


def mask_folder(mask_root: str | Path, radius_fraction: float) -> Path:
    """``{mask_root}/segmentations_0.5``; ``segmentations_0.0`` holds the single voxels."""
    return Path(mask_root) / f"segmentations_{float(radius_fraction)}"


def mask_path(mask_root: str | Path, run_name: str, radius_fraction: float) -> Path:
    """``{mask_root}/segmentations_0.5/{run}.npy``."""
    return mask_folder(mask_root, radius_fraction) / f"{run_name}.npy"


def read_mask(path: str | Path, shape_zyx: tuple[int, int, int], region: Region | None = None) -> np.ndarray:
    """A mask file of prepare_mask_czi.py, or a region of it, memory-mapped.

    InputError when absent, corrupt or of another shape than that of the tomogram.

    It is private to the process: what is written to it never reaches the file.
    """
    path = Path(path)
    try:
        mask = open_npy(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such mask; make it with prepare_mask_czi.py") from error
    except (OSError, ValueError) as error:
        raise_scarcity(error)
        raise InputError(f"{path}: not a readable mask ({error}); run prepare_mask_czi.py again") from error
    if mask.shape != tuple(shape_zyx) or mask.dtype != np.uint8:
        raise InputError(
            f"{path}: the mask is {mask.dtype} of shape {mask.shape}, the tomogram has {tuple(shape_zyx)}; "
            "run prepare_mask_czi.py again with this data and --tomo_type"
        )
    return mask if region is None else mask[region]
