"""Where a smoothed map can reach a level, known before it is smoothed.

Nearly all of a probability map is too low to hold a peak. The maxima of cells of voxels say what the smoothed map can
reach at most; where that is enough lie islands of cells, and only they need to be smoothed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from postprocessing.smoothing import Box, correlate_axis
from postprocessing.voxel_list import connected_components, voxels_where

MIN_CELL_VOXELS = 4
# On a CPU large islands are worked on in parts of so many cells along each axis, which stay in its cache. On a GPU
# everything is one island and one part.
PART_CELLS = 24
# Bounds are sums of rounded numbers.
ROUNDING = 1e-4


@dataclass(frozen=True)
class Part:
    """A part of an island of cells; boxes in voxels, within the volume.

    Attributes
    ----------
    box : about the part
    island : about the whole island; what lies outside and within the distance asked for is below the level
    """

    box: Box
    island: Box


def islands_that_reach(volume: Tensor, weights: Sequence[float], level: float, distance_voxels: int) -> list[Part]:
    """Parts that together hold every voxel whose smoothed value is the level or more; boxes may overlap.

    Parameters
    ----------
    volume : (Z, Y, X) float tensor, on any device
    weights : of the smoothing along an axis, not negative, an odd number
    level : above 0
    distance_voxels : two voxels of different islands are farther apart along at least one axis
    """
    # There is at least a whole cell between two islands.
    side = max(MIN_CELL_VOXELS, distance_voxels)
    cells = cell_maxima(volume, side).float().clamp_(min=0)
    busy = voxels_where(_highest_smoothed(cells, weights, side) * (1 + ROUNDING) >= level)
    if len(busy) == 0:
        return []
    places = busy.coordinates_zyx()
    island = part = torch.zeros(len(busy), dtype=torch.int64, device=volume.device)
    if volume.device.type == "cpu":
        island = part = connected_components(busy)[0]
        first, _ = _extent(places, island)
        for step in ((places - first[island]) // PART_CELLS).unbind(1):
            part = part * (int(step.max()) + 1) + step
        part = part.unique(return_inverse=True)[1]
    islands, parts = (_boxes(*_extent(places, of), side, volume.shape) for of in (island, part))
    island_of_part = torch.zeros(len(parts), dtype=torch.int64, device=volume.device).scatter_(0, part, island)
    return [Part(box, islands[number]) for box, number in zip(parts, island_of_part.tolist(), strict=True)]


def cell_maxima(volume: Tensor, side: int) -> Tensor:
    """Maximum of each cell of ``side`` voxels along every axis; the last cell of an axis is what is left.

    Axis by axis, z first: whole planes are the fastest to go through, and library pooling takes twice as long.
    """
    for axis in range(3):
        whole = volume.shape[axis] // side * side
        rest = volume.shape[axis] - whole
        cells = volume.narrow(axis, 0, whole).unflatten(axis, (-1, side)).amax(axis + 1)
        if rest:
            cells = torch.cat([cells, volume.narrow(axis, whole, rest).amax(axis, keepdim=True)], dim=axis)
        volume = cells
    return volume


def _highest_smoothed(cells: Tensor, weights: Sequence[float], side: int) -> Tensor:
    """What the smoothed value can be at most in each cell, given the maxima of the cells.

    Axis by axis: were all voxels of a cell as high as the highest, how high would the highest of their sums be?
    """
    reach = len(weights) // 2
    far = math.ceil(reach / side)
    for axis in range(3):
        padded = functional.pad(cells, [far if axis == 2 - end // 2 else 0 for end in range(6)])
        highest = torch.zeros_like(cells)
        for voxel in range(side):
            begins = [cell * side - voxel + reach for cell in range(-far, far + 1)]
            shares = [sum(weights[max(0, begin) : max(0, begin + side)]) for begin in begins]
            torch.maximum(highest, correlate_axis(padded, shares, axis), out=highest)
        cells = highest
    return cells


def _extent(places: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """First and last of the (N, 3) places in each group, 0 to G - 1 without a gap: two of (G, 3)."""
    index = group[:, None].expand(-1, 3)
    empty = places.new_zeros(int(group.max()) + 1, 3)
    return tuple(empty.scatter_reduce(0, index, places, how, include_self=False) for how in ("amin", "amax"))


def _boxes(first: Tensor, last: Tensor, side: int, shape_zyx: Sequence[int]) -> list[Box]:
    ends = torch.minimum((last + 1) * side, torch.tensor(shape_zyx, device=last.device))
    return [tuple(map(slice, *pair)) for pair in zip((first * side).tolist(), ends.tolist(), strict=True)]
