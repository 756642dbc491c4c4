"""From candidates to particles: thresholds on score and size, then suppression."""

import math

from postprocessing.detections import Detections
from postprocessing.suppression import unsuppressed


def select(
    candidates: Detections,
    *,
    radius_voxels: float,
    trained_radius_voxels: float,
    nms_radius_fraction: float,
    smallest_score: float | None = None,
    smallest_volume_fraction: float | None = None,
) -> Detections:
    """The candidates of one class that are particles.

    Parameters
    ----------
    candidates : of one class, in any order, on the grid in whose voxels the radii are given
    radius_voxels : physical particle radius
    trained_radius_voxels : radius of the targets that the network was trained on
    nms_radius_fraction : of two candidates within this many ``radius_voxels`` (inclusive) the one of lower score goes;
        0: none goes
    smallest_score : lowest accepted score; None: any
    smallest_volume_fraction : smallest accepted size, as a share of the trained sphere's volume; None: any

    Returns
    -------
    Detections
        Highest score first; equal scores in the order of z, y, x, so that the result is reproducible. What a
        threshold takes away suppresses nobody.
    """
    if smallest_score is not None:
        candidates = candidates[candidates.scores >= smallest_score]
    if smallest_volume_fraction is not None:
        smallest = smallest_volume_fraction * 4 / 3 * math.pi * trained_radius_voxels**3
        candidates = candidates[candidates.sizes >= smallest]
    kept = unsuppressed(candidates.coordinates_zyx, candidates.scores, nms_radius_fraction * radius_voxels)
    return candidates[kept]
