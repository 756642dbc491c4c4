"""A training that may take so many minutes."""

import json

import pytest
import tiny_campaign

import train
from errors import InputError
from training.argument_checks import check_arguments
from training.duration import Pace

MACHINE = ("--device", "cpu", "--precision", "fp32", "--encoder_name", "deepfinder2")


@pytest.mark.parametrize(
    ("seconds", "validation", "given", "expected"),
    [
        (1000, 5.0, {"steps_per_epoch": 100}, (9, 1, 100)),  # 105 s an epoch
        (105, 5.0, {"steps_per_epoch": 100}, (1, 1, 100)),
        (1000, 5.0, {"steps_per_epoch": 100, "validate_every": 4}, (8, 4, 100)),  # 405 s for four
        (1200, 75.0, {"steps_per_epoch": 100}, (10, 5, 100)),  # eleven would fit with one validation
        (1200, 75.0, {"steps_per_epoch": 100, "validate_every": 1}, (6, 1, 100)),
        (36_000, 75.0, {"steps_per_epoch": 100}, (328, 8, 100)),  # with every seventh epoch 322 of 359
        (1000, 5.0, {}, (9, 1, 106)),  # 955 s for steps
        (1000, 5.0, {"validate_every": 4}, (8, 4, 123)),  # 990 s
        (199, 5.0, {}, (1, 1, 194)),
        (60, 5.0, {}, (1, 1, 55)),
        (13, 5.0, {}, (1, 1, 8)),
    ],
)
def test_as_many_steps_as_fit(seconds, validation, given, expected):
    assert Pace(step=1.0, validation=validation).schedule(seconds, usual_steps=100, **given) == expected


@pytest.mark.parametrize("step", [0.3, 1.0, 7.0])
@pytest.mark.parametrize("validation", [0.0, 1e-9, 1.0, 30.0, 100.0, 1000.0])
@pytest.mark.parametrize("seconds", [1200, 5000, 77_777])
def test_validations_leave_nine_tenths_of_the_steps(seconds, validation, step):
    """And the time is kept; the last epoch is validated."""
    epochs, every, steps = Pace(step, validation).schedule(seconds, usual_steps=100)
    used = epochs * steps * step + epochs // every * validation
    assert epochs % every == 0 and used <= seconds * (1 + 1e-6)
    assert epochs * steps >= 0.9 * int((seconds - validation) / step) - epochs


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"steps_per_epoch": 100}, r"100 steps and a validation take 1\.8 minutes, and 0\.2 are there"),
        ({}, r"8 steps and a validation take 0\.2 minutes, and 0\.2 are there"),
        ({"validate_every": 3}, r"24 steps and a validation take 0\.5 minutes"),
    ],
)
def test_a_time_in_which_nothing_is_done_is_refused(given, problem):
    with pytest.raises(InputError, match=problem):
        Pace(step=1.0, validation=5.0).schedule(12, usual_steps=100, **given)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--epochs", 3), "exclude each other"),
        (("--resume_from_checkpoint", "a.ckpt"), "from its beginning"),
        (("--devices", 2), "one process"),
    ],
)
def test_what_it_contradicts(words, problem):
    args = train.build_parser().parse_args(["--minutes", "5", "--device", "cpu", *map(str, words)])
    with pytest.raises(InputError, match=problem):
        check_arguments(args)


def test_the_folds_of_an_experiment_have_the_epochs_of_the_first(tmp_path, capsys, monkeypatch):
    for seed, name in enumerate(("TS_1", "TS_2")):
        tiny_campaign.write_run(tmp_path / "data", name, seed)
    paces = []

    def measured(settings, fold, train_it):
        paces.append(real(settings, fold, train_it))
        return Pace(step=1.0, validation=0.0)

    real = train.measured_pace
    monkeypatch.setattr(train, "measured_pace", measured)
    folders = ("--data_root", tmp_path / "data", "--output_dir", tmp_path, "--cache_dir", tmp_path / "cache")
    sizes = ("--steps_per_epoch", 1, "--batch_size", 1, "--patch_size", 16, 32, 32)
    words = [*folders, *MACHINE, *sizes, "--experiment_name", "one"]
    train.main([str(word) for word in (*words, "--fold", 0, "--minutes", 0.1)])
    assert json.loads((tmp_path / "one" / "args.json").read_text())["epochs"] == 6
    assert (
        "1.00 s a step, 0.0 s a validation: --epochs 6 --validate_every 1 --steps_per_epoch 1"
        in capsys.readouterr().out
    )
    train.main([str(word) for word in (*words, "--fold", 1, "--minutes", 50)])
    assert len(list((tmp_path / "one").glob("fold_1-best-fscore*"))) == 1
    [pace] = paces  # measured once, and nothing of it is left
    assert 0 < pace.step < 5 and pace.validation > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "data", "one"]
    with pytest.raises(InputError, match="--epochs 6, not 4"):
        train.main([str(word) for word in (*words, "--fold", 1, "--epochs", 4)])


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (("--steps_per_epoch", 1), {"epochs": 6, "validate_every": 6, "steps_per_epoch": 1}),
        ((), {"epochs": 1, "validate_every": 1, "steps_per_epoch": 6}),
    ],
)
def test_the_folds_of_a_call_share_the_time_which_is_used(tmp_path, monkeypatch, steps, expected):
    """Of ten seconds for each of two folds a validation takes four and each step one."""
    for seed, name in enumerate(("TS_1", "TS_2")):
        tiny_campaign.write_run(tmp_path / "data", name, seed)
    monkeypatch.setattr(train, "measured_pace", lambda *_: Pace(step=1.0, validation=4.0))
    monkeypatch.setattr("training.duration.STEPS", 2)
    folders = ("--data_root", tmp_path / "data", "--output_dir", tmp_path, "--cache_dir", tmp_path / "cache")
    sizes = ("--batch_size", 1, "--patch_size", 16, 32, 32, "--experiment_name", "two")
    train.main([str(word) for word in (*folders, *MACHINE, *sizes, *steps, "--minutes", 1 / 3)])
    saved = json.loads((tmp_path / "two" / "args.json").read_text())
    assert {name: saved[name] for name in expected} == expected
    for fold in (0, 1):
        rows = (tmp_path / "two" / f"fold_{fold}" / "metrics.csv").read_text().splitlines()[1:]
        assert [row.split(",")[1] for row in rows if row.split(",")[5]] == ["6"], "validated once, after six steps"
