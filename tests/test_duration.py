"""A training that may take so many minutes."""

import json

import pytest
import tiny_campaign

import train
from errors import InputError
from training.argument_checks import check_arguments
from training.arguments import training_settings
from training.duration import Pace

MACHINE = ("--device", "cpu", "--precision", "fp32", "--encoder_name", "deepfinder2")


def settings(*words):
    return training_settings(train.build_parser().parse_args(["--device", "cpu", *map(str, words)]))


@pytest.mark.parametrize(
    ("seconds", "words", "epochs"),
    [
        (1000, ("--steps_per_epoch", 100), 9),  # 105 s an epoch
        (105, ("--steps_per_epoch", 100), 1),
        (1000, ("--steps_per_epoch", 100, "--validate_every", 4), 8),  # 405 s for four
    ],
)
def test_as_many_epochs_as_fit(seconds, words, epochs):
    assert Pace(step=1.0, validation=5.0).epochs_in(seconds, settings(*words)) == epochs


def test_a_time_in_which_nothing_is_done_is_refused():
    with pytest.raises(InputError, match=r"100 steps and a validation take 1\.8 minutes, and 1\.0 are there"):
        Pace(step=1.0, validation=5.0).epochs_in(60, settings("--steps_per_epoch", 100))


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
    assert "1.00 s a step, 0.0 s a validation: --epochs 6" in capsys.readouterr().out
    train.main([str(word) for word in (*words, "--fold", 1, "--minutes", 50)])
    assert len(list((tmp_path / "one").glob("fold_1-best-fscore*"))) == 1
    [pace] = paces  # measured once, and nothing of it is left
    assert 0 < pace.step < 5 and pace.validation > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "data", "one"]
    with pytest.raises(InputError, match="--epochs 6, not 4"):
        train.main([str(word) for word in (*words, "--fold", 1, "--epochs", 4)])


def test_all_folds_of_a_call_share_the_time(tmp_path, monkeypatch):
    for seed, name in enumerate(("TS_1", "TS_2")):
        tiny_campaign.write_run(tmp_path / "data", name, seed)
    monkeypatch.setattr(train, "measured_pace", lambda *_: Pace(step=1.0, validation=0.0))
    folders = ("--data_root", tmp_path / "data", "--output_dir", tmp_path, "--cache_dir", tmp_path / "cache")
    sizes = ("--steps_per_epoch", 1, "--batch_size", 1, "--patch_size", 16, 32, 32, "--experiment_name", "two")
    train.main([str(word) for word in (*folders, *MACHINE, *sizes, "--minutes", 0.1)])
    assert json.loads((tmp_path / "two" / "args.json").read_text())["epochs"] == 3
