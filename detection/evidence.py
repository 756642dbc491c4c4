"""How many hits and false picks every combination of hyperparameters in a grid gives on a tomogram with truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detection.grid import Grid
from detection.proposals import Proposals, curve_of
from metrics.threshold_curve import ThresholdCurve
from particle_config import Particle
from postprocessing import METHODS
from postprocessing.detections import Detections
from postprocessing.selection import selected, volume_fractions


@dataclass(frozen=True)
class Evidence:
    """Of one tomogram about one particle.

    Attributes
    ----------
    counts : (*grid, 3) true positives, false positives, false negatives
    curves : one for each combination of all keywords of the grid but the threshold, in its order; where the threshold
        is one of size, the score of a candidate of v sphere volumes is v / (1 + v), whose logit is the logarithm of v
    """

    counts: np.ndarray
    curves: tuple[ThresholdCurve, ...]

    def curve_at(self, index: Sequence[int]) -> ThresholdCurve:
        """The curve over all thresholds that goes through a point of the grid."""
        return self.curves[np.ravel_multi_index(tuple(index[:-1]), self.counts.shape[:-2])]


def gather_evidence(
    proposals: Proposals, truth_zyx_angstrom: Mapping[str, np.ndarray], grid: Grid
) -> dict[str, Evidence]:
    """Particle name -> hits and false picks at every point of the grid.

    Parameters
    ----------
    proposals : for all structures of the grid
    truth_zyx_angstrom : particle name -> (M, 3); none where not named
    """
    truths = {p.name: truth_zyx_angstrom.get(p.name, np.empty((0, 3))) for p in proposals.particles}
    return {p.name: _evidence(proposals, p, truths[p.name], grid) for p in proposals.particles}


def _evidence(proposals: Proposals, particle: Particle, truth_zyx_angstrom: np.ndarray, grid: Grid) -> Evidence:
    by_score = METHODS[grid.method].score_keyword is not None
    radii, thresholds = proposals.radii_voxels[particle.name], grid.values[grid.threshold_keyword]
    counts, curves = [], []
    for structure in grid.structures:
        found = proposals.of(particle.name, structure).detections
        near = proposals.near(particle, found, truth_zyx_angstrom)
        ranking = proposals.ranking(particle.name, found)
        for selection in grid.selections:
            kept = selected(found, **radii, **selection)
            curves.append(curve_of(ranking, near, kept))
            if by_score:  # suppression does not depend on weaker candidates: once for all thresholds
                counts.append(curves[-1].counts_at(np.array(thresholds)))
            else:
                counts.append(_counts_by_size(found, near, {**radii, **selection}, thresholds))
    return Evidence(np.array(counts).reshape(*grid.shape, 3), tuple(curves))


def _counts_by_size(
    found: Detections, near: np.ndarray, selection: Mapping[str, float], thresholds: Sequence[float]
) -> np.ndarray:
    """Small candidates may suppress large ones: once for every threshold that takes any away."""
    sizes = volume_fractions(found, selection["trained_radius_voxels"])
    counts, before = [], None
    for threshold in thresholds:
        accepted = int((sizes >= threshold).sum())
        if accepted != before:
            kept = selected(found, **selection, smallest_volume_fraction=threshold)
            hits = int(near[kept].any(axis=0).sum())
            numbers = (hits, len(kept) - hits, near.shape[1] - hits)
        counts.append(numbers)
        before = accepted
    return np.array(counts)
