"""peak_local_max_gpu: peaks of the smoothed probability map, found by max-pooling on the map's own device."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from postprocessing.blocks import Block, blocks_that_reach
from postprocessing.detections import Detections, no_detections
from postprocessing.smoothing import common, gaussian_weights, grown, smooth

# Width of the smoothing in units of the trained target radius: wide enough to turn the plateau that a sphere
# target teaches into one peak at its centre, narrow enough to keep neighbours apart.
SMOOTHING_FRACTION = 0.4
MIN_SIGMA_VOXELS = 0.5
# (peak, voxel) pairs at a time when sizes are counted.
CHUNK_PAIRS = 2**22


def candidates(probability: Tensor, *, trained_radius_voxels: float, floor: float) -> Detections:
    """Peaks of one class's probability map.

    The map is smoothed with a Gaussian; a voxel is a peak when it equals the maximum of the cube that fits into the
    trained sphere about it: no second particle can have its centre there. Its position is refined by a parabola along
    each axis.

    Parameters
    ----------
    probability : (Z, Y, X) float tensor in 0..1, on any device
    trained_radius_voxels : radius of the targets that the network was trained on
    floor : lowest value of the smoothed map at a peak; above 0

    Returns
    -------
    Detections
        Scores are the smoothed probability at the peak, sizes the voxels of the trained sphere about it whose
        probability is above half of the score. Peaks at the border count; a plateau is one peak, at its first voxel
        in z, y, x order. Nothing from the floor up: no detections.
    """
    weights = gaussian_weights(max(SMOOTHING_FRACTION * trained_radius_voxels, MIN_SIGMA_VOXELS))
    reach = max(1, int(trained_radius_voxels / math.sqrt(3)))
    floor = max(floor, torch.finfo().tiny)
    blocks = blocks_that_reach(probability, weights, floor, distance_voxels=reach)
    if not blocks:
        return no_detections()
    found = torch.cat([peaks_in_block(probability, block, weights, reach, floor) for block in blocks])
    # Blocks may overlap: what lies in two of them was found twice, and alike.
    found = found.unique(dim=0)
    voxels, offsets, scores = found[:, :3], found[:, 3:6], found[:, 6]
    sizes = filled_voxels(probability, voxels.long(), scores / 2, trained_radius_voxels)
    return Detections(*(values.double().cpu().numpy() for values in (voxels.double() + offsets, scores, sizes)))


def peaks_in_block(probability: Tensor, block: Block, weights: Sequence[float], reach: int, floor: float) -> Tensor:
    """Voxel, sub-voxel offset and height of the peaks in a block of the smoothed map.

    Parameters
    ----------
    weights : of the smoothing
    reach : half side of the cube whose maximum a peak is, at least 1
    floor : lowest height

    Returns
    -------
    (N, 7) float32
    """
    # All that can be higher than a peak lies in its cube and in the region; one voxel more tells whether its
    # neighbours are peaks too. The parabola needs the next voxel even outside of the region.
    box = grown(common(grown(block.box, reach + 1, probability.shape), block.region), 1, probability.shape)
    smoothed = smooth(probability, weights, box)
    peaks = first_of_plateaus((smoothed == max_pool(smoothed, reach)) & (smoothed >= floor))
    origin = [sides.start for sides in box]
    inner = tuple(slice(a.start - first, a.stop - first) for a, first in zip(block.box, origin, strict=True))
    voxels = peaks[inner].nonzero() + torch.tensor([sides.start for sides in inner], device=peaks.device)
    neighbours = functional.pad(smoothed, [1] * 6, value=-math.inf)
    offsets = parabola_offsets(neighbours, voxels + 1)
    heights = smoothed[tuple(voxels.T)]
    return torch.cat([voxels + torch.tensor(origin, device=peaks.device), offsets, heights[:, None]], dim=1)


def max_pool(volume: Tensor, reach: int) -> Tensor:
    """Maximum of (Z, Y, X) over the cube of ``2 * reach + 1`` voxels around each voxel.

    Axis by axis, each by doubling: the maximum over 2n voxels is that of two maxima over n.
    """
    width = 2 * reach + 1
    for axis in range(3):
        volume = _pad(volume, axis, reach, -math.inf)
        covered = 1
        while covered < width:
            step = min(covered, width - covered)
            length = volume.shape[axis] - step
            volume = torch.maximum(volume.narrow(axis, 0, length), volume.narrow(axis, step, length))
            covered += step
    return volume


def _pad(volume: Tensor, axis: int, reach: int, value: float) -> Tensor:
    padding = [0] * 6
    padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = reach
    return functional.pad(volume, padding, value=value)


def parabola_offsets(volume: Tensor, peaks: Tensor) -> Tensor:
    """Offset in voxels, within +-0.5, of the vertex of a parabola through each peak and its two neighbours.

    Parameters
    ----------
    volume : (Z, Y, X) with a margin of minus infinity
    peaks : (N, 3) integer voxels of local maxima, not in the margin

    Returns
    -------
    (N, 3) float tensor; 0 along an axis where the peak lies beside the margin or the map is flat.
    """
    strides = torch.tensor(volume.stride(), device=peaks.device)
    flat, index = volume.reshape(-1), (peaks * strides).sum(dim=1, keepdim=True)
    before, centre, after = flat[index - strides], flat[index], flat[index + strides]
    curvature = before - 2 * centre + after
    vertex = (0.5 * (before - after) / curvature).clamp(-0.5, 0.5)
    return torch.where(curvature.isfinite() & (curvature < 0), vertex, 0.0)


def first_of_plateaus(peaks: Tensor) -> Tensor:
    """The (Z, Y, X) mask of peaks without those that touch one ahead of them in the order of z, y, x.

    Peaks that touch are equally high: each is the maximum about the other.
    """
    rows = peaks | _moved(peaks, 2, 1) | _moved(peaks, 2, -1)
    planes = rows | _moved(rows, 1, 1) | _moved(rows, 1, -1)
    return peaks & ~(_moved(peaks, 2, 1) | _moved(rows, 1, 1) | _moved(planes, 0, 1))


def _moved(mask: Tensor, axis: int, step: int) -> Tensor:
    """The mask one voxel on (step 1) or back (-1), False where nothing came from."""
    return _pad(mask, axis, 1, False).narrow(axis, 1 - step, mask.shape[axis])


def filled_voxels(volume: Tensor, centres: Tensor, levels: Tensor, radius_voxels: float) -> Tensor:
    """(N,) number of voxels above each level in the sphere about each of the (N, 3) voxels."""
    steps = torch.arange(-int(radius_voxels), int(radius_voxels) + 1, device=centres.device)
    ball = torch.cartesian_prod(steps, steps, steps)
    ball = ball[ball.square().sum(dim=1) <= radius_voxels**2]
    shape = torch.tensor(volume.shape, device=centres.device)
    numbers = [levels.new_zeros(0)]
    for centre, level in zip(*(t.split(max(1, CHUNK_PAIRS // len(ball))) for t in (centres, levels)), strict=True):
        around = centre[:, None] + ball
        inside = ((around >= 0) & (around < shape)).all(dim=2)
        above = volume[tuple(torch.minimum(around.clamp(min=0), shape - 1).unbind(2))] > level[:, None]
        numbers.append((above & inside).sum(dim=1))
    return torch.cat(numbers)
