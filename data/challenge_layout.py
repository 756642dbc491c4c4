"""Writing the challenge's layout (see data/czi.py): where a run's files go, and tomograms as zarr."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import zarr
from numcodecs import Blosc

from data.zarr_chunks import write_chunks

PYRAMID_LEVELS = 3
CHUNK_VOXELS = 128


def training_folders(root: Path, run_name: str) -> tuple[Path, Path]:
    """Where the tomograms and where the picks of a run lie: its static and its overlay folder."""
    train = root / "train"
    return train / "static" / "ExperimentRuns" / run_name, train / "overlay" / "ExperimentRuns" / run_name


def write_pyramid(path: Path, volume: np.ndarray, voxel_spacing_angstrom: float) -> None:
    """A zarr v2 group with levels 0, 1, 2 (each the mean over 2 x 2 x 2 voxels) and NGFF 0.4 metadata.

    Voxel j of a level binned by s lies at (j + 0.5) * s - 0.5 of level 0: a scale and a translation.
    """
    group = zarr.create_group(path, zarr_format=2)
    datasets = []
    for level, (binned, factor) in enumerate(_levels(volume)):
        array = group.create_array(
            str(level),
            shape=binned.shape,
            chunks=tuple(min(CHUNK_VOXELS, size) for size in binned.shape),
            dtype="float32",
            compressors=Blosc(cname="zstd", clevel=5, shuffle=Blosc.BITSHUFFLE),
        )
        write_chunks(array, binned)
        scale = voxel_spacing_angstrom * factor
        shift = voxel_spacing_angstrom * (factor - 1) / 2
        transformations = [
            {"type": "scale", "scale": [scale] * 3},
            {"type": "translation", "translation": [shift] * 3},
        ]
        datasets.append({"path": str(level), "coordinateTransformations": transformations})
    axes = [{"name": axis, "type": "space", "unit": "angstrom"} for axis in "zyx"]
    group.attrs["multiscales"] = [{"version": "0.4", "name": "/", "axes": axes, "datasets": datasets}]


def _levels(volume: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """The volume and its binned versions with their binning; an odd last slice is left out of the mean."""
    for level in range(PYRAMID_LEVELS):
        yield volume, 2**level
        even = volume[tuple(slice(0, size // 2 * 2) for size in volume.shape)]
        depth, height, width = (size // 2 for size in even.shape)
        volume = even.reshape(depth, 2, height, 2, width, 2).mean(axis=(1, 3, 5))
