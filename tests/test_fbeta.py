"""The official score: known answers without files, known answers on real data."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.picks import picks_table, write_picks
from errors import InputError
from metrics.fbeta import f_beta, main, match_counts, score_of_counts, score_picks
from particle_config import PARTICLES

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "data" / "real"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="real data not at hand")


def table(rows, run="TS_1"):
    return pd.DataFrame([(run, *row) for row in rows], columns=["experiment", "particle_type", "x", "y", "z"])


ONE_OF_EACH = table([(p.name, 1000.0 * p.label, 500.0, 300.0) for p in PARTICLES])


# --- Counting -----------------------------------------------------------------------------------------
def test_match_radius_is_inclusive():
    reference = np.array([[0.0, 0.0, 0.0]])
    assert match_counts(np.array([[0.0, 3.0, 4.0]]), reference, 5.0) == (1, 0, 0)
    assert match_counts(np.array([[0.0, 3.0, 4.001]]), reference, 5.0) == (0, 1, 1)


def test_two_candidates_on_one_reference_are_one_hit_and_one_false_positive():
    assert match_counts(np.array([[0, 0, 1.0], [0, 0, -1.0]]), np.zeros((1, 3)), 5.0) == (1, 1, 0)


def test_one_candidate_on_two_references_makes_false_positives_negative():
    assert match_counts(np.zeros((1, 3)), np.array([[0, 0, 1.0], [0, 0, -1.0]]), 5.0) == (2, -1, 0)


def test_empty_sides():
    none, three = np.empty((0, 3)), np.arange(9.0).reshape(3, 3)
    assert match_counts(three, none, 1.0) == (0, 3, 0)
    assert match_counts(none, three, 1.0) == (0, 0, 3)
    assert match_counts(none, none, 1.0) == (0, 0, 0)


def test_f_beta_by_hand():
    assert f_beta(8, 2, 8) == pytest.approx(17 * 0.8 * 0.5 / (16 * 0.8 + 0.5))
    assert f_beta(0, 0, 0) == 0 and f_beta(0, 5, 0) == 0 and f_beta(0, 0, 5) == 0
    assert f_beta(1, 1, 1, beta=1.0) == pytest.approx(0.5)
    assert np.allclose(f_beta(np.array([8, 0]), np.array([2, 1]), np.array([8, 1])), [f_beta(8, 2, 8), 0])


# --- The score ----------------------------------------------------------------------------------------
def test_truth_against_itself_is_one():
    score = score_picks(ONE_OF_EACH, ONE_OF_EACH)
    assert score.weighted == 1.0 and score.mean_over_runs == 1.0


def test_every_point_twice():
    assert score_picks(pd.concat([ONE_OF_EACH, ONE_OF_EACH]), ONE_OF_EACH).weighted == pytest.approx(17 / 18)


def test_nine_far_false_picks_per_point():
    far = pd.concat([ONE_OF_EACH.assign(z=ONE_OF_EACH.z + 5000 + 100 * k) for k in range(9)])
    assert score_picks(pd.concat([ONE_OF_EACH, far]), ONE_OF_EACH).weighted == pytest.approx(0.65385, abs=1e-5)


@pytest.mark.parametrize(("shift", "expected"), [(29.0, 1.0), (30.0, 1.0), (31.0, 6 / 7)])
def test_shift_loses_apo_ferritin_first(shift, expected):
    shifted = ONE_OF_EACH.assign(x=ONE_OF_EACH.x + shift)
    assert score_picks(shifted, ONE_OF_EACH).weighted == pytest.approx(expected)


def test_amylase_counts_nothing():
    without = ONE_OF_EACH[ONE_OF_EACH.particle_type != "beta-amylase"]
    score = score_picks(without, ONE_OF_EACH)
    assert score.weighted == 1.0 and score.per_particle.loc["beta-amylase", "f4"] == 0.0


def test_counts_are_pooled_before_f_is_computed():
    truth = pd.concat(
        [table([("ribosome", float(k) * 1000, 0, 0) for k in range(9)], "A"), table([("ribosome", 0, 0, 0)], "B")]
    )
    picks = table([("ribosome", 0.0, 0.0, 0.0)], "B")
    score = score_picks(picks, truth)
    assert score.per_particle.loc["ribosome", "f4"] == pytest.approx(f_beta(1, 0, 9))
    assert score.mean_over_runs == pytest.approx(0.5)  # run A scores 0, run B 1


def test_the_table_of_runs_says_what_each_run_has():
    truth = pd.concat([ONE_OF_EACH, table([("ribosome", 0.0, 0, 0), ("ribosome", 900.0, 0, 0)], "TS_2")])
    picks = pd.concat([ONE_OF_EACH, table([("ribosome", 0.0, 0, 0), ("apo-ferritin", 0, 0, 0)], "TS_2")])
    score = score_picks(picks, truth)
    rows = score.per_run.set_index(["run", "particle"])
    assert list(rows.loc["TS_2"].index) == [p.name for p in PARTICLES]
    assert rows.loc[("TS_2", "ribosome")].tolist() == [1, 0, 1, f_beta(1, 0, 1)]
    assert rows.loc[("TS_2", "apo-ferritin")].tolist()[:3] == [0, 1, 0] and np.isnan(rows.f4["TS_2", "apo-ferritin"])
    assert score.weighted_per_run.to_dict() == {"TS_1": 1.0, "TS_2": f_beta(1, 0, 1)}
    assert score.mean_over_runs == score.weighted_per_run.mean()
    assert score.counts.shape == (2, len(PARTICLES), 3)
    totals = score.per_particle[["true_positives", "false_positives", "false_negatives"]]
    assert np.array_equal(score.counts.sum(axis=0), totals)


def test_unknown_runs_are_dropped():
    extra = table([("ribosome", 1.0, 2.0, 3.0)], "elsewhere")
    assert score_picks(pd.concat([ONE_OF_EACH, extra]), ONE_OF_EACH).weighted == 1.0


def test_errors_name_the_culprit():
    with pytest.raises(InputError, match="'prion'"):
        score_picks(table([("prion", 0, 0, 0)]), ONE_OF_EACH)
    with pytest.raises(InputError, match="duplicate reference point"):
        score_picks(ONE_OF_EACH, pd.concat([ONE_OF_EACH, ONE_OF_EACH]))
    with pytest.raises(InputError, match="TS_9"):
        score_picks(ONE_OF_EACH, ONE_OF_EACH, runs=["TS_9"])


# --- Real data ----------------------------------------------------------------------------------------
@needs_real
def test_known_answers_on_real_data():
    truth = pd.read_csv(REAL / "train_ground_truth.csv")
    rng = np.random.default_rng(0)
    far = pd.concat([truth.assign(z=truth.z + 1e5 + 1e3 * k + rng.uniform(0, 1)) for k in range(9)])
    assert score_picks(truth, truth).weighted == 1.0
    assert score_picks(pd.concat([truth, truth]), truth).weighted == pytest.approx(0.94444, abs=1e-5)
    assert score_picks(pd.concat([truth, far]), truth).weighted == pytest.approx(0.65385, abs=1e-5)
    assert score_picks(truth.assign(x=truth.x + 29), truth).weighted == 1.0
    assert score_picks(truth.assign(x=truth.x + 31), truth).weighted == pytest.approx(0.85714, abs=1e-5)


@needs_real
def test_known_score_of_a_real_network():
    picks, truth = (pd.read_csv(REAL / name) for name in ("predictions_5_runs.csv", "train_ground_truth.csv"))
    score = score_picks(picks, truth, runs=sorted(picks.experiment.unique()))
    assert score.weighted == pytest.approx(0.78267, abs=5e-6)
    rows = score.per_particle[["true_positives", "false_positives", "false_negatives"]]
    assert rows.loc["apo-ferritin"].tolist() == [253, 191, 17]
    assert rows.loc["beta-galactosidase"].tolist() == [69, 521, 9]
    assert rows.loc["ribosome"].tolist() == [243, 291, 10]
    assert rows.loc["thyroglobulin"].tolist() == [157, 840, 14]
    assert rows.loc["virus-like-particle"].tolist() == [64, 20, 1]


# --- The command line ---------------------------------------------------------------------------------
def run_module(*arguments):
    command = [sys.executable, "-m", "metrics.fbeta", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)


def test_command_line_prints_the_table(tmp_path):
    ONE_OF_EACH.to_csv(tmp_path / "truth.csv", index=False)
    done = run_module("--picks", tmp_path / "truth.csv", "--truth", tmp_path / "truth.csv")
    assert done.returncode == 0 and "weighted F4" in done.stdout and "1.0000" in done.stdout


def test_command_line_names_a_missing_file(tmp_path):
    done = run_module("--picks", tmp_path / "none.csv", "--truth", tmp_path / "none.csv")
    assert done.returncode == 2 and "none.csv" in done.stderr and "Traceback" not in done.stderr


def test_the_score_of_counts_and_of_their_means():
    counts = np.zeros((2, len(PARTICLES), 3), dtype=int)
    counts[:, 3] = [[3, 1, 0], [1, 0, 1]]
    score = score_of_counts(counts, ["a", "b"], PARTICLES)
    assert score.runs == ["a", "b"] and np.array_equal(score.counts, counts)
    assert score.per_particle.loc["ribosome", "f4"] == f_beta(4, 1, 1)
    assert score.weighted_per_run["a"] == f_beta(3, 1, 0)  # the only particle that the run has
    halves = score_of_counts(counts / 2, ["a", "b"], PARTICLES)
    assert halves.per_particle.loc["ribosome", "references"] == 2.5
    assert halves.weighted == pytest.approx(score.weighted) and "2.5" not in str(score)


def picks_of(root, run, points):
    """A run of the challenge's layout; picks of ribosomes only where there are points."""
    (root / "train" / "static" / "ExperimentRuns" / run / "VoxelSpacing10.000" / "denoised.zarr").mkdir(parents=True)
    if points is not None:
        path = root / "train" / "overlay" / "ExperimentRuns" / run / "Picks" / "ribosome.json"
        write_picks(path, particle_name="ribosome", run_name=run, coordinates_zyx_angstrom=points)


