"""Confidence: the share of hits among candidates of a score, whatever the network's scores are worth."""

import numpy as np
import pytest
from scipy.special import expit

from metrics.calibration import (
    KEYWORDS,
    OFFSET,
    SLOPE,
    WORTHWHILE,
    confidence,
    expected_f_beta,
    fit_calibration,
    worthwhile_score,
)
from metrics.fbeta import f_beta
from metrics.threshold_curve import ThresholdCurve, logit


def drawn(slope, offset, number=200_000, seed=0):
    """A curve of candidates that are hits with the chance that a calibration says."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.02, 0.98, number)
    hits = rng.uniform(size=number) < expit(slope * logit(scores) + offset)
    return ThresholdCurve(scores, np.concatenate([scores[hits], np.full(7, -np.inf)]))


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.5, -2.0), (2.0, 1.0)])
def test_the_chance_that_scores_were_drawn_with_is_found(slope, offset):
    found = fit_calibration([drawn(slope, offset)])
    assert tuple(found) == KEYWORDS
    assert found[SLOPE] == pytest.approx(slope, abs=0.06) and found[OFFSET] == pytest.approx(offset, abs=0.06)
    scores = np.array([0.1, 0.5, 0.9])
    assert confidence(scores, found) == pytest.approx(expit(slope * logit(scores) + offset), abs=0.02)


def test_several_tomograms_are_one():
    halves = [drawn(0.7, -1.0, 500, seed) for seed in (0, 1)]
    together = ThresholdCurve(*(np.concatenate([getattr(one, name) for one in halves]) for name in vars(halves[0])))
    assert fit_calibration(halves) == pytest.approx(fit_calibration([together]))


def test_confidence_never_falls_with_the_score():
    """Where the better candidates are the wrong ones by chance, all are as likely as their mean."""
    scores = np.array([0.2, 0.3, 0.7, 0.8])
    found = fit_calibration([ThresholdCurve(scores, scores[:2])])
    assert found[SLOPE] == 0 and confidence(scores, found) == pytest.approx(0.5)


@pytest.mark.parametrize(("hits", "bounds"), [(3, (0.5, 0.85)), (0, (0.1, 0.3))], ids=["all hits", "no hit"])
def test_a_few_candidates_do_not_make_certain(hits, bounds):
    scores = np.array([0.5, 0.6, 0.7])
    values = confidence(scores, fit_calibration([ThresholdCurve(scores, np.append(scores[:hits], -np.inf))]))
    assert bounds[0] <= values.min() and values.max() <= bounds[1]


def test_a_candidate_near_two_references_is_one_hit():
    scores = np.array([0.3, 0.6])
    once, twice = ThresholdCurve(scores, np.array([0.6])), ThresholdCurve(scores, np.array([0.6, 0.6]))
    assert fit_calibration([once]) == fit_calibration([twice])


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (2.0, 1.0)])
def test_a_worthwhile_candidate_is_as_certain_as_its_name_says(slope, offset):
    curve = drawn(slope, offset)
    score = worthwhile_score([curve])
    assert confidence(np.array([score]), fit_calibration([curve])) == pytest.approx(WORTHWHILE)
    assert slope * logit(np.array([score])) + offset == pytest.approx(logit(WORTHWHILE), abs=0.2)


def test_candidates_from_the_worthwhile_score_on_raise_f4():
    """By its definition: one more at F4 = 0.85 that is a hit with that chance leaves F4 as it is."""
    hits, picks, references = 90.0, 200.0, 99.0
    before = float(f_beta(hits, picks - hits, references - hits))
    chance = before / 17
    after = float(f_beta(hits + chance, picks + 1 - hits - chance, references - hits - chance))
    assert after == pytest.approx(before) and before == pytest.approx(0.85, abs=0.02)
    assert pytest.approx(0.05) == WORTHWHILE


@pytest.mark.parametrize(
    ("scores", "hits"),
    [([], []), ([0.3, 0.4], []), ([0.3, 0.4], [0.3, 0.4]), ([0.2, 0.3, 0.7, 0.8], [0.2, 0.3])],
    ids=["no candidates", "no hits", "nothing wrong", "scores without a meaning"],
)
def test_what_is_worthwhile_may_be_unknown(scores, hits):
    assert worthwhile_score([ThresholdCurve(np.array(scores), np.array([*hits, -np.inf]))]) is None


def test_without_candidates_nothing_is_known():
    assert fit_calibration([ThresholdCurve(np.empty(0), np.full(3, -np.inf))]) == {}
    assert fit_calibration([ThresholdCurve(np.array([0.3, 0.4]), np.empty(0))]) == {}  # and no reference
    assert np.isnan(confidence(np.array([0.2, 1.0]), {"peak_threshold": 0.3})).all()
    assert confidence(np.empty(0), {SLOPE: 1.0, OFFSET: 0.0}).shape == (0,)


def test_scores_of_0_and_1_are_not_certain():
    values = confidence(np.array([0.0, 1.0]), {SLOPE: 1.0, OFFSET: 0.0})
    assert 0 < values[0] < 1e-4 and 1 - 1e-4 < values[1] < 1


def test_the_expected_f4_is_that_of_many_candidates_drawn_with_that_chance():
    rng = np.random.default_rng(5)
    scores = rng.uniform(0.02, 0.98, 4000)
    curve = ThresholdCurve(scores, scores[rng.random(4000) < expit(2 * logit(scores) - 1)])
    thresholds = np.array([0.1, 0.3, 0.5, 0.7])
    np.testing.assert_allclose(
        expected_f_beta([curve], thresholds), [curve.f_beta_at(one) for one in thresholds], atol=0.01
    )


def test_the_expected_f4_counts_what_is_never_found():
    scores = np.array([0.9, 0.8, 0.2])
    curve = ThresholdCurve(scores, np.array([0.9, 0.8, *[-np.inf] * 6]))
    assert expected_f_beta([curve], np.array([0.5]))[0] < 0.3


def test_without_a_hit_no_f4_is_expected():
    thresholds = np.array([0.1, 0.9])
    unhit = ThresholdCurve(np.array([0.5]), np.array([-np.inf]))
    for curves in ([], [ThresholdCurve(np.array([0.5]), np.empty(0))], [unhit]):
        assert expected_f_beta(curves, thresholds).tolist() == [0, 0]
    one = ThresholdCurve(np.array([0.5]), np.array([0.5]))
    assert expected_f_beta([one], thresholds)[1] == 0


def test_tomograms_without_the_particle_are_not_counted_but_teach():
    one = ThresholdCurve(np.array([0.9, 0.8, 0.3]), np.array([0.9, 0.8]))
    without = ThresholdCurve(np.array([0.8, 0.85, 0.2]), np.empty(0))
    thresholds = np.array([0.5])
    assert 0 < expected_f_beta([one, without], thresholds)[0] < expected_f_beta([one], thresholds)[0]
