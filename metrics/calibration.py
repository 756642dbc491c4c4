"""From scores to confidence: how often a candidate of that score is a hit."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from metrics.fbeta import BETA, f_beta
from metrics.threshold_curve import ThresholdCurve, logit, pooled

# Under these names a calibration lies among the hyperparameters of a particle.
SLOPE, OFFSET = KEYWORDS = ("calibration_slope", "calibration_offset")
# A candidate more certain than F-beta / (1 + beta^2) raises F-beta (arXiv 1402.1892): here at an F4 of 0.85.
WORTHWHILE = 0.85 / (1 + BETA**2)


def fit_calibration(curves: Iterable[ThresholdCurve]) -> dict[str, float]:
    """Platt's calibration (Platt 1999, Probabilistic outputs for support vector machines) of one particle type.

    Logistic regression of whether a candidate is a hit on the logit of its score. Of several candidates in the range
    of a reference the best one is the hit, as the score counts them.

    Parameters
    ----------
    curves : of the tomograms to learn from, all candidates in them

    Returns
    -------
    ``{SLOPE: slope, OFFSET: offset}``, the slope from 0 up: confidence never falls with the score. Empty without any
        candidate, and where none of the tomograms has a reference: they do not say what is right.
    """
    curves = list(curves)
    x, hits, misses = (np.concatenate(parts) for parts in zip(*map(_counts, curves), strict=True))
    if len(x) == 0 or not any(curve.references for curve in curves):
        return {}
    # Platt's targets: a few hits, or none, do not make certain.
    high, low = (hits.sum() + 1) / (hits.sum() + 2), 1 / (misses.sum() + 2)
    weight, target = hits + misses, high * hits + low * misses

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        z = parameters[0] * x + parameters[1]
        residual = weight * expit(z) - target
        return weight @ np.logaddexp(0, z) - target @ z, np.array([residual @ x, residual.sum()])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)])
    return dict(zip(KEYWORDS, found.x.tolist(), strict=True))


def expected_f_beta(curves: Sequence[ThresholdCurve], thresholds: np.ndarray, beta: float = BETA) -> np.ndarray:
    """(T,) F-beta at each threshold if every candidate were a hit as likely as its confidence; 0 where nothing is hit.

    Two numbers describe all candidates, so that the curve depends little on the chance of single ones. Candidates of
    runs without references teach what is wrong, and are not counted.
    """
    counted = [curve for curve in curves if curve.references]
    if not any(np.isfinite(curve.hit_scores).any() for curve in counted):
        return np.zeros(len(thresholds))
    curve = pooled(counted)
    scores = np.sort(curve.scores)
    likely_hits = np.cumsum(confidence(scores, fit_calibration(curves))[::-1])[::-1]
    first = np.searchsorted(scores, thresholds, side="left")
    hits = np.minimum(np.append(likely_hits, 0.0)[first], curve.references)
    kept = len(scores) - first
    return f_beta(hits, kept - hits, curve.references - hits, beta)


def worthwhile_score(curves: Sequence[ThresholdCurve]) -> float | None:
    """The score from which on a candidate is worth taking for F4: its confidence there is WORTHWHILE.

    None where that cannot be told: nothing is hit or nothing is wrong, or the score says nothing about hits.
    """
    _, hits, misses = (np.concatenate(parts) for parts in zip(*map(_counts, curves), strict=True))
    if not hits.any() or not misses.any():
        return None
    found = fit_calibration(curves)
    return float(expit((logit(WORTHWHILE) - found[OFFSET]) / found[SLOPE])) if found[SLOPE] > 0 else None


def _counts(curve: ThresholdCurve) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every distinct score its logit, the number of hits and that of other candidates."""
    scores, candidates = np.unique(curve.scores, return_counts=True)
    hits = np.zeros(len(scores))
    # A candidate near two references is one.
    hit_scores, numbers = np.unique(curve.hit_scores[np.isfinite(curve.hit_scores)], return_counts=True)
    hits[np.searchsorted(scores, hit_scores)] = numbers
    hits = np.minimum(hits, candidates)
    return logit(scores), hits, candidates - hits


def confidence(scores: np.ndarray, values: Mapping[str, float]) -> np.ndarray:
    """(N,) in 0..1 from scores (N,) in 0..1, by the calibration among these values; NaN where there is none."""
    if not all(keyword in values for keyword in KEYWORDS):
        return np.full(len(scores), np.nan)
    return expit(values[SLOPE] * logit(np.asarray(scores, dtype=float)) + values[OFFSET])
