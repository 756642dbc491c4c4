"""Densities from real maps: MRC files whose names start with the particle's name."""

from collections.abc import Iterable
from pathlib import Path

import mrcfile
import numpy as np
from scipy import ndimage

from data.mrc_header import read_header
from data.phantom.densities import PointDensity
from errors import InputError, raise_scarcity
from particle_config import Particle, normalised_name

MAP_SUFFIXES = (".mrc", ".map")
DISTRACTOR_FOLDER = "decoys"
# Points closer than a tomogram's voxel blend into one density; closer than this only costs time.
TARGET_SPACING_ANGSTROM = 7.0
# Below this share of the maximum a map holds solvent and noise.
SOLVENT_FRACTION = 0.05


def read_particle_maps(density_dir: str | Path, particles: Iterable[Particle]) -> dict[str, PointDensity]:
    """One density per particle, by name; InputError names a particle without a map or with two."""
    density_dir = Path(density_dir)
    if not density_dir.is_dir():
        raise InputError(f"--density_dir {density_dir} is not a folder; give one that holds MRC maps")
    maps = _maps_in(density_dir)
    densities = {}
    for particle in particles:
        name = normalised_name(particle.name)
        found = [path for path in maps if normalised_name(path.stem).startswith(name)]
        if not found:
            raise InputError(
                f"--density_dir {density_dir} has no map for {particle.name}; put {particle.name}*.mrc there"
            )
        if len(found) > 1:
            names = " and ".join(path.name for path in found[:2])
            raise InputError(f"--density_dir {density_dir}: {names} both name {particle.name}; keep one")
        densities[particle.name] = read_density_map(found[0])
    return densities


def read_distractor_maps(density_dir: str | Path) -> dict[str, PointDensity]:
    """The maps of the subfolder ``decoys``, by file stem; empty when there are none."""
    return {path.stem: read_density_map(path) for path in _maps_in(Path(density_dir) / DISTRACTOR_FOLDER)}


def read_density_map(path: str | Path) -> PointDensity:
    """A map as points about its centre of mass, the maximum taken as the contrast of protein.

    Voxels finer than about 7 angstrom are binned, coarser ones interpolated. InputError for a file that is
    no map, an unknown voxel size (0 or unequal), or a map without density above solvent.
    """
    path = Path(path)
    read_header(path)  # refuses a file that is shorter than it says
    try:
        with mrcfile.open(path, permissive=True) as mrc:
            values = None if mrc.data is None else np.array(mrc.data, dtype=np.float32)
            spacings = [float(mrc.voxel_size[axis]) for axis in "zyx"]
    except (OSError, ValueError) as error:
        raise_scarcity(error)
        raise InputError(f"{path}: not a readable MRC map ({error}); replace it") from error
    if values is None or values.ndim != 3:
        raise InputError(f"{path}: not a three-dimensional map; replace it")
    if min(spacings) <= 0 or max(spacings) > 1.001 * min(spacings):
        raise InputError(f"{path}: its header has no usable voxel size {spacings}; write it into the header")
    if not np.isfinite(values).all() or values.max() <= 0:
        raise InputError(f"{path}: holds no positive, finite density; replace it")
    values, spacing = _resampled(values, spacings[0])
    kept = values > SOLVENT_FRACTION * values.max()
    weights = values[kept].astype(np.float64) / float(values.max()) * spacing**3
    offsets = np.argwhere(kept) * spacing
    return PointDensity(offsets - np.average(offsets, axis=0, weights=weights), weights)


def _maps_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in MAP_SUFFIXES and p.name[0] != ".")


def _resampled(values: np.ndarray, spacing_angstrom: float) -> tuple[np.ndarray, float]:
    """The map on voxels of about the target spacing, and that spacing."""
    factor = int(TARGET_SPACING_ANGSTROM / spacing_angstrom)
    if factor >= 2:
        padded = np.pad(values, [(0, -size % factor) for size in values.shape])
        blocks = padded.reshape([n for size in padded.shape for n in (size // factor, factor)])
        return blocks.mean(axis=(1, 3, 5)), spacing_angstrom * factor
    enlargement = round(spacing_angstrom / TARGET_SPACING_ANGSTROM + 0.4)
    if enlargement >= 2:
        # Voxels of the enlarged map split those of the old one exactly, so the spacing divides evenly.
        fine = ndimage.zoom(values, enlargement, order=3, mode="grid-constant", grid_mode=True)
        return np.maximum(fine, 0.0), spacing_angstrom / enlargement
    return values, spacing_angstrom
