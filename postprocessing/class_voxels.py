"""The voxels of a class: work on them costs what the class fills, not what the volume holds."""

import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
import torch
from torch import Tensor

from postprocessing.detections import Detections
from postprocessing.smoothing import Box, grown

# Compared first are the maxima of runs of so many voxels: nearly all of a map is far below.
RUN_VOXELS = 64
# Voxels that are worked on at a time, at 100 to 200 bytes each. What is larger is no group of particles that touch but
# a map that is diffuse: it goes tile by tile.
BLOCK_VOXELS = 2**23
# Of a tile without what it sees around it.
TILE_SIDE = 128


def voxels_above(volume: Tensor, threshold: float) -> Tensor:
    """(N, 3) int64 voxels of a (Z, Y, X) tensor that lie above the threshold, in the order of z, y, x."""
    return torch.stack(torch.unravel_index(flat_voxels_above(volume, threshold), volume.shape), dim=1)


def flat_voxels_above(volume: Tensor, threshold: float) -> Tensor:
    """The same as (N,) places in the flat volume."""
    flat = volume.reshape(-1)
    whole = flat.numel() // RUN_VOXELS * RUN_VOXELS
    runs = flat[:whole].view(-1, RUN_VOXELS)
    found = []
    for busy in (runs.amax(1) > threshold).nonzero().squeeze(1).split(BLOCK_VOXELS // RUN_VOXELS):
        run, within = (runs.index_select(0, busy) > threshold).nonzero().unbind(1)
        found.append(busy[run].mul_(RUN_VOXELS).add_(within))
    return torch.cat([*found, whole + (flat[whole:] > threshold).nonzero().squeeze(1)])


def tiles(shape_zyx: Sequence[int], halo_voxels: int) -> Iterator[tuple[Box, Box]]:
    """Boxes that together are the volume, none in another, and each of them with so many more voxels around it."""
    counts = [-(-side // TILE_SIDE) for side in shape_zyx]
    ends = [[round(side * k / count) for k in range(count + 1)] for side, count in zip(shape_zyx, counts, strict=True)]
    for core in itertools.product(*([slice(*pair) for pair in itertools.pairwise(axis)] for axis in ends)):
        yield core, grown(core, halo_voxels, shape_zyx)


def warn_of_diffuse_map(voxels: int, threshold: float) -> None:
    warnings.warn(
        f"{voxels / 1e6:.1f} million voxels of a class are above {threshold:g} together: the map is diffuse, and what "
        "is found there is hardly particles; a higher threshold or another network may do better",
        stacklevel=3,
    )


@dataclass(frozen=True)
class Components:
    """The 26-connected components of ``probability > threshold``, on the CPU.

    Attributes
    ----------
    flat_voxels : (N,) places of the voxels of the class in the flat volume, N at least 1
    values : (N,) their probabilities
    shape_zyx : of the volume
    origin_zyx : of the box that holds them, with a margin of one voxel wherever the volume goes on
    labels : the box: 0, or 1 to the number of components; who parts a component gives its parts further numbers
    """

    flat_voxels: np.ndarray
    values: np.ndarray
    shape_zyx: tuple[int, int, int]
    origin_zyx: np.ndarray
    labels: np.ndarray

    def statistics(self) -> Detections:
        """Centroid, mean probability and number of voxels of each label."""
        count = int(self.labels.max()) + 1
        sizes, sums = np.zeros(count), np.zeros((count, 4))
        for begin in range(0, len(self.values), BLOCK_VOXELS):
            part = slice(begin, begin + BLOCK_VOXELS)
            voxels = np.unravel_index(self.flat_voxels[part], self.shape_zyx)
            numbers = self.labels[tuple(axis - first for axis, first in zip(voxels, self.origin_zyx, strict=True))]
            sizes += np.bincount(numbers, minlength=count)
            for column, weights in enumerate((*voxels, self.values[part])):
                sums[:, column] += np.bincount(numbers, weights=weights, minlength=count)
        means = sums[1:] / sizes[1:, None]
        return Detections(means[:, :3], means[:, 3], sizes[1:])


def class_components(probability: Tensor, threshold: float) -> Components | None:
    """Those of a (Z, Y, X) map, from whose device only voxels of the class are taken; None without any voxel."""
    flat, shape = flat_voxels_above(probability, threshold), tuple(probability.shape)
    if len(flat) == 0:
        return None
    values = probability.reshape(-1)[flat]
    values = (values if values.dtype == torch.float64 else values.float()).cpu().numpy()
    flat = flat.cpu().numpy()
    parts = [flat[begin : begin + BLOCK_VOXELS] for begin in range(0, len(flat), BLOCK_VOXELS)]
    extents = [[(axis.min(), axis.max()) for axis in np.unravel_index(part, shape)] for part in parts]
    origin = np.maximum(np.min(extents, axis=0)[:, 0] - 1, 0)
    end = np.minimum(np.max(extents, axis=0)[:, 1] + 2, shape)
    # One voxel more: cc3d fails on two voxels in a box of three.
    mask = np.zeros(end - origin + 1, dtype=bool)
    for part in parts:
        mask[tuple(axis - first for axis, first in zip(np.unravel_index(part, shape), origin, strict=True))] = True
    z, y, x = end - origin
    labels = cc3d.connected_components(mask, connectivity=26, out_dtype=np.uint32)
    return Components(flat, values, shape, origin, labels[:z, :y, :x])
