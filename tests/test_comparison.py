"""Tables of a campaign, from picks that are known."""

import numpy as np
import pandas as pd
import pytest

from evaluation.campaign.comparison import (
    Evaluated,
    as_text,
    comparison_by_particle,
    comparison_summary,
    intermediate_row,
    paired_tests,
    per_tomogram_table,
    ranked,
)
from evaluation.campaign.configuration import Configuration
from evaluation.runs import Record
from particle_config import PARTICLES

RUNS = [f"TS_{number}" for number in range(1, 9)]
TRUTH = pd.DataFrame(
    [(run, p.name, 1000.0 * place, 1000.0 * p.label, 0.0) for run in RUNS for p in PARTICLES for place in range(4)],
    columns=["experiment", "particle_type", "x", "y", "z"],
)
PERFECT = TRUTH.assign(score=0.9)


def shifted(runs, dz=0.0):
    """Half of the picks of those runs are nowhere, the others lie so far above the truth."""
    picks = PERFECT.assign(z=dz)
    picks.loc[picks["experiment"].isin(runs) & (picks["x"] >= 2000), "y"] = 9e5
    return picks


def evaluated(strategy="best_single", **picks):
    return of_picks(Configuration("df1", strategy, "cc3d", "none"), picks)


def of_picks(configuration, picks, truth=TRUTH):
    return Evaluated.of_picks(configuration, picks.items(), truth, PARTICLES)


def summary(results):
    return comparison_summary(results, paired_tests(results))


def test_ranked_by_the_pooled_score_with_folds_beside_it():
    single = evaluated(fold_0=PERFECT, fold_1=shifted(RUNS))
    ensemble = evaluated("kfold_ensemble", ensemble=shifted(RUNS[:2]))
    assert ranked([single, ensemble]) == [ensemble, single]
    table = summary([single, ensemble]).set_index("strategy")
    assert table["rank"].tolist() == [1, 2] and table["folds"].tolist() == [0, 2]
    half = 17 * 0.5 * 0.5 / (16 * 0.5 + 0.5)  # precision and recall of 1/2
    assert table.loc["best_single", "mean_over_folds_f4"] == pytest.approx((1 + half) / 2)
    assert table.loc["best_single", "std_over_folds_f4"] == pytest.approx((1 - half) / 2**0.5)
    assert table.loc["best_single", "pooled_f4"] == pytest.approx(0.75)  # of 3 in 4 found, 1 in 4 wrong
    assert table.loc["kfold_ensemble", "pooled_f4"] == pytest.approx(0.875)
    assert np.isnan(table.loc["kfold_ensemble", "mean_over_folds_f4"])
    assert as_text([single, ensemble]).index("kfold_ensemble") < as_text([single, ensemble]).index("best_single")


def test_a_difference_is_one_only_when_it_is():
    best = evaluated("kfold_ensemble", ensemble=PERFECT)
    worse, alike = evaluated(fold_0=shifted(RUNS)), evaluated("ensemble_specialists", fold_0=shifted(RUNS[:1]))
    table = summary([worse, alike, best]).set_index("strategy")
    assert table.loc["best_single", "differs"] == "yes" and table.loc["best_single", "difference_to_best"] < -0.4
    assert table.loc["ensemble_specialists", "differs"] != "yes"
    assert table.loc["kfold_ensemble", ["difference_to_best", "p_value", "differs"]].isna().all()
    alone = summary([best])
    assert list(alone.columns) == list(table.reset_index()[alone.columns].columns)  # the same for any number


@pytest.mark.parametrize("runs", [5, 6])
def test_intervals_from_six_tomograms_on(runs):
    chosen = RUNS[:runs]
    picks = shifted(RUNS[:3])
    one = of_picks(
        Configuration("df1", "best_single", "cc3d", "none"),
        {"fold_0": picks[picks["experiment"].isin(chosen)]},
        TRUTH[TRUTH["experiment"].isin(chosen)],
    )
    [row] = summary([one]).to_dict("records")
    text = as_text([one])
    if runs < 6:
        assert np.isnan(row["f4_low"]) and np.isnan(row["f4_high"])
        assert "too few tomograms for an interval: 5, at least 6" in text and "nan" not in text
    else:
        assert row["f4_low"] < row["pooled_f4"] < row["f4_high"]
        assert f"{row['f4_low']:.3f} to {row['f4_high']:.3f}" in text and "too few" not in text


def test_particles_and_position_errors():
    table = comparison_by_particle([evaluated(fold_0=shifted(RUNS, dz=20.0), fold_1=shifted([], dz=-20.0))])
    row = table.set_index("particle").loc["ribosome"]
    assert row["true_positives"] == 0.75 * 32 and row["false_negatives"] == 0.25 * 32
    assert row["rms_error_z_angstrom"] == pytest.approx(20.0) and row["rms_error_xy_angstrom"] == 0.0


def test_every_tomogram_and_what_it_does_not_have():
    without = TRUTH[(TRUTH["experiment"] != "TS_1") | (TRUTH["particle_type"] != "ribosome")]
    one = of_picks(Configuration("df1", "best_single", "cc3d", "d2h"), {"fold_0": PERFECT}, without)
    table = per_tomogram_table([one]).set_index("tomogram")
    assert table.index.tolist() == RUNS and np.isnan(table.loc["TS_1", "f4_ribosome"])
    assert table.loc["TS_2", "f4_ribosome"] == table.loc["TS_2", "weighted_f4"] == 1.0


def test_a_tomogram_as_it_is_finished():
    counts = np.array([[3, 1, 1]] + [[2, 0, 0]] * (len(PARTICLES) - 1))
    row = intermediate_row(Configuration("a", "b", "c", "d"), "fold_0", Record("TS_3", None, 7, counts), PARTICLES)
    lost = 0.25 * PARTICLES[0].score_weight / sum(particle.score_weight for particle in PARTICLES)
    assert row == {
        **{"experiment": "a", "strategy": "b", "method": "c", "views": "d"},
        **{"detector": "fold_0", "tomogram": "TS_3", "picks": 7, "weighted_f4": pytest.approx(1 - lost)},
    }
