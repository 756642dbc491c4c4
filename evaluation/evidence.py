"""What a tomogram with truth says about every combination of hyperparameters in a grid."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from metrics.fbeta import MATCH_RADIUS_FRACTION
from metrics.threshold_curve import ThresholdCurve
from particle_config import Particle
from postprocessing import METHODS
from postprocessing.detections import Detections
from postprocessing.selection import selected, volume_fractions

SUPPRESSION = "nms_radius_fraction"


@dataclass(frozen=True)
class Grid:
    """Values of every hyperparameter of a method; a single value is a fixed one.

    Attributes
    ----------
    method : a name in postprocessing.METHODS
    values : keyword -> values in ascending order
    """

    method: str
    values: Mapping[str, tuple[float, ...]]

    @property
    def threshold_keyword(self) -> str:
        method = METHODS[self.method]
        return method.score_keyword or method.size_keyword

    @property
    def keywords(self) -> tuple[str, ...]:
        """In the order of the grid's axes: structural ones, suppression, threshold."""
        return (*METHODS[self.method].structural, SUPPRESSION, self.threshold_keyword)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(self.values[keyword]) for keyword in self.keywords)

    @property
    def structures(self) -> list[dict[str, float]]:
        """Every combination of the structural keywords, in the order of the grid."""
        keywords = METHODS[self.method].structural
        combinations = itertools.product(*(self.values[keyword] for keyword in keywords))
        return [dict(zip(keywords, values, strict=True)) for values in combinations]

    @property
    def thresholds(self) -> np.ndarray:
        """(T,) values of the last axis, as the scores of an :class:`Evidence`'s curves count."""
        values = np.array(self.values[self.threshold_keyword])
        return values if METHODS[self.method].score_keyword else as_scores(values)

    def at(self, index: Sequence[int]) -> dict[str, float]:
        """Keyword -> value at a place of the grid."""
        return {keyword: self.values[keyword][i] for keyword, i in zip(self.keywords, index, strict=True)}

    def curve_at(self, index: Sequence[int], evidence: "Evidence") -> ThresholdCurve:
        """The curve over all thresholds that goes through a place of the grid."""
        return evidence.curves[np.ravel_multi_index(tuple(index[:-1]), self.shape[:-1])]


@dataclass(frozen=True)
class Evidence:
    """Of one tomogram about one particle.

    Attributes
    ----------
    counts : (*grid, 3) true positives, false positives, false negatives
    curves : for each structure and suppression radius of the grid, in its order; where the threshold is one of size,
        the score of a candidate of v sphere volumes is v / (1 + v), whose logit is the logarithm of v
    """

    counts: np.ndarray
    curves: tuple[ThresholdCurve, ...]


def gather_evidence(
    candidates: Sequence[Detections],
    truth_zyx_angstrom: np.ndarray,
    *,
    grid: Grid,
    particle: Particle,
    voxel_spacing_angstrom: float,
    trained_radius_voxels: float,
) -> Evidence:
    """Count hits and false picks of one class at every place of the grid.

    Parameters
    ----------
    candidates : for each structure of the grid, in voxels of the tomogram
    truth_zyx_angstrom : (M, 3); may be empty
    """
    radius_voxels = particle.radius_angstrom / voxel_spacing_angstrom
    count = _count_by_score if METHODS[grid.method].score_keyword else _count_by_size
    counts, curves = [], []
    for found in candidates:
        distances = cdist(found.coordinates_zyx * voxel_spacing_angstrom, truth_zyx_angstrom)
        near = distances <= MATCH_RADIUS_FRACTION * particle.radius_angstrom
        for fraction in grid.values[SUPPRESSION]:
            radii = {
                "radius_voxels": radius_voxels,
                "trained_radius_voxels": trained_radius_voxels,
                "nms_radius_fraction": fraction,
            }
            numbers, curve = count(found, near, radii, grid.values[grid.threshold_keyword])
            counts.append(numbers)
            curves.append(curve)
    return Evidence(np.array(counts).reshape(*grid.shape, 3), tuple(curves))


def _count_by_score(found: Detections, near: np.ndarray, radii: Mapping[str, float], thresholds: Sequence[float]):
    """Suppression does not depend on weaker candidates: once for all thresholds."""
    curve = _curve(found.scores, near, selected(found, **radii))
    return curve.counts_at(np.array(thresholds)), curve


def _count_by_size(found: Detections, near: np.ndarray, radii: Mapping[str, float], thresholds: Sequence[float]):
    """Small candidates may suppress large ones: once for every threshold that takes any away."""
    sizes = volume_fractions(found, radii["trained_radius_voxels"])
    counts, before = [], None
    for threshold in thresholds:
        accepted = int((sizes >= threshold).sum())
        if accepted != before:
            kept = selected(found, **radii, smallest_volume_fraction=threshold)
            hits = int(near[kept].any(axis=0).sum())
            numbers = (hits, len(kept) - hits, near.shape[1] - hits)
        counts.append(numbers)
        before = accepted
    return np.array(counts), _curve(as_scores(sizes), near, selected(found, **radii))


def _curve(scores: np.ndarray, near: np.ndarray, kept: np.ndarray) -> ThresholdCurve:
    hit_scores = np.where(near[kept], scores[kept, None], -np.inf).max(axis=0, initial=-np.inf)
    return ThresholdCurve(scores[kept], hit_scores)


def ranking_scores(found: Detections, method: str, trained_radius_voxels: float) -> np.ndarray:
    """(N,) in 0..1, what the method's threshold is about: the scores, or else the sizes."""
    if METHODS[method].score_keyword:
        return found.scores
    return as_scores(volume_fractions(found, trained_radius_voxels))


def as_scores(volume_fractions: np.ndarray) -> np.ndarray:
    """Sizes in sphere volumes -> 0 to 1, rising with the size."""
    return volume_fractions / (1 + volume_fractions)
