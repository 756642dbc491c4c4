"""The voxels of a class as a sorted list: work on them costs what the class fills, not what the volume holds.

Integers throughout, so that a CPU and a GPU give the same result to the last bit.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

# The other half of the 26 neighbours lies before a voxel in the order of the list; (0, 0, 1) is in the same run.
_ROWS_AHEAD = ((0, 1), (1, -1), (1, 0), (1, 1))
SCAN_VOXELS = 64


@dataclass(frozen=True)
class VoxelList:
    """Some voxels of a volume, in the order of z, y, x.

    Attributes
    ----------
    places : (N,) int64, ascending; linear index in the volume with a margin of one voxel on every side, so that a
        step to a neighbour never ends in another row
    shape_zyx : of the volume without the margin
    """

    places: Tensor
    shape_zyx: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def strides(self) -> tuple[int, int, int]:
        """What one step along z, y, x adds to a place."""
        _, height, width = self.shape_zyx
        return (height + 2) * (width + 2), width + 2, 1

    def coordinates_zyx(self) -> Tensor:
        """(N, 3) int64 voxels of the volume."""
        plane, row, _ = self.strides
        return torch.stack([self.places // plane, self.places % plane // row, self.places % row], dim=1) - 1

    def selected(self, mask: Tensor) -> "VoxelList":
        return VoxelList(self.places[mask], self.shape_zyx)

    @cached_property
    def _positions(self) -> Tensor:
        """(volume with margin,) int32: the one thing here as large as the volume, looked up but never scanned."""
        depth, height, width = self.shape_zyx
        table = self.places.new_full(((depth + 2) * (height + 2) * (width + 2),), len(self), dtype=torch.int32)
        table[self.places] = torch.arange(len(self), dtype=torch.int32, device=self.places.device)
        return table

    def index_of(self, places: Tensor) -> Tensor:
        """Positions in the list, N for places that are not in it; any shape."""
        return self._positions[places].long()

    def neighbours(self, axis: int) -> tuple[Tensor, Tensor]:
        """The voxels before and after each along an axis: positions in the list, N: not in it, N + 1: no voxel."""
        coordinate, stride, outside = self.coordinates_zyx()[:, axis], self.strides[axis], len(self) + 1
        before = self.index_of(self.places - stride).masked_fill_(coordinate == 0, outside)
        after = self.index_of(self.places + stride).masked_fill_(coordinate == self.shape_zyx[axis] - 1, outside)
        return before, after


def voxels_above(volume: Tensor, threshold: float) -> VoxelList:
    """The voxels of a (Z, Y, X) tensor that lie above the threshold, on its device."""
    flat = volume.reshape(-1)
    # Maxima of short runs first: nearly all of a map is far below, and comparing them costs a fraction.
    whole = flat.numel() // SCAN_VOXELS * SCAN_VOXELS
    runs = flat[:whole].view(-1, SCAN_VOXELS)
    busy = (runs.amax(1) > threshold).nonzero().squeeze(1)
    run, place = (runs.index_select(0, busy) > threshold).nonzero().unbind(1)
    rest = (flat[whole:] > threshold).nonzero().squeeze(1)
    return _voxel_list(torch.cat([busy[run] * SCAN_VOXELS + place, whole + rest]), tuple(volume.shape))


def voxels_where(mask: Tensor) -> VoxelList:
    """The true voxels of a (Z, Y, X) boolean tensor, on its device."""
    return _voxel_list(mask.reshape(-1).nonzero().squeeze(1), tuple(mask.shape))


def _voxel_list(flat: Tensor, shape_zyx: tuple[int, int, int]) -> VoxelList:
    _, height, width = shape_zyx
    rows = flat // width
    # Two voxels of margin per row, two rows per plane, and the plane, row and voxel ahead of the first.
    places = flat + 2 * rows + (rows // height) * 2 * (width + 2) + (height + 2) * (width + 2) + (width + 2) + 1
    return VoxelList(places, shape_zyx)


def connected_components(voxels: VoxelList) -> tuple[Tensor, int]:
    """26-connected components, by joining runs of voxels along x.

    Returns
    -------
    labels : (N,) int64, 0 to count - 1 in the order of each component's first voxel
    count : number of components
    """
    run_of, first, last = _runs(voxels.places)
    starts, ends = voxels.places[first], voxels.places[last]
    numbers = torch.arange(len(starts), device=starts.device)
    edges = []
    for dz, dy in _ROWS_AHEAD:
        shift = dz * voxels.strides[0] + dy * voxels.strides[1]
        # Runs of that row which reach the stretch from one voxel before this run to one voxel after it.
        begin = torch.searchsorted(ends, starts + (shift - 1))
        touching = (torch.searchsorted(starts, ends + (shift + 1), right=True) - begin).clamp_(min=0)
        ours = numbers.repeat_interleave(touching)
        rank = torch.arange(len(ours), device=ours.device) - (touching.cumsum(0) - touching)[ours]
        edges.append(torch.stack([ours, begin[ours] + rank]))
    roots = _join(len(starts), torch.cat(edges, dim=1))
    distinct, labels = roots.unique(return_inverse=True)
    return labels[run_of], len(distinct)


def squared_distances(voxels: VoxelList, limit_voxels: int) -> Tensor:
    """Squared Euclidean distance of every voxel to the nearest voxel that is not in the list; exact.

    Along x it is the way to the end of the run; along y and z the lower envelope of the parabolas
    ``value(k) + (i - k)**2``, which steps to the direct neighbours at costs 1, 3, 5, ... build up.

    Parameters
    ----------
    voxels : N voxels
    limit_voxels : larger distances count as this one, which bounds the work; what lies outside of the volume is
        unknown and counts as far away

    Returns
    -------
    (N,) int64
    """
    run_of, first, last = _runs(voxels.places)
    x, width = voxels.coordinates_zyx()[:, 2], voxels.shape_zyx[2]
    ahead, behind = x - x[first][run_of] + 1, x[last][run_of] - x + 1
    ahead.masked_fill_((x[first] == 0)[run_of], limit_voxels)
    behind.masked_fill_((x[last] == width - 1)[run_of], limit_voxels)
    squared = torch.minimum(ahead, behind).clamp_(max=limit_voxels) ** 2
    beyond = squared.new_tensor([0, limit_voxels**2])
    for axis in (1, 0):
        before, after = voxels.neighbours(axis)
        for step in range(limit_voxels):
            known = torch.cat([squared, beyond])
            lowered = torch.minimum(squared, torch.minimum(known[before], known[after]) + (2 * step + 1))
            if torch.equal(lowered, squared):
                break
            squared = lowered
    return squared


def _runs(places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Stretches of neighbours along x: the run of every voxel, the first and the last voxel of every run."""
    breaks = places.diff() != 1
    edge = breaks.new_ones(min(len(places), 1))
    begins, ends = torch.cat([edge, breaks]), torch.cat([breaks, edge])
    return begins.cumsum(0) - 1, begins.nonzero().squeeze(1), ends.nonzero().squeeze(1)


def _join(count: int, edges: Tensor) -> Tensor:
    """(count,) the smallest node that is connected with each node; ``edges`` is (2, E)."""
    root = torch.arange(count, device=edges.device)
    while True:
        ends = root[edges]
        lowest = ends.amin(dim=0)
        joined = root.scatter_reduce(0, ends.flatten(), lowest.repeat(2), "amin")
        while not torch.equal(joined, shorter := joined[joined]):
            joined = shorter
        if torch.equal(joined, root):
            return root
        root = joined