def score(tmp_path, capsys, table, *flags):
    table.to_csv(tmp_path / "picks.csv", index=False)
    main(["--picks", str(tmp_path / "picks.csv"), "--truth", str(tmp_path / "data"), *flags])
    (line,) = [one for one in capsys.readouterr().out.splitlines() if one.startswith("ribosome")]
    return float(line.split()[1])


def test_only_the_runs_that_are_asked_for_are_read(tmp_path, capsys):
    points = np.array([[100.0, 200.0, 300.0]])
    for run, of in (("TS_1", points), ("TS_2", points), ("TS_9", None)):
        picks_of(tmp_path / "data", run, of)
    mine = picks_table("TS_1", "ribosome", points)
    with pytest.warns(UserWarning, match="without picks .*: TS_9"):
        assert score(tmp_path, capsys, mine) < 1
    (tmp_path / "data/train/overlay/ExperimentRuns/TS_2/Picks/ribosome.json").write_text("broken")
    assert score(tmp_path, capsys, mine, "--runs", "TS_1") == 1
    with pytest.raises(InputError, match="TS_9 has no picks"):
        score(tmp_path, capsys, mine, "--runs", "TS_9")


def test_runs_that_do_not_meet_are_named(tmp_path, capsys):
    points = np.array([[100.0, 200.0, 300.0]])
    picks_of(tmp_path / "data", "TS_1", points)
    other = picks_table("TS_1.zarr", "ribosome", points)
    with pytest.warns(UserWarning, match=r"does not have are dropped: TS_1\.zarr"):
        assert score(tmp_path, capsys, other) == 0
    with pytest.warns(UserWarning, match="has no picks of: TS_1"):
        assert score(tmp_path, capsys, other, "--runs", "TS_1") == 0
