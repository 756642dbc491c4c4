"""The F4 curve: equal to matching again at every threshold; the recommended threshold holds on other data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.fbeta import f_beta, match_counts
from metrics.threshold_curve import ThresholdCurve, threshold_curve


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
    assert 0.3 < curve.best_threshold() < 0.7 and curve.f_beta_at(curve.best_threshold()) == 1.0


def test_few_hits_ask_for_a_lower_threshold_than_many():
    """The same distribution of scores, sampled 6 and 6000 times: the sample's weakest hit must not decide."""
    rng = np.random.default_rng(0)

    def curve(count):
        logits = np.concatenate([rng.normal(1, 1, count), rng.normal(-3, 1, 10 * count)])
        scores = 1 / (1 + np.exp(-logits))
        return ThresholdCurve(scores, scores[:count])

    many = curve(6000)
    sharpest = many.thresholds[np.argmax(many.f_beta())]
    assert many.f_beta_at(many.best_threshold()) > many.f_beta_at(sharpest) - 0.01
    sampled = [curve(6) for _ in range(200)]
    smoothed = np.mean([many.f_beta_at(one.best_threshold()) for one in sampled])
    maximal = np.mean([many.f_beta_at(one.thresholds[np.argmax(one.f_beta())]) for one in sampled])
    assert smoothed > maximal + 0.02


def test_threshold_without_hits():
    nothing = threshold_curve([(np.empty((0, 3)), np.empty(0))], [np.zeros((1, 3))], 1.0)
    assert nothing.best_threshold() == 0.5 and nothing.f_beta_at(0.5) == 0.0 and len(nothing.f_beta()) == 0
