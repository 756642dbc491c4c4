"""benchmarks/training_time.py: trainings that finished are not repeated; gains, table and picture of known scores."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from benchmarks import training_time
from errors import InputError

F4 = {("one view", "a"): 0.5, ("one view", "b"): 0.7, ("views", "a"): 0.55, ("views", "b"): 0.69}
F4 |= {("one view", training_time.ALL): 0.62, ("views", training_time.ALL): 0.64}
SCORES = pd.DataFrame(
    [
        {
            **{"minutes": minutes, "seed": seed, "encoder": "deepfinder2", "steps": 40 * minutes},
            **{"views": views, "tomogram": name, "f4": f4 + 0.1 * (minutes == 60) + 0.02 * seed},
        }
        for minutes, seed in ((10, 0), (10, 1), (60, 0))
        for (views, name), f4 in F4.items()
    ]
)


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """What was started; trainings and evaluations leave what the benchmark reads."""
    (tmp_path / "public" / "a" / "Picks").mkdir(parents=True)
    made = []

    def run(jobs, script, *words):
        words = [str(word) for word in words]
        flags = dict(zip(words[::2], words[1::2], strict=False))
        made.append((script, flags))
        folder = Path(flags["--output_dir"])
        if script == "train.py":
            (folder / "run" / "fold_0").mkdir(parents=True)
            (folder / "run" / "args.json").write_text("{}")
            pd.DataFrame({"step": [20, 40]}).to_csv(folder / "run" / "fold_0" / "metrics.csv")
        else:
            folder.mkdir(parents=True)
            f4 = 0.7 if "--use_tta" in words else 0.6
            report = {"score": {"weighted_f4": f4}, "runs": {"a": {"weighted_f4": f4 - 0.1}}}
            (folder / "scores.json").write_text(json.dumps(report))

    monkeypatch.setattr(training_time, "run_beside_others", run)
    return made


def arguments(tmp_path, *words):
    roots = ["--data_root", tmp_path, "--public_root", tmp_path / "public", "--output_dir", tmp_path / "out"]
    return [str(word) for word in (*roots, *words)]


def test_trainings_that_finished_are_not_repeated(tmp_path, calls, capsys):
    training_time.main(arguments(tmp_path, "--minutes", 5, 2))
    assert [flags["--minutes"] for script, flags in calls if script == "train.py"] == ["2", "5"]
    assert len(calls) == 6
    training_time.main(arguments(tmp_path, "--minutes", 2, 5, "--seeds", 0, 1))
    assert [(flags["--minutes"], flags["--seed"]) for script, flags in calls[6:] if script == "train.py"] == [
        ("2", "1"),
        ("5", "1"),
    ]
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert len(scores) == 4 * 2 * 2 and set(scores["steps"]) == {40}
    assert set(scores["f4"][scores["views"] == "views"]) == {0.7, 0.6}
    assert "| deepfinder2 | 5 | 40 | 2 | 0.600 (0.600 to 0.600) | 0.700" in capsys.readouterr().out


def test_the_scores_of_other_data_are_not_taken_for_these(tmp_path, calls):
    training_time.main(arguments(tmp_path, "--minutes", 2))
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="of other data"):
        training_time.main([*arguments(tmp_path, "--minutes", 2, "--data_root"), str(tmp_path / "other")])
    assert len(calls) == 3


def test_what_a_stopped_training_left_is_not_scored(tmp_path, calls):
    left = tmp_path / "out" / "deepfinder2_2_minutes_seed_0" / "a_run" / "fold_0"
    left.mkdir(parents=True)
    (left.parent / "args.json").write_text("{}")
    training_time.main(arguments(tmp_path, "--minutes", 2))
    models = [Path(flags["--model_path"]).name for script, flags in calls if script == "eval_public_czi.py"]
    assert models == ["run", "run"]


def test_unprepared_tomograms_are_refused(tmp_path, calls):
    with pytest.raises(InputError, match="no prepared picks"):
        training_time.main(["--public_root", str(tmp_path), "--output_dir", str(tmp_path / "out")])
    assert not calls and not (tmp_path / "out").exists()


def test_the_table_has_means_ranges_and_gains():
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in training_time.as_markdown(SCORES).splitlines()
    ]
    assert len({len(line) for line in lines}) == 1
    assert lines[2][1:6] == ["10", "400", "2", "0.630 (0.620 to 0.640)", "0.650 (0.640 to 0.660)"]
    assert lines[2][6:] == ["+0.020 (+0.020 to +0.020)", "+0.020 (-0.010 to +0.050)"]
    assert lines[3][1:7] == ["60", "2400", "1", "0.720", "0.740", "+0.020"]


@pytest.mark.pictures
def test_the_picture_shows_means_and_seeds(tmp_path):
    wide = training_time.with_gains(SCORES[SCORES["tomogram"] == training_time.ALL])
    figure, panel = plt.subplots()
    training_time.draw(panel, wide)
    one_view = panel.lines[0]
    assert list(one_view.get_xdata()) == [10, 60] and list(one_view.get_ydata()) == pytest.approx([0.63, 0.72])
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["10 min", "1 h"]
    plt.close(figure)
    path = training_time.save_picture(tmp_path / "docs" / "training_time.png", SCORES)
    assert plt.imread(path).shape[1] == 1200
