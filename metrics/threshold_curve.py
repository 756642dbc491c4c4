"""F-beta over all score thresholds in one pass, and smoothed to choose a threshold by."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from metrics.fbeta import BETA, f_beta, reference_scores

# Silverman's rule has 1.06. A threshold that is too high costs F4 more than one that is too low, which a wider
# kernel allows for; compared in BENCHMARKS.md.
BANDWIDTH_FACTOR = 1.5 * 1.06
MIN_SPREAD = 0.3  # of hits on the logit scale: equal scores of a few particles say nothing about the next
LOGIT_STEP = 0.01


@dataclass(frozen=True)
class ThresholdCurve:
    """F-beta of one particle type at every score threshold, pooled over runs.

    Attributes
    ----------
    scores : (N,) score of every candidate, 0 to 1
    hit_scores : (M,) for every reference the best score within its range; -inf where no candidate is near
    """

    scores: np.ndarray
    hit_scores: np.ndarray

    @property
    def thresholds(self) -> np.ndarray:
        """(T,) descending distinct scores; the k-th point of the curve keeps candidates >= thresholds[k]."""
        return np.unique(self.scores)[::-1]

    @property
    def candidates(self) -> np.ndarray:
        """(T,) number of candidates kept."""
        return _count_at_least(self.scores, self.thresholds)

    @property
    def true_positives(self) -> np.ndarray:
        """(T,) number of references hit."""
        return _count_at_least(self.hit_scores, self.thresholds)

    @property
    def references(self) -> int:
        return len(self.hit_scores)

    def f_beta(self, beta: float = BETA) -> np.ndarray:
        """(T,) F-beta at each threshold."""
        hits, kept = self.true_positives, self.candidates
        return f_beta(hits, kept - hits, self.references - hits, beta)

    def f_beta_at(self, threshold: float, beta: float = BETA) -> float:
        """F-beta of the candidates that score at least the threshold."""
        hits, kept = np.sum(self.hit_scores >= threshold), np.sum(self.scores >= threshold)
        return f_beta(hits, kept - hits, self.references - hits, beta)

    def counts_at(self, thresholds: np.ndarray) -> np.ndarray:
        """(T, 3) true positives, false positives and false negatives of the candidates >= each threshold."""
        hits, kept = _count_at_least(self.hit_scores, thresholds), _count_at_least(self.scores, thresholds)
        return np.stack([hits, kept - hits, self.references - hits], axis=-1)

    def bandwidth(self, factor: float = BANDWIDTH_FACTOR) -> float:
        """Of the kernel for :meth:`smoothed_f_beta`, on the logit scale: the fewer hits, the wider.

        ``factor`` times their standard deviation over the fifth root of their number; 0 without hits.
        """
        hits = logit(self.hit_scores[np.isfinite(self.hit_scores)])
        return factor * max(float(np.std(hits)), MIN_SPREAD) * len(hits) ** -0.2 if len(hits) else 0.0

    def smoothed_f_beta(self, thresholds: np.ndarray, bandwidth: float, beta: float = BETA) -> np.ndarray:
        """(T,) the curve to choose a threshold for other tomograms by.

        The maximum of the curve itself sits just below the weakest hit of a handful: on the next tomogram hits
        fall below it. So hits and candidates are spread with a Gaussian kernel on the logit scale before they are
        counted. A clear gap or a plateau of the curve becomes a hill with its top in the middle. Without hits: 0.
        """
        hits = self.hit_scores[np.isfinite(self.hit_scores)]
        if len(hits) == 0:
            return np.zeros(len(thresholds))
        expected_hits = _expected_at_least(hits, thresholds, bandwidth)
        kept = np.maximum(_expected_at_least(self.scores, thresholds, bandwidth), expected_hits)
        return f_beta(expected_hits, kept - expected_hits, self.references - expected_hits, beta)


def pooled(curves: Iterable[ThresholdCurve]) -> ThresholdCurve:
    """One curve for the candidates and references of all."""
    scores, hit_scores = zip(*((curve.scores, curve.hit_scores) for curve in curves), strict=True)
    return ThresholdCurve(np.concatenate(scores), np.concatenate(hit_scores))


def mean_smoothed_f_beta(curves: Sequence[ThresholdCurve], thresholds: np.ndarray) -> np.ndarray:
    """(T,) mean of the runs' smoothed curves, over the runs that have references; without any hit: 0.

    All are smoothed alike, by the kernel that fits the hits of all runs together.
    """
    bandwidth = pooled(curves).bandwidth()
    values = [curve.smoothed_f_beta(thresholds, bandwidth) for curve in curves if curve.references]
    return np.mean(values, axis=0) if values else np.zeros(len(thresholds))


def threshold_curve(
    detections: Iterable[tuple[np.ndarray, np.ndarray]], references: Iterable[np.ndarray], radius: float
) -> ThresholdCurve:
    """The whole F-beta curve of one particle type in one pass: nothing is matched twice.

    A reference is hit at threshold t exactly when the best candidate in its range scores at least t.

    Parameters
    ----------
    detections : for each run, coordinates (N, 3) and scores (N,) in 0..1
    references : for each run, coordinates (M, 3), in the same unit and axis order
    radius : match radius in that unit, inclusive
    """
    all_scores, hit_scores = [np.empty(0)], [np.empty(0)]
    for (coordinates, scores), truth in zip(detections, references, strict=True):
        all_scores.append(np.asarray(scores, float))
        hit_scores.append(reference_scores(np.asarray(coordinates), all_scores[-1], np.asarray(truth), radius))
    return ThresholdCurve(np.concatenate(all_scores), np.concatenate(hit_scores))


def _count_at_least(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    return len(values) - np.searchsorted(np.sort(values), thresholds, side="left")


def _expected_at_least(scores: np.ndarray, thresholds: np.ndarray, bandwidth: float) -> np.ndarray:
    """(T,) expected number of scores at or above each threshold when every score is spread by the kernel."""
    # Equal scores, and those that nearly are, are spread as one.
    steps, numbers = np.unique(np.rint(logit(scores) / LOGIT_STEP), return_counts=True)
    return numbers @ ndtr((steps[:, None] * LOGIT_STEP - logit(thresholds)) / bandwidth)


def logit(scores: np.ndarray) -> np.ndarray:
    """Of scores in 0..1, as far as 1e-5 from either end."""
    bounded = np.clip(scores, 1e-5, 1 - 1e-5)
    return np.log(bounded / (1 - bounded))
