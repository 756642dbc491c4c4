"""Gaussian smoothing of a map, whole or in a box.

Every voxel is summed in the same order whatever the box, so that a box is cut from the smoothed map to the last bit.
"""

import math
from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

Box = tuple[slice, slice, slice]


def gaussian_weights(sigma_voxels: float) -> list[float]:
    """Weights of the neighbours along an axis, cut at 3 sigma; their sum is 1."""
    reach = max(1, math.ceil(3 * sigma_voxels))
    weights = [math.exp(-0.5 * (offset / sigma_voxels) ** 2) for offset in range(-reach, reach + 1)]
    return [weight / sum(weights) for weight in weights]


def smooth(volume: Tensor, weights: Sequence[float], box: Box) -> Tensor:
    """The smoothed volume within a box; float32.

    Parameters
    ----------
    volume : (Z, Y, X), on any device; beyond the border it counts as 0
    weights : of the neighbours along an axis, an odd number
    box : within the volume, with start and stop
    """
    reach = len(weights) // 2
    cut = volume[grown(box, reach, volume.shape)].float()
    ends = zip(box, volume.shape, strict=True)
    missing = [(max(0, reach - part.start), max(0, part.stop + reach - side)) for part, side in ends]
    padding = [voxels for axis in reversed(missing) for voxels in axis]
    smoothed = functional.pad(cut, padding) if any(padding) else cut
    for axis in range(3):
        smoothed = correlate_axis(smoothed, weights, axis)
    return smoothed


def correlate_axis(volume: Tensor, weights: Sequence[float], axis: int) -> Tensor:
    """Weighted sums along an axis of (Z, Y, X), where all neighbours are there.

    Sums of shifted volumes: library convolutions of one channel are many times slower on a CPU.
    """
    length = volume.shape[axis] - len(weights) + 1
    total = volume.narrow(axis, 0, length) * weights[0]
    for offset, weight in enumerate(weights[1:], start=1):
        total.add_(volume.narrow(axis, offset, length), alpha=weight)
    return total


def grown(box: Box, voxels: int, shape_zyx: Sequence[int]) -> Box:
    """The box with so many more voxels on every side, cut to the volume."""
    sides = zip(box, shape_zyx, strict=True)
    return tuple(slice(max(0, part.start - voxels), min(side, part.stop + voxels)) for part, side in sides)


def common(box: Box, other: Box) -> Box:
    """The voxels that two boxes share."""
    pairs = zip(box, other, strict=True)
    return tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in pairs)
