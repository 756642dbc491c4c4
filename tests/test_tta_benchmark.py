"""The benchmark of views: gains seed by seed, thresholds cut as detection would, nothing finished is repeated."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import config
from benchmarks import tta, tta_picture
from errors import InputError
from particle_config import PARTICLES

NAMES = [particle.name for particle in PARTICLES]
TRUTH = pd.DataFrame(
    [("run", name, 1000.0 * k, 0.0, 0.0) for k, name in enumerate(NAMES)],
    columns=["experiment", "particle_type", "x", "y", "z"],
)


def scores_table(rows) -> pd.DataFrame:
    """Rows (training, seed, group, F4, best F4), the other columns alike."""
    table = pd.DataFrame(rows, columns=["training", "seed", "group", "f4", "best_f4"])
    return table.assign(data="a", steps=800, views=8, cost=7.9, rms_z=9.0, rms_xy=5.0)


SCORES = scores_table(
    [
        ("with", 0, "none", 0.70, 0.80),
        ("with", 0, "d2h", 0.72, 0.81),
        ("with", 1, "none", 0.50, 0.60),
        ("with", 1, "d2h", 0.56, 0.63),
        ("without", 0, "none", 0.40, 0.45),
        ("without", 0, "d2h", 0.39, 0.45),
    ]
)


# --- Scores -------------------------------------------------------------------------------------------
def test_summary_of_the_truth_and_of_a_false_pick_for_each_hit():
    """Hits score 0.9, false picks 0.2: at 0.1 half of all picks are false, at the best thresholds none."""
    false = TRUTH.assign(y=500.0, score=0.2)
    picks = pd.concat([TRUTH.assign(score=0.9, z=5.0), false], ignore_index=True)
    result = tta.summary(picks, TRUTH, dict.fromkeys(NAMES, 0.1))
    assert result["f4"] == pytest.approx(17 * 0.5 / (16 * 0.5 + 1)) and result["best_f4"] == pytest.approx(1.0)
    assert result["pairs"] == len(NAMES)
    assert result["rms_z"] == pytest.approx(5.0) and result["rms_xy"] == 0.0
    assert tta.summary(picks, TRUTH, dict.fromkeys(NAMES, 0.5))["f4"] == pytest.approx(1.0)
    assert tta.summary(picks, TRUTH, dict.fromkeys(NAMES, 0.95))["pairs"] == 0


def test_every_particle_has_its_own_threshold():
    picks = TRUTH.assign(score=0.3)
    kept = tta.above(picks, {name: 0.3 if name == "ribosome" else 0.31 for name in NAMES})
    assert list(kept["particle_type"]) == ["ribosome"]


def test_summary_without_picks():
    result = tta.summary(TRUTH.assign(score=0.5).iloc[:0], TRUTH, dict.fromkeys(NAMES, 0.1))
    assert result["f4"] == result["best_f4"] == 0.0 and result["pairs"] == 0 and np.isnan(result["rms_z"])


def test_the_curve_pools_the_runs():
    truth = pd.concat([TRUTH, TRUTH.assign(experiment="other")])
    curve = tta.pooled_curve(TRUTH.assign(score=0.9), truth, PARTICLES[0])
    assert curve.references == 2 and list(curve.true_positives) == [1]


# --- Tables -------------------------------------------------------------------------------------------
def test_gains_are_over_no_views_in_the_same_network():
    table = tta.with_gains(SCORES.sample(frac=1, random_state=0)).set_index(["training", "seed", "group"])
    for key, gain, best_gain in ((("with", 0), 0.02, 0.01), (("with", 1), 0.06, 0.03), (("without", 0), -0.01, 0.0)):
        assert table.loc[(*key, "d2h"), "gain"] == pytest.approx(gain)
        assert table.loc[(*key, "d2h"), "best_gain"] == pytest.approx(best_gain)
        assert table.loc[(*key, "none"), "gain"] == 0.0


def test_the_same_seed_of_other_data_is_another_network():
    table = tta.with_gains(pd.concat([SCORES, SCORES.assign(data="b", f4=SCORES["f4"] ** 2)], ignore_index=True))
    row = table[(table["data"] == "b") & (table["group"] == "d2h") & (table["seed"] == 1)].iloc[0]
    assert row["gain"] == pytest.approx(0.56**2 - 0.50**2)


def test_the_table_has_means_and_ranges():
    lines = tta.as_markdown(tta.with_gains(SCORES)).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert len(cells) == 2 + 4 and len({len(row) for row in cells}) == 1
    assert cells[3][:6] == ["with", "800", "d2h (8)", "2", "0.640 (0.560 to 0.720)", "+0.040 (+0.020 to +0.060)"]
    assert cells[3][8:] == ["7.9", "9.0", "5.0"]
    assert cells[5][3:6] == ["1", "0.390", "-0.010"]  # one seed has no range


@pytest.mark.pictures
def test_the_picture_shows_every_group_and_training(tmp_path):
    scores = tta.with_gains(SCORES)
    figure, panel = plt.subplots()
    tta_picture.draw_panel(panel, scores)
    assert [tick.get_text().split("\n")[0] for tick in panel.get_xticklabels()] == ["d2h"]
    heights = [line.get_ydata()[0] for line in panel.lines if line.get_marker() == "o"]
    assert heights == pytest.approx([0.04, 0.02, -0.01, 0.0])
    plt.close(figure)
    path = tta_picture.save_picture(tmp_path / "docs" / "tta.png", pd.concat([scores, scores.assign(data="b")]))
    assert plt.imread(path).shape[1] == 1800


# --- Running ------------------------------------------------------------------------------------------
def make_experiment(folder: Path, **arguments) -> Path:
    """A finished experiment without its checkpoint."""
    (folder / "fold_0").mkdir(parents=True)
    found = {config.POSTPROCESSING_METHOD: {name: {"peak_threshold": 0.1} for name in NAMES}}
    result = {"fold": 0, "validation_run": "a", "checkpoint": "x.ckpt", "f4": 0.5, "hyperparameters": found}
    (folder / "fold_0" / "result.json").write_text(json.dumps(result))
    pd.DataFrame({"step": [10, 20]}).to_csv(folder / "fold_0" / "metrics.csv")
    arguments = {"data_root": str(folder.parent), "seed": 0, "augmentation_mode": "wedge", **arguments}
    (folder / "args.json").write_text(json.dumps(arguments))
    return folder


def test_experiments_serve_for_their_training_and_seed(tmp_path):
    first = make_experiment(tmp_path / "first", steps_per_epoch=5)
    second = make_experiment(tmp_path / "second", seed=2, augmentation_mode="anisotropic", steps_per_epoch=6)
    with_turns, without = tta.TRAININGS
    given = tta.given_experiments([first, second], tmp_path)
    assert given == {(without, 0): first, (with_turns, 2): second}


@pytest.mark.parametrize(
    "change", [{"loss_type": "ce"}, {"augmentation_mode": "isotropic"}, {"data_root": "elsewhere"}], ids=str
)
def test_an_experiment_of_another_training_is_refused(tmp_path, change):
    first, other = make_experiment(tmp_path / "first"), make_experiment(tmp_path / "other", **change)
    with pytest.raises(InputError, match="other"):
        tta.given_experiments([first, other], tmp_path)


def test_an_unfinished_experiment_is_refused(tmp_path):
    with pytest.raises(InputError, match="unfinished"):
        tta.given_experiments([tmp_path / "unfinished"], tmp_path)


def test_a_folder_keeps_to_its_arguments(tmp_path):
    tta.claim(tmp_path, {"epochs": 3})
    tta.claim(tmp_path, {"epochs": 3})
    with pytest.raises(InputError, match="epochs"):
        tta.claim(tmp_path, {"epochs": 4})


def test_the_whole_run_repeats_nothing(tmp_path, monkeypatch, capsys):
    """With pretended scripts: every network is trained once, every group evaluated once, also in a second run."""
    calls = []

    def pretend(jobs, script, *flags):
        flags = list(map(str, flags))
        calls.append((script, flags))
        output = Path(flags[flags.index("--output_dir") + 1])
        if script == "train.py":
            make_experiment(output / "experiment")
        else:
            for group, score in (("d2h", 0.9), ("none", 0.05)):  # the latter below the checkpoint's threshold
                (output / group).mkdir(parents=True)
                TRUTH.assign(score=score).to_csv(output / group / "submission.csv", index=False)

    monkeypatch.setattr(tta, "run_beside_others", pretend)
    monkeypatch.setattr(tta, "measured_costs", lambda *_: {"none": 2.0, "d2h": 15.0})
    monkeypatch.setattr(tta, "find_runs", lambda root: [])
    monkeypatch.setattr(tta, "truth_table", lambda runs: TRUTH)
    (tmp_path / "public" / "run" / "Picks").mkdir(parents=True)
    words = f"--public_root {tmp_path / 'public'} --output_dir {tmp_path / 'out'} --seeds 3 4 --groups d2h --jobs 1"
    for _ in range(2):
        tta.main(words.split())
    assert sorted(script for script, _ in calls) == ["benchmarks.view_groups"] * 4 + ["train.py"] * 4
    modes = {flags[flags.index("--augmentation_mode") + 1] for script, flags in calls if script == "train.py"}
    assert modes == set(tta.TRAININGS.values())
    assert all(flags[-3:] == ["--groups", "none", "d2h"] for script, flags in calls if script != "train.py")
    scores = pd.read_csv(tmp_path / "out" / "phantom" / "scores.csv")
    d2h, none = scores[scores["group"] == "d2h"], scores[scores["group"] == "none"]
    assert set(d2h["f4"]) == {1.0} and set(d2h["cost"]) == {7.5} and set(d2h["views"]) == {8}
    assert set(none["f4"]) == {0.0} and set(none["best_f4"]) == {1.0} and set(scores["steps"]) == {20}
    assert "+1.000" in capsys.readouterr().out


def test_unprepared_annotations_are_an_error(tmp_path):
    with pytest.raises(InputError, match="prepare_fullpublic_eval_annotations"):
        tta.main(["--public_root", str(tmp_path), "--output_dir", str(tmp_path / "out")])
