"""Intervals and tests over tomograms: answers by hand, and what must hold for any counts."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binomtest

from benchmarks.interval_coverage import POPULATIONS, coverage
from metrics import statistics
from metrics.fbeta import f_beta
from metrics.statistics import (
    Interval,
    compare,
    holm,
    paired_test,
    score_interval,
    standard_error,
    weighted_f_beta,
)

WEIGHTS = (1.0, 0.0, 2.0)
HIT, MISS = (1, 0, 0), (0, 0, 1)


def one_particle(*rows):
    """(runs, 1, 3) counts of one particle."""
    return np.array(rows)[:, None]


def some_counts(runs, seed=0):
    rng = np.random.default_rng(seed)
    references = rng.integers(5, 20, (runs, len(WEIGHTS)))
    hits = rng.binomial(references, rng.uniform(0.5, 1, (runs, 1)))
    return np.stack([hits, rng.poisson(5, hits.shape), references - hits], axis=-1)


# --- The score from counts ----------------------------------------------------------------------------
def test_weighted_f_beta_is_the_weighted_mean():
    counts = np.array([[8, 2, 8], [1, 0, 0], [0, 5, 0]])
    expected = (f_beta(8, 2, 8) + 2 * 0) / 3
    assert weighted_f_beta(counts, WEIGHTS) == pytest.approx(expected)
    assert weighted_f_beta(np.stack([counts, counts]), WEIGHTS) == pytest.approx([expected, expected])


# --- Interval of the score ----------------------------------------------------------------------------
@pytest.mark.parametrize("runs", range(1, 6))
def test_too_few_tomograms_have_no_interval(runs):
    interval = score_interval(some_counts(runs), WEIGHTS)
    assert np.isnan(interval.low) and np.isnan(interval.high) and not interval.known
    assert score_interval(some_counts(6), WEIGHTS).known


def test_the_interval_by_hand():
    """Equal tomograms but for one: the six scores without one of them, their jackknife error, t of five degrees."""
    counts = one_particle(*[(9, 1, 1)] * 5, (5, 5, 5))
    score, others = f_beta(50, 10, 10), np.array([f_beta(41, 9, 9)] * 5 + [f_beta(45, 5, 5)])
    error = np.sqrt(5 / 6 * ((others - others.mean()) ** 2).sum())
    assert standard_error(counts, [1.0]) == pytest.approx(error)
    reach = 2.570582 * error / (score * (1 - score))
    interval = score_interval(counts, [1.0])
    assert (interval.low, interval.high) == pytest.approx(tuple(expit(logit(score) + np.array([-reach, reach]))))


@pytest.mark.parametrize("name", ["usual", "rare", "easy"])
@pytest.mark.parametrize("runs", [6, 7, 12, 27])
def test_nine_of_ten_intervals_hold_the_true_value(name, runs):
    """The percentile bootstrap over tomograms: 80 to 86 % of the "usual" and "easy" campaigns of six."""
    [(covered, _)] = coverage(POPULATIONS[name], runs, 600, ["jackknife and t, logit"])
    assert 0.9 < covered < 0.98


def test_equal_tomograms_leave_no_doubt():
    interval = score_interval(np.repeat(some_counts(1), 6, axis=0), WEIGHTS)
    assert interval.low == pytest.approx(interval.high) == weighted_f_beta(some_counts(1)[0], WEIGHTS)


@pytest.mark.parametrize(("row", "score"), [((5, 0, 0), 1.0), ((0, 3, 5), 0.0)])
def test_all_or_nothing_found(row, score):
    assert score_interval(one_particle(*[row] * 8), [1.0]) == Interval(score, score)


def test_more_hits_than_picks():
    """One pick that reaches two references: F4 above 1."""
    interval = score_interval(one_particle((2, -1, 0), *[(5, 0, 0)] * 7), [1.0])
    assert 0 < interval.low <= interval.high == 1.0


def test_the_interval_holds_the_score_and_shrinks_with_more_tomograms():
    widths = []
    for runs in (6, 20, 80):
        counts = some_counts(runs)
        interval = score_interval(counts, WEIGHTS)
        assert 0 < interval.low < weighted_f_beta(counts.sum(axis=0), WEIGHTS) < interval.high < 1
        widths.append(interval.high - interval.low)
    assert widths == sorted(widths, reverse=True)


def test_a_particle_of_one_tomogram_takes_nothing_from_the_score_without_it():
    """Whoever finds everything scores 1 with and without that tomogram."""
    counts = np.zeros((6, 2, 3))
    counts[:, 0, 0], counts[0, 1, 0] = 5, 5
    assert score_interval(counts, (1.0, 1.0)) == Interval(1.0, 1.0)


def test_a_particle_that_nobody_has_counts_as_in_the_score():
    counts = np.zeros((6, 2, 3))
    counts[:, 0, 0] = 5
    assert score_interval(counts, (1.0, 1.0)) == Interval(0.5, 0.5)


# --- Paired test --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("first", "second", "p_value"),
    [
        ([HIT] * 3, [MISS] * 3, 2 / 8),
        ([HIT] * 6, [MISS] * 6, 2 / 64),
        # Three hits against one: as large with 0, 1, 3 or 4 hits.
        ([HIT, HIT, HIT, MISS], [MISS, MISS, MISS, HIT], 10 / 16),
        # The fourth tomogram is equal in both and says nothing.
        ([HIT, HIT, HIT, HIT], [MISS, MISS, MISS, HIT], 2 / 8),
        ([HIT], [MISS], 1.0),
    ],
)
@pytest.mark.parametrize("scale", [1, 0.7 / 3])  # means over folds are no whole numbers
def test_exchanges_counted_by_hand(first, second, p_value, scale):
    first, second = one_particle(*first) * scale, one_particle(*second) * scale
    test, back = paired_test(first, second, [1.0]), paired_test(second, first, [1.0])
    assert test.p_value == back.p_value == p_value
    assert test.difference == pytest.approx(-back.difference)


@pytest.mark.parametrize("runs", [1, 5, 30])
def test_an_experiment_does_not_differ_from_itself(runs):
    test = paired_test(some_counts(runs), some_counts(runs), WEIGHTS)
    assert (test.difference, test.p_value, test.differing_runs, test.smallest_p_value) == (0.0, 1.0, 0, 1.0)


def test_the_difference_is_that_of_the_pooled_scores():
    first, second = some_counts(5), some_counts(5)
    second[:, :, 1] += 3
    expected = weighted_f_beta(first.sum(axis=0), WEIGHTS) - weighted_f_beta(second.sum(axis=0), WEIGHTS)
    assert paired_test(first, second, WEIGHTS).difference == pytest.approx(expected)


def test_many_tomograms_are_sampled():
    hits = np.array([HIT] * 13 + [MISS] * 4)
    test = paired_test(one_particle(*hits), one_particle(*hits[:, ::-1]), [1.0])
    assert test.p_value == pytest.approx(binomtest(13, 17).pvalue, abs=0.01)
    assert test == paired_test(one_particle(*hits), one_particle(*hits[:, ::-1]), [1.0])
    always = paired_test(one_particle(*[HIT] * 40), one_particle(*[MISS] * 40), [1.0])
    assert always.p_value == always.smallest_p_value > 0


def overlooking_a_tenth(counts, seed):
    lost = np.random.default_rng(seed).binomial(counts[..., 0], 0.1)
    return counts + np.stack([-lost, np.zeros_like(lost), lost], axis=-1)


def test_no_effect_is_seldom_called_one():
    """Two experiments that are equally good by construction."""
    p_values = [
        paired_test(*(overlooking_a_tenth(some_counts(7, seed), 2 * seed + k) for k in (0, 1)), WEIGHTS).p_value
        for seed in range(300)
    ]
    assert np.mean(np.array(p_values) <= 0.05) < 0.08


def test_only_the_same_tomograms_are_compared():
    counts = some_counts(4)
    for other in (counts[:3], counts[::-1]):
        with pytest.raises(ValueError, match="same tomograms"):
            paired_test(counts, other, WEIGHTS)
    with pytest.raises(ValueError, match="runs, 3, 3"):
        score_interval(counts[:0], WEIGHTS)


def test_means_over_folds_are_compared_like_counts():
    folds = np.stack([some_counts(6), some_counts(6)])
    folds[1, :, :, 1] += 1
    test = paired_test(folds.mean(axis=0), some_counts(6), WEIGHTS)
    assert test.differing_runs == 6 and test.p_value == 2 / 64


# --- Several comparisons ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_holm_by_hand(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted)


def test_compare_names_what_is_real_and_what_cannot_be_shown():
    good, bad = one_particle(*[HIT] * 7), one_particle(*[MISS] * 7)
    table = compare({"a": good, "b": bad, "c": bad}, [1.0]).set_index(["first", "second"])
    assert table.adjusted_p_value.tolist() == pytest.approx([3 / 64, 3 / 64, 1.0])
    assert table.real.tolist() == [True, True, False]
    assert table.testable.tolist() == [True, True, False]
    few = compare({"a": good[:5], "b": bad[:5]}, [1.0])
    assert not few.testable[0] and not few.real[0]
    assert len(compare({"a": good}, [1.0])) == 0
    assert compare({"a": good, "b": bad, "c": bad}, [1.0], pairs=[("b", "a")]).difference.tolist() == [-1.0]


def test_a_pair_among_many_is_tested_as_alone(monkeypatch):
    """Random exchanges are made once for each experiment, not for each pair."""
    made, exchanged = [], statistics._exchanged
    monkeypatch.setattr(statistics, "_exchanged", lambda *of: made.append(1) or exchanged(*of))
    truth = some_counts(30)
    counts = {name: overlooking_a_tenth(truth, seed) for seed, name in enumerate("abcde")}
    table = compare(counts, WEIGHTS)
    assert len(table) == 10 and len(made) == 5
    for row in table.itertuples():
        alone = paired_test(counts[row.first], counts[row.second], WEIGHTS)
        assert (row.difference, row.p_value) == (alone.difference, alone.p_value)
