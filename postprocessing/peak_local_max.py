"""peak_local_max_gpu: peaks of the smoothed probability map, found by max-pooling on the map's own device."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from postprocessing.detections import Detections, no_detections
from postprocessing.suppression import suppress

# Width of the smoothing in units of the trained target radius: wide enough to turn the plateau that a sphere
# target teaches into one peak at its centre, narrow enough to keep neighbours apart.
SMOOTHING_FRACTION = 0.4
MIN_SIGMA_VOXELS = 0.5


def detect(
    probability: Tensor,
    *,
    radius_voxels: float,
    trained_radius_voxels: float,
    peak_threshold: float,
    nms_radius_fraction: float,
) -> Detections:
    """Peaks of one class's probability map.

    The map is smoothed with a Gaussian, a voxel is a peak when it equals the maximum of its neighbourhood and
    reaches the threshold, its place is refined by a parabola along each axis, and the weaker of two peaks within
    the suppression radius goes.

    Parameters
    ----------
    probability : (Z, Y, X) float tensor in 0..1, on any device
    radius_voxels : physical particle radius
    trained_radius_voxels : radius of the targets that the network was trained on
    peak_threshold : lowest accepted value of the smoothed map; above 0
    nms_radius_fraction : suppression radius in units of ``radius_voxels``

    Returns
    -------
    Detections
        Scores are the smoothed probability at the peak. Peaks at the border count; on a plateau the first voxel
        in z, y, x order within the suppression radius stays. Empty map: no detections.
    """
    if probability.numel() == 0:
        return no_detections()
    smoothed = gaussian_smooth(probability.float(), max(SMOOTHING_FRACTION * trained_radius_voxels, MIN_SIGMA_VOXELS))
    suppression_radius = nms_radius_fraction * radius_voxels
    # The cube lies inside the suppression sphere: pooling never removes a peak that suppression would keep.
    reach = max(1, int(suppression_radius / math.sqrt(3)))
    is_peak = (smoothed == max_pool(smoothed, reach)) & (smoothed >= max(peak_threshold, torch.finfo().tiny))
    voxels = is_peak.nonzero()
    scores = smoothed[is_peak]
    places = voxels + parabola_offsets(smoothed, voxels)
    found = Detections(places.double().cpu().numpy(), scores.double().cpu().numpy())
    return suppress(found, suppression_radius)


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
