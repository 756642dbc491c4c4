"""How sure a score is, and whether one is really better than another.

Tomograms are what was drawn at random, so they are what is left out or exchanged: particles of one tomogram share its
noise, thickness and alignment and are not independent. Intervals and tests speak of these networks on other tomograms
like these; another training of the same recipe is another draw, of which they know nothing. All functions take counts
(runs, particles, 3): true positives, false positives and false negatives as in ``Score.counts`` of metrics.fbeta, or
their means over folds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import t as student_t

from metrics.fbeta import BETA, f_beta

CONFIDENCE = 0.95
SIGNIFICANCE = 0.05
# Fewer tomograms say too little about how much tomograms differ.
MIN_RUNS = 6
# Up to this number of differing tomograms all 2^n exchanges are tried, beyond it PERMUTATIONS random ones.
EXACT_RUNS = 14
PERMUTATIONS = 20_000
# Differences of sums taken in another order; a real difference of counts is far larger.
ROUNDING = 1e-9


def weighted_f_beta(counts: np.ndarray, weights: Sequence[float], beta: float = BETA) -> np.ndarray:
    """Weighted mean of F-beta over the particles, the official score when the counts are pooled over all runs.

    Parameters
    ----------
    counts : (..., particles, 3) true positives, false positives, false negatives
    weights : (particles,) of the score

    Returns
    -------
    (...) array; a particle without references counts as 0, as it does in the score
    """
    weights = np.asarray(weights, float)
    return f_beta(*np.moveaxis(np.asarray(counts, float), -1, 0), beta) @ weights / weights.sum()


@dataclass(frozen=True)
class Interval:
    """Confidence limits; both NaN where there are fewer than MIN_RUNS tomograms."""

    low: float
    high: float

    @property
    def known(self) -> bool:
        return bool(np.isfinite(self.low))


def score_interval(counts: np.ndarray, weights: Sequence[float], *, confidence: float = CONFIDENCE) -> Interval:
    """Confidence interval of the pooled weighted F4, for other tomograms like these.

    Each tomogram is left out once; how much the score moves by it gives its standard error (jackknife). The limits are
    those of Student's t with one degree of freedom less than tomograms, on the logit scale, on which a score near 1 has
    as much room to either side as any other.

    Parameters
    ----------
    counts : (runs, particles, 3)
    weights : (particles,) of the score
    confidence : probability between the limits

    Returns
    -------
    Interval
        Within 0..1. Both limits are the score where all tomograms are equal, as with a score of exactly 0 or 1. NaN
        with fewer than MIN_RUNS tomograms, whose spread is not known well enough for any interval.

    Notes
    -----
    Efron and Stein, Annals of Statistics 9 (1981) 586, doi:10.1214/aos/1176345462. Coverage by simulation:
    benchmarks/interval_coverage.py. A particle that one tomogram alone has is not judged without that tomogram: the
    other particles then make up the score.
    """
    counts = _checked(counts, weights)
    runs = len(counts)
    if runs < MIN_RUNS:
        return Interval(np.nan, np.nan)
    score = float(weighted_f_beta(counts.sum(axis=0), weights))
    reach = float(student_t.ppf((1 + confidence) / 2, runs - 1)) * standard_error(counts, weights)
    if reach > ROUNDING and 0 < score < 1:
        middle, reach = logit(score), reach / (score * (1 - score))
        return Interval(float(expit(middle - reach)), float(expit(middle + reach)))
    return Interval(max(score - reach, 0.0), min(score + reach, 1.0))


def standard_error(counts: np.ndarray, weights: Sequence[float]) -> float:
    """Of the pooled weighted F4 over tomograms, by the jackknife; counts (runs, particles, 3) of two or more runs."""
    runs, total = len(counts), counts.sum(axis=0)
    rest = total - counts  # (runs, particles, 3)
    unseen = (_references(rest) <= ROUNDING) & (_references(total) > 0)
    kept = np.where(unseen, 0.0, np.asarray(weights, float))
    without_one = (f_beta(*np.moveaxis(rest, -1, 0)) * kept).sum(axis=-1) / np.maximum(kept.sum(axis=-1), ROUNDING)
    return float(np.sqrt((runs - 1) / runs * ((without_one - without_one.mean()) ** 2).sum()))


@dataclass(frozen=True)
class PairedTest:
    """Two experiments on the same tomograms.

    Attributes
    ----------
    difference : pooled weighted F4 of the first minus that of the second
    p_value : two-sided
    differing_runs : tomograms in which the two have different counts; the others say nothing
    smallest_p_value : what the test could give at best with that many tomograms
    """

    difference: float
    p_value: float
    differing_runs: int
    smallest_p_value: float


def paired_test(first: np.ndarray, second: np.ndarray, weights: Sequence[float], *, seed: int = 0) -> PairedTest:
    """Exchange the two experiments tomogram by tomogram: how often is the difference at least as large as it was?

    If it did not matter which experiment made which picks, every exchange would be as likely as what was measured.
    All 2^n exchanges of the n tomograms that differ are tried, or a random sample where they are too many.

    Parameters
    ----------
    first, second : (runs, particles, 3), the same tomograms in the same order
    weights : (particles,) of the score
    seed : of the random exchanges

    Raises
    ------
    ValueError : the references differ, so these are not the same tomograms

    Notes
    -----
    Yeh, COLING 2000, doi:10.3115/992730.992783 (exchanges, for F scores); Phipson and Smyth 2010,
    doi:10.2202/1544-6115.1585 (what was measured counts as one of the random exchanges).
    """
    return _paired_test(first, second, weights, lambda: _exchanged(first, seed) - _exchanged(second, seed))


def _paired_test(
    first: np.ndarray, second: np.ndarray, weights: Sequence[float], random_shifts: Callable[[], np.ndarray]
) -> PairedTest:
    """With the shifts (exchanges, particles, 3) of random exchanges, should there be too many to try them all."""
    first, second = _checked(first, weights), _checked(second, weights)
    if first.shape != second.shape or not np.allclose(_references(first), _references(second)):
        raise ValueError("a paired test needs the same tomograms with the same references, in the same order")
    change = first - second
    differing = np.any(np.abs(change) > ROUNDING, axis=(1, 2))
    runs = int(differing.sum())
    total = (first + second).sum(axis=0)
    # (exchanges, particles, 3), what was measured first
    shift = np.tensordot(_all_signs(runs), change[differing], axes=1) if runs <= EXACT_RUNS else random_shifts()
    differences = weighted_f_beta((total + shift) / 2, weights) - weighted_f_beta((total - shift) / 2, weights)
    as_large = np.abs(differences) >= abs(differences[0]) - ROUNDING
    return PairedTest(
        difference=float(differences[0]),
        p_value=float(as_large.mean()),
        differing_runs=runs,
        # Exchanging all of them gives the same difference again, of the other sign.
        smallest_p_value=min(1.0, max(2.0 ** (1 - runs), 1 / len(shift))),
    )


def _all_signs(runs: int) -> np.ndarray:
    """(2^runs, runs) of 1 (kept) and -1 (exchanged); the first row keeps all."""
    return 1.0 - 2.0 * (np.arange(2**runs)[:, None] >> np.arange(runs) & 1)


def _exchanged(counts: np.ndarray, seed: int) -> np.ndarray:
    """(exchanges, particles, 3) sums over the runs with random signs; those of two experiments subtract."""
    random = np.random.default_rng(seed).choice([1.0, -1.0], size=(PERMUTATIONS, len(counts)))
    return np.concatenate([np.sum(counts, axis=0, keepdims=True), np.tensordot(random, counts, axes=1)])


def holm(p_values: Sequence[float]) -> np.ndarray:
    """P-values adjusted for the number of tests: those at most alpha hold together with probability 1 - alpha.

    The k-th smallest of m is multiplied by m - k + 1, and none is made smaller than one before it. Equal p-values
    stay equal, no value exceeds 1, and no test gives an empty array.

    Notes
    -----
    Holm, Scandinavian Journal of Statistics 6 (1979) 65.
    """
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1)), 1.0)
    return adjusted


def compare(
    counts: Mapping[str, np.ndarray],
    weights: Sequence[float],
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    significance: float = SIGNIFICANCE,
    seed: int = 0,
) -> pd.DataFrame:
    """Paired tests between experiments, adjusted for their number.

    Parameters
    ----------
    counts : experiment -> (runs, particles, 3), all of the same tomograms in the same order
    weights : (particles,) of the score
    pairs : the pairs to test, chosen before the scores were known; default: all of them
    significance : the chance of calling any difference real when none is

    Returns
    -------
    DataFrame
        One row a pair: first, second, difference (F4 of the first minus the second), p_value, adjusted_p_value,
        smallest_p_value (adjusted; what so many tomograms and pairs can give at best), real (adjusted_p_value <=
        significance), testable (smallest_p_value <= significance).
    """
    pairs = list(combinations(counts, 2)) if pairs is None else list(pairs)
    exchanged = cache(lambda name: _exchanged(counts[name], seed))  # once for all pairs that it is part of
    tests = [
        _paired_test(counts[a], counts[b], weights, lambda a=a, b=b: exchanged(a) - exchanged(b)) for a, b in pairs
    ]
    adjusted = holm([test.p_value for test in tests])
    smallest = holm([test.smallest_p_value for test in tests])
    return pd.DataFrame(
        {
            "first": [a for a, _ in pairs],
            "second": [b for _, b in pairs],
            "difference": [test.difference for test in tests],
            "p_value": [test.p_value for test in tests],
            "adjusted_p_value": adjusted,
            "smallest_p_value": smallest,
            "real": adjusted <= significance,
            "testable": smallest <= significance,
        }
    )


def _references(counts: np.ndarray) -> np.ndarray:
    return counts[..., 0] + counts[..., 2]


def _checked(counts: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    counts = np.asarray(counts, float)
    if counts.ndim != 3 or counts.shape[1:] != (len(weights), 3) or len(counts) == 0:
        raise ValueError(f"counts must be (runs, {len(weights)}, 3) with at least one run, got {counts.shape}")
    return counts
