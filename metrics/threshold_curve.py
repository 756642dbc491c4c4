"""F-beta over all score thresholds in one pass, and the threshold to take from it."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from metrics.fbeta import BETA, f_beta, reference_scores

# Silverman's rule has 1.06. A threshold that is too high costs F4 more than one that is too low, which a wider
# kernel allows for; compared in BENCHMARKS.md.
BANDWIDTH_FACTOR = 1.5 * 1.06
MIN_SPREAD = 0.3  # of hits on the logit scale: equal scores of a few particles say nothing about the next
LOGIT_STEP = 0.01
LOGIT_GRID = np.arange(-12.0, 12.0, LOGIT_STEP)


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

    def best_threshold(self, beta: float = BETA, bandwidth_factor: float = BANDWIDTH_FACTOR) -> float:
        """The threshold to use on other tomograms: the maximum of the smoothed curve.

        The maximum of the curve itself sits just below the weakest hit of a handful: on the next tomogram hits
        fall below it. So hits and candidates are spread with a Gaussian kernel on the logit scale before they are
        counted; the bandwidth is ``bandwidth_factor`` times their standard deviation over the fifth root of their
        number: the fewer, the wider. A clear gap or a plateau gives its middle. Without hits: 0.5.
        """
        hits = _logit(self.hit_scores[np.isfinite(self.hit_scores)])
        if len(hits) == 0:
            return 0.5
        bandwidth = bandwidth_factor * max(float(np.std(hits)), MIN_SPREAD) * len(hits) ** -0.2
        expected_hits = _smooth_count_at_least(hits, bandwidth)
        kept = np.maximum(_smooth_count_at_least(_logit(self.scores), bandwidth), expected_hits)
        values = f_beta(expected_hits, kept - expected_hits, self.references - expected_hits, beta)
        return float(1 / (1 + np.exp(-LOGIT_GRID[np.argmax(values)])))


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


def _smooth_count_at_least(logits: np.ndarray, bandwidth: float) -> np.ndarray:
    """Expected number of values at or above each place of LOGIT_GRID when every value is spread by the kernel."""
    edges = np.append(LOGIT_GRID, LOGIT_GRID[-1] + LOGIT_STEP)
    histogram = np.histogram(np.clip(logits, edges[0], edges[-1]), edges)[0].astype(float)
    density = gaussian_filter1d(histogram, bandwidth / LOGIT_STEP, mode="nearest", truncate=5.0)
    return density[::-1].cumsum()[::-1]


def _logit(scores: np.ndarray) -> np.ndarray:
    bounded = np.clip(scores, 1e-5, 1 - 1e-5)
    return np.log(bounded / (1 - bounded))
