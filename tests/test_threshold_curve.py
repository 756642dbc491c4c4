"""The F4 curve: equal to matching again at every threshold; the recommended threshold holds on other data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.fbeta import f_beta, match_counts
from metrics.threshold_curve import ThresholdCurve, mean_smoothed_f_beta, threshold_curve

NAMES = ("scores", "hit_scores")
THRESHOLDS = np.arange(0.01, 1, 0.01)


def best_threshold(curve):
    return THRESHOLDS[np.argmax(curve.smoothed_f_beta(THRESHOLDS, curve.bandwidth()))]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 40), st.integers(0, 12), st.integers(1, 3))
def test_curve_equals_matching_again_at_every_threshold(seed, candidates, references, runs):
    rng = np.random.default_rng(seed)
    found = [
        (rng.uniform(0, 10, (candidates, 3)), rng.integers(0, 8, candidates) / 8)  # many equal scores
        for _ in range(runs)
    ]
    truth = [rng.uniform(0, 10, (references, 3)) for _ in range(runs)]
    curve = threshold_curve(found, truth, radius=2.0)
    assert list(curve.thresholds) == sorted({s for _, scores in found for s in scores}, reverse=True)
    for k, threshold in enumerate(curve.thresholds):
        counts = np.sum(
            [
                match_counts(points[scores >= threshold], reference, 2.0)
                for (points, scores), reference in zip(found, truth, strict=True)
            ],
            axis=0,
        )
        assert curve.true_positives[k] == counts[0]
        assert curve.candidates[k] - curve.true_positives[k] == counts[1]
        assert curve.references - curve.true_positives[k] == counts[2]
        assert curve.f_beta()[k] == pytest.approx(f_beta(*counts))


def test_the_threshold_lies_in_the_middle_of_a_gap():
    truth = np.array([[float(10 * k), 0, 0] for k in range(4)])
    false = np.full((50, 3), 500.0)
    points, scores = np.concatenate([truth, false]), np.concatenate([np.full(4, 0.9), np.full(50, 0.1)])
    curve = threshold_curve([(points, scores)], [truth], 1.0)
    assert 0.3 < best_threshold(curve) < 0.7 and curve.f_beta_at(best_threshold(curve)) == 1.0


def test_few_hits_ask_for_a_lower_threshold_than_many():
    """The same distribution of scores, sampled 6 and 6000 times: the sample's weakest hit must not decide."""
    rng = np.random.default_rng(0)

    def curve(count):
        logits = np.concatenate([rng.normal(1, 1, count), rng.normal(-3, 1, 10 * count)])
        scores = 1 / (1 + np.exp(-logits))
        return ThresholdCurve(scores, scores[:count])

    many = curve(6000)
    sharpest = many.thresholds[np.argmax(many.f_beta())]
    assert many.f_beta_at(best_threshold(many)) > many.f_beta_at(sharpest) - 0.01
    sampled = [curve(6) for _ in range(200)]
    smoothed = np.mean([many.f_beta_at(best_threshold(one)) for one in sampled])
    maximal = np.mean([many.f_beta_at(one.thresholds[np.argmax(one.f_beta())]) for one in sampled])
    assert smoothed > maximal + 0.02


def test_without_candidates():
    nothing = threshold_curve([(np.empty((0, 3)), np.empty(0))], [np.zeros((1, 3))], 1.0)
    assert not nothing.smoothed_f_beta(THRESHOLDS, nothing.bandwidth()).any()
    assert nothing.f_beta_at(0.5) == 0.0 and len(nothing.f_beta()) == 0


def test_counts_at_given_thresholds():
    rng, thresholds = np.random.default_rng(1), np.array([0.0, 0.25, 0.5, 0.99, 1.0])
    points, scores, truth = rng.uniform(0, 9, (60, 3)), rng.integers(0, 5, 60) / 4, rng.uniform(0, 9, (9, 3))
    counts = threshold_curve([(points, scores)], [truth], 2.0).counts_at(thresholds)
    expected = [match_counts(points[scores >= threshold], truth, 2.0) for threshold in thresholds]
    assert counts.tolist() == [list(one) for one in expected]


def sampled(rng, hits, false):
    logits = np.concatenate([rng.normal(1, 1, hits), rng.normal(-3, 1, false)])
    scores = 1 / (1 + np.exp(-logits))
    return ThresholdCurve(scores, scores[:hits])


def test_without_smoothing_it_is_the_curve_itself():
    curve, thresholds = sampled(np.random.default_rng(0), 300, 3000), np.array([0.05, 0.2, 0.4, 0.6, 0.9])
    raw = [curve.f_beta_at(threshold) for threshold in thresholds]
    assert curve.smoothed_f_beta(thresholds, 1e-6) == pytest.approx(raw, abs=0.02)
    assert curve.bandwidth() < sampled(np.random.default_rng(0), 30, 300).bandwidth()


def test_a_spike_beside_a_broad_plateau_is_not_taken():
    """At 0.8 and above one more false pick is gone, at the edge of losing every hit."""
    hits = np.full(20, 0.805)
    false = np.concatenate([np.full(4, 0.79), np.full(500, 0.02)])
    curve = ThresholdCurve(np.concatenate([hits, false]), hits)
    thresholds = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    assert np.argmax([curve.f_beta_at(threshold) for threshold in thresholds]) == 8
    chosen = thresholds[np.argmax(curve.smoothed_f_beta(thresholds, curve.bandwidth()))]
    assert 0.2 <= chosen <= 0.5


def test_runs_count_alike_in_the_mean_and_only_those_with_the_particle():
    rng, thresholds = np.random.default_rng(2), np.array([0.1, 0.3, 0.6])
    one, large, empty = sampled(rng, 5, 10), sampled(rng, 50, 100), ThresholdCurve(np.array([0.7]), np.empty(0))
    together = ThresholdCurve(*(np.concatenate([getattr(c, n) for c in (one, large, empty)]) for n in NAMES))
    alone = [curve.smoothed_f_beta(thresholds, together.bandwidth()) for curve in (one, large)]
    assert mean_smoothed_f_beta([one, large, empty], thresholds) == pytest.approx(np.mean(alone, axis=0))
    assert mean_smoothed_f_beta([empty], thresholds).tolist() == [0, 0, 0]
    missed = ThresholdCurve(np.empty(0), np.full(3, -np.inf))
    assert mean_smoothed_f_beta([missed], thresholds).tolist() == [0, 0, 0]
