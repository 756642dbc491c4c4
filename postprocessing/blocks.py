"""Where a smoothed map can reach a level, known before it is smoothed.

Nearly all of a probability map is too low to hold a peak. The maxima of coarse voxels say what the smoothed map can
reach at most; where that is enough lie connected regions, worked on in blocks, and only they need to be smoothed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from postprocessing.smoothing import Box, correlate_axis

# Least side of a coarse voxel, in voxels.
MIN_SIDE_VOXELS = 4
# On a CPU large regions are worked on in blocks of so many coarse voxels along each axis, which stay in its cache. On a
# GPU everything is one region and one block.
BLOCK_SIDE = 24
# Bounds are sums of rounded numbers.
ROUNDING = 1e-4


@dataclass(frozen=True)
class Block:
    """A block of a region; boxes in voxels, within the volume.

    Attributes
    ----------
    box : about the block
    region : about the whole region; what lies outside and within the distance asked for is below the level
    """

    box: Box
    region: Box


def blocks_that_reach(volume: Tensor, weights: Sequence[float], level: float, distance_voxels: int) -> list[Block]:
    """Blocks that together hold every voxel whose smoothed value is the level or more; boxes may overlap.

    Parameters
    ----------
    volume : (Z, Y, X) float tensor, on any device
    weights : of the smoothing along an axis, not negative, an odd number
    level : above 0
    distance_voxels : two voxels of different regions are farther apart along at least one axis
    """
    # There is at least a whole coarse voxel between two regions.
    side = max(MIN_SIDE_VOXELS, distance_voxels)
    maxima = coarse_maxima(volume, side).float().clamp_(min=0)
    busy = _highest_smoothed(maxima, weights, side) * (1 + ROUNDING) >= level
    voxels = busy.nonzero()
    if len(voxels) == 0:
        return []
    region = block = torch.zeros(len(voxels), dtype=torch.int64, device=volume.device)
    if volume.device.type == "cpu":
        labels = cc3d.connected_components(np.pad(busy.numpy(), 1), connectivity=26)[1:-1, 1:-1, 1:-1]
        region = torch.from_numpy(labels[busy.numpy()].astype(np.int64) - 1)
        first, _ = _extent(voxels, region)
        block = region
        for step in ((voxels - first[region]) // BLOCK_SIDE).unbind(1):
            block = block * (int(step.max()) + 1) + step
        block = block.unique(return_inverse=True)[1]
    regions, blocks = (_boxes(*_extent(voxels, of), side, volume.shape) for of in (region, block))
    region_of_block = torch.zeros(len(blocks), dtype=torch.int64, device=volume.device).scatter_(0, block, region)
    return [Block(box, regions[number]) for box, number in zip(blocks, region_of_block.tolist(), strict=True)]


def coarse_maxima(volume: Tensor, side: int) -> Tensor:
    """Maximum of each coarse voxel of ``side`` voxels along every axis; the last of an axis is what is left.

    Axis by axis, z first: whole planes are the fastest to go through, and library pooling takes twice as long.
    """
    for axis in range(3):
        whole = volume.shape[axis] // side * side
        rest = volume.shape[axis] - whole
        maxima = volume.narrow(axis, 0, whole).unflatten(axis, (-1, side)).amax(axis + 1)
        if rest:
            maxima = torch.cat([maxima, volume.narrow(axis, whole, rest).amax(axis, keepdim=True)], dim=axis)
        volume = maxima
    return volume


def _highest_smoothed(maxima: Tensor, weights: Sequence[float], side: int) -> Tensor:
    """What the smoothed value can be at most in each coarse voxel, given their maxima.

    Axis by axis: were all voxels of a coarse one as high as the highest, how high would the highest of their sums be?
    """
    reach = len(weights) // 2
    far = math.ceil(reach / side)
    for axis in range(3):
        padded = functional.pad(maxima, [far if axis == 2 - end // 2 else 0 for end in range(6)])
        highest = torch.zeros_like(maxima)
        for voxel in range(side):
            begins = [coarse * side - voxel + reach for coarse in range(-far, far + 1)]
            shares = [sum(weights[max(0, begin) : max(0, begin + side)]) for begin in begins]
            torch.maximum(highest, correlate_axis(padded, shares, axis), out=highest)
        maxima = highest
    return maxima


def _extent(voxels: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """First and last of the (N, 3) voxels in each group, 0 to G - 1 without a gap: two of (G, 3)."""
    index = group[:, None].expand(-1, 3)
    empty = voxels.new_zeros(int(group.max()) + 1, 3)
    return tuple(empty.scatter_reduce(0, index, voxels, how, include_self=False) for how in ("amin", "amax"))


def _boxes(first: Tensor, last: Tensor, side: int, shape_zyx: Sequence[int]) -> list[Box]:
    ends = torch.minimum((last + 1) * side, torch.tensor(shape_zyx, device=last.device))
    return [tuple(map(slice, *pair)) for pair in zip((first * side).tolist(), ends.tolist(), strict=True)]
