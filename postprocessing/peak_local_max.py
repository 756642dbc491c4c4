"""peak_local_max_gpu: peaks of the smoothed probability map, found by max-pooling on the map's own device."""

import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional

from postprocessing.detections import Detections

# Width of the smoothing in units of the trained target radius: wide enough to turn the plateau that a sphere
# target teaches into one peak at its centre, narrow enough to keep neighbours apart.
SMOOTHING_FRACTION = 0.4
MIN_SIGMA_VOXELS = 0.5
# (peak, voxel) pairs at a time when sizes are counted.
CHUNK_PAIRS = 2**22


def candidates(probability: Tensor, *, trained_radius_voxels: float, floor: float) -> Detections:
    """Peaks of one class's probability map.

    The map is smoothed with a Gaussian; a voxel is a peak when it equals the maximum of the cube that fits into the
    trained sphere about it: no second particle can have its centre there. Its place is refined by a parabola along
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
    smoothed = gaussian_smooth(probability.float(), max(SMOOTHING_FRACTION * trained_radius_voxels, MIN_SIGMA_VOXELS))
    reach = max(1, int(trained_radius_voxels / math.sqrt(3)))
    is_peak = (smoothed == max_pool(smoothed, reach)) & (smoothed >= max(floor, torch.finfo().tiny))
    voxels = first_of_plateaus(smoothed, is_peak.nonzero())
    scores = smoothed[tuple(voxels.T)]
    places = voxels + parabola_offsets(smoothed, voxels)
    sizes = filled_voxels(probability, voxels, scores / 2, trained_radius_voxels)
    return Detections(*(values.double().cpu().numpy() for values in (places, scores, sizes)))


def gaussian_smooth(volume: Tensor, sigma_voxels: float) -> Tensor:
    """Separable Gaussian of (Z, Y, X), cut at 3 sigma; beyond the border the volume counts as 0.

    Sums of shifted volumes: library convolutions of one channel are many times slower on a CPU.
    """
    reach = max(1, math.ceil(3 * sigma_voxels))
    weights = [math.exp(-0.5 * (offset / sigma_voxels) ** 2) for offset in range(-reach, reach + 1)]
    total = sum(weights)
    for axis in range(3):
        padded = _pad(volume, axis, reach, 0.0)
        volume = torch.zeros_like(volume)
        for offset, weight in enumerate(weights):
            volume.add_(padded.narrow(axis, offset, volume.shape[axis]), alpha=weight / total)
    return volume


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
    volume : (Z, Y, X); peaks : (N, 3) integer places of local maxima

    Returns
    -------
    (N, 3) float tensor; 0 along an axis where the peak lies at the border or the map is flat.
    """
    offsets = torch.zeros(peaks.shape, dtype=volume.dtype, device=volume.device)
    centre = volume[tuple(peaks.T)]
    for axis in range(3):
        last = volume.shape[axis] - 1
        step = torch.zeros(3, dtype=peaks.dtype, device=peaks.device)
        step[axis] = 1
        before = volume[tuple((peaks - step).clamp(min=0).T)]
        after = volume[tuple(torch.minimum(peaks + step, torch.tensor(volume.shape, device=peaks.device) - 1).T)]
        curvature = before - 2 * centre + after
        inside = (peaks[:, axis] > 0) & (peaks[:, axis] < last) & (curvature < 0)
        vertex = 0.5 * (before - after) / torch.where(inside, curvature, torch.ones_like(curvature))
        offsets[:, axis] = torch.where(inside, vertex.clamp(-0.5, 0.5), torch.zeros_like(vertex))
    return offsets


def first_of_plateaus(volume: Tensor, peaks: Tensor) -> Tensor:
    """The (N, 3) peaks without those that have an equal neighbour ahead of them in the order of z, y, x."""
    heights = volume[tuple(peaks.T)]
    first = torch.ones_like(heights, dtype=torch.bool)
    last = torch.tensor(volume.shape, device=peaks.device) - 1
    for step in itertools.islice(itertools.product((-1, 0, 1), repeat=3), 13):  # the other 13 lie behind
        before = peaks + torch.tensor(step, device=peaks.device)
        inside = ((before >= 0) & (before <= last)).all(dim=1)
        first &= ~inside | (volume[tuple(torch.minimum(before.clamp(min=0), last).T)] != heights)
    return peaks[first]


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
