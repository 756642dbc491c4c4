"""Gaussian smoothing of a map, in a box of it, and the boxes that are worth it.

Nearly all of a probability map is too low to hold a peak. What the smoothed map can reach at most is known from the
maxima of cells of voxels; only boxes about those that can reach the level are smoothed. Every voxel is summed in the
same order whatever the box: the result is that of smoothing everything, to the last bit.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from postprocessing.voxel_list import VoxelList, connected_components, voxels_where

Box = tuple[slice, slice, slice]

CELL_VOXELS = 4
# Cells along each axis of a box on a CPU, so that it stays in a cache; on a GPU one box holds everything.
TILE_CELLS = 16
# Bounds are sums of rounded numbers.
ROUNDING = 1e-4


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
    return _correlate(functional.pad(cut, padding) if any(padding) else cut, weights)


def grown(box: Box, voxels: int, shape_zyx: Sequence[int]) -> Box:
    """The box with so many more voxels on every side, cut to the volume."""
    sides = zip(box, shape_zyx, strict=True)
    return tuple(slice(max(0, part.start - voxels), min(side, part.stop + voxels)) for part, side in sides)


def boxes_that_reach(volume: Tensor, weights: Sequence[float], level: float) -> list[Box]:
    """Boxes, some of them overlapping, that together hold all voxels whose smoothed value is at least ``level``.

    Parameters
    ----------
    volume : (Z, Y, X) float tensor, on any device
    weights : not negative; level : above 0
    """
    cells = cell_maxima(volume, CELL_VOXELS).float().clamp_(min=0)
    shares = _cell_weights(weights, CELL_VOXELS)
    highest = _correlate(functional.pad(cells, [len(shares) // 2] * 6), shares)
    busy = voxels_where(highest * (1 + ROUNDING) >= level)
    first, last = _bounds(busy, TILE_CELLS if volume.device.type == "cpu" else None)
    ends = torch.minimum((last + 1) * CELL_VOXELS, torch.tensor(volume.shape, device=volume.device))
    return [tuple(map(slice, *pair)) for pair in zip((first * CELL_VOXELS).tolist(), ends.tolist(), strict=True)]


def _bounds(cells: VoxelList, tile: int | None) -> tuple[Tensor, Tensor]:
    """First and last cell (B, 3) of every component, in parts of at most ``tile`` along an axis; None: of all cells."""
    places = cells.coordinates_zyx()
    part = torch.zeros(len(cells), dtype=torch.int64, device=places.device)
    if tile is not None:
        part, count = connected_components(cells)
        origin = _of_parts(places, part, count, "amin")
        for step in ((places - origin[part]) // tile).unbind(1):
            part = part * (step.amax() + 1) + step if len(step) else part
    numbers, part = part.unique(return_inverse=True)
    return tuple(_of_parts(places, part, len(numbers), extreme) for extreme in ("amin", "amax"))


def _of_parts(places: Tensor, part: Tensor, count: int, extreme: str) -> Tensor:
    result = places.new_zeros(count, 3)
    return result.scatter_reduce_(0, part[:, None].expand(-1, 3), places, extreme, include_self=False)


def cell_maxima(volume: Tensor, side: int) -> Tensor:
    """Maximum of each cell of ``side`` voxels along every axis; the last cell of an axis is what is left.

    Axis by axis, z first: whole planes are the fastest to go through, and library pooling is half as fast.
    """
    for axis in range(3):
        whole = volume.shape[axis] // side * side
        rest = volume.shape[axis] - whole
        cells = volume.narrow(axis, 0, whole).unflatten(axis, (-1, side)).amax(axis + 1)
        if rest:
            cells = torch.cat([cells, volume.narrow(axis, whole, rest).amax(axis, keepdim=True)], dim=axis)
        volume = cells
    return volume


def _cell_weights(weights: Sequence[float], side: int) -> list[float]:
    """The largest share that a cell so many cells away can have in the sum for a voxel, along an axis."""
    reach = len(weights) // 2
    far = math.ceil(reach / side)

    def share(cells: int, voxel: int) -> float:
        begin = cells * side - voxel + reach
        return sum(weights[max(0, begin) : max(0, begin + side)])

    return [max(share(cells, voxel) for voxel in range(side)) for cells in range(-far, far + 1)]


def _correlate(volume: Tensor, weights: Sequence[float]) -> Tensor:
    """Weighted sums along all axes, where all neighbours are there.

    Sums of shifted volumes: library convolutions of one channel are many times slower on a CPU.
    """
    for axis in range(3):
        length = volume.shape[axis] - len(weights) + 1
        total = volume.narrow(axis, 0, length) * weights[0]
        for offset, weight in enumerate(weights[1:], start=1):
            total.add_(volume.narrow(axis, offset, length), alpha=weight)
        volume = total
    return volume
