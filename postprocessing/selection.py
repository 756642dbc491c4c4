"""From candidates to particles: thresholds on score and size, then suppression."""

import math

import numpy as np

from postprocessing.detections import Detections
from postprocessing.suppression import unsuppressed


def selected(
    candidates: Detections,
    *,
    radius_voxels: float,
    trained_radius_voxels: float,
    nms_radius_fraction: float,
    smallest_score: float | None = None,
    smallest_volume_fraction: float | None = None,
) -> np.ndarray:
    """Which candidates of one class are particles: those above the thresholds, after suppression.

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
    (K,) indices, highest score first; equal scores in the order of z, y, x, so that the result is reproducible. What a
    threshold takes away suppresses nobody.
    """
    accepted = np.ones(len(candidates), dtype=bool)
    if smallest_score is not None:
        accepted &= candidates.scores >= smallest_score
    if smallest_volume_fraction is not None:
        accepted &= volume_fractions(candidates, trained_radius_voxels) >= smallest_volume_fraction
    index = accepted.nonzero()[0]
    chosen = candidates[index]
    return index[unsuppressed(chosen.coordinates_zyx, chosen.scores, nms_radius_fraction * radius_voxels)]


def volume_fractions(candidates: Detections, trained_radius_voxels: float) -> np.ndarray:
    """(N,) sizes as shares of the trained sphere's volume."""
    return candidates.sizes / (4 / 3 * math.pi * trained_radius_voxels**3)


def as_scores(fractions: np.ndarray) -> np.ndarray:
    """Sizes in sphere volumes -> 0 to 1, rising with the size: v / (1 + v), whose logit is the logarithm of v."""
    return fractions / (1 + fractions)
