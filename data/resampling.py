"""A tomogram on a grid of another voxel size, computed box by box while it is read.

Voxel i of either grid lies at i times its voxel size, so that positions in angstrom are the same on both.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

# Output planes computed together: those of the input that they need are all that is in memory beside the output.
PLANES = 16
# Sizes that differ by less are rounding of the same size.
SAME_SPACING = 0.01

Region = tuple[slice, slice, slice]


class Readable(Protocol):
    """What the voxels come from."""

    shape_zyx: tuple[int, int, int]

    def read(self, region: Region) -> np.ndarray: ...


def must_resample(spacing_zyx: tuple[float, float, float], wanted_angstrom: float) -> bool:
    """Whether the voxel size differs from the wanted one along any axis by more than rounding (1 %)."""
    return any(abs(spacing / wanted_angstrom - 1) > SAME_SPACING for spacing in spacing_zyx)


@dataclass(frozen=True)
class ResampledVolume:
    """A volume on cubes of ``spacing_angstrom``, of which boxes can be read.

    The same filter serves for coarser and for finer grids: cubic convolution (Keys 1981,
    doi:10.1109/TASSP.1981.1163711, a = -1/2), widened by the ratio of the sizes where the grid becomes coarser, so that
    what the new grid cannot hold is averaged away. Unlike a Fourier crop it takes every ratio, is local, so that boxes
    can be read, and does not ring from one border to the other. It keeps constants and, inside, linear slopes exactly.

    Attributes
    ----------
    source : the volume as it is in the file
    source_spacing_zyx : its voxel size along z, y, x, angstrom
    spacing_angstrom : of the new grid
    """

    source: Readable
    source_spacing_zyx: tuple[float, float, float]
    spacing_angstrom: float

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """As many voxels as have their centre between those of the first and the last voxel of the source."""
        return tuple(
            int((n - 1) / ratio + 1e-6) + 1 for n, ratio in zip(self.source.shape_zyx, self._ratios, strict=True)
        )

    @property
    def spacing_zyx(self) -> tuple[float, float, float]:
        return (self.spacing_angstrom,) * 3

    def read(self, region: Region) -> np.ndarray:
        """(Z, Y, X) float32 of three slices within the shape, z, y, x."""
        z, y, x = (range(s.start, s.stop) for s in region)
        out = np.empty((len(z), len(y), len(x)), dtype=np.float32)
        if out.size == 0:
            return out
        box_y, weights_y = self._weights_of(1, y)
        box_x, weights_x = self._weights_of(2, x)
        for first in range(0, len(z), PLANES):
            planes = z[first : first + PLANES]
            box_z, weights_z = self._weights_of(0, planes)
            voxels = self.source.read((box_z, box_y, box_x)).astype(np.float32, copy=False)
            voxels = weights_y @ (voxels @ weights_x.T)  # (z of the source, Y, X)
            out[first : first + len(planes)] = np.tensordot(weights_z, voxels, axes=1)
        return out

    @cached_property
    def _ratios(self) -> tuple[float, float, float]:
        return tuple(self.spacing_angstrom / spacing for spacing in self.source_spacing_zyx)

    def _weights_of(self, axis: int, indices: range) -> tuple[slice, np.ndarray]:
        """Which voxels of the source the given ones are made of, and the weights (new, source) float32."""
        ratio = self._ratios[axis]
        centres = np.array(indices) * ratio
        return interpolation_weights(centres, self.source.shape_zyx[axis], ratio)


def interpolation_weights(centres: np.ndarray, count: int, ratio: float) -> tuple[slice, np.ndarray]:
    """Weights with which the voxels of one axis give the values at any places along it.

    Parameters
    ----------
    centres : (N,) rising places in voxels, from half a voxel before the first to half a voxel behind the last one
    count : voxels of the axis
    ratio : distance of the places in voxels; above 1 the voxels between them are averaged, see ResampledVolume

    Returns
    -------
    The voxels that have a weight, B of them, and the weights, (N, B) float32; the sum over B is 1.
    """
    reach = 2 * max(ratio, 1.0)
    box = slice(max(0, int(np.ceil(centres[0] - reach))), min(count, int(centres[-1] + reach) + 1))
    weights = _keys((np.arange(box.start, box.stop) - centres[:, None]) / max(ratio, 1.0))
    # At a border the voxels that are there stand for those that are not.
    return box, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _keys(distance: np.ndarray) -> np.ndarray:
    """The cubic convolution kernel, a = -1/2: 1 at 0, 0 at all other whole numbers and beyond 2."""
    d = np.abs(distance)
    near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
