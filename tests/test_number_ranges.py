"""Every flag that takes a number names its range, and refuses what no run could use, in the parser."""

import argparse
import importlib
import re

import pytest

from cluster.arguments import shard_argument
from data.files import path_argument
from data.names import comment_argument, name_argument
from data.number_ranges import COUNT, SHARE, NumberRange, whole
from docs.flags import MODULES

# Numbers for which 0 has a meaning of its own; of the others 0 is refused.
MAY_BE_ZERO = {
    *("--seed", "--fold", "--run_specific_folds", "--num_workers", "--num_train", "--num_eval", "--noise"),
    *("--class_loss_weights", "--norm_percentiles", "--sw_overlap", "--cache_limit_gb", "--filter_prob", "--dropout"),
    "--label_smoothing",
    *("--training_radius_fraction", "--min_confidence", "--exclude_edge_angstrom"),
}
ABSURD = ["nan", "inf", "-inf", "-1", "1e18", "1" + "0" * 18, "9" * 5000, "²", "", "0x10", "one"]


NO_NUMBERS = (None, path_argument, name_argument, comment_argument, shard_argument)
SHARDS = ["nan/2", "1/inf", "0/0", "-1/2", "3/2", "1/1000000000", "9" * 5000 + "/2", "²/2", "1"]


def actions_with_a_type():
    for module in MODULES:
        for action in importlib.import_module(module).build_parser()._actions:
            # A path may be anything, a choice is checked by itself.
            if action.type not in NO_NUMBERS and action.choices is None:
                yield pytest.param(action, id=f"{module} {action.option_strings[0]}")


def may_be_zero(action):
    """Also thresholds, whose flags are made of a table."""
    [flag] = action.option_strings
    return flag in MAY_BE_ZERO or (action.metavar == "V" and "cluster_rad" not in flag)


@pytest.mark.parametrize("action", list(actions_with_a_type()))
def test_no_flag_takes_what_no_run_could_use(action):
    tiny = [] if may_be_zero(action) else ["0", "1e-30", "1e-12"]
    for text in [*ABSURD, *tiny]:
        with pytest.raises(argparse.ArgumentTypeError, match=r"a (whole )?number from .* to "):
            action.type(text)


@pytest.mark.parametrize("action", list(actions_with_a_type()))
def test_defaults_are_in_range(action):
    values = action.default if isinstance(action.default, list | tuple) else [action.default]
    for value in values:
        assert value is None or action.type(str(value)) == value


@pytest.mark.parametrize("module", MODULES)
def test_numbers_by_default_have_a_type(module):
    for action in importlib.import_module(module).build_parser()._actions:
        is_number = isinstance(action.default, int | float) and not isinstance(action.default, bool)
        assert not is_number or action.type is not None, action.option_strings


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("train", ["--batch_size", "1000000"]),
        ("train", ["--voxel_spacing", "1e-30"]),
        ("train", ["--rescale", "nan"]),
        ("make_phantom_dataset", ["--tilt_step", "1e-9"]),
        ("eval_public_czi", ["--model_path", "a", "--max_memory_gb", "nan"]),
        ("pick_particles", ["--model_path", "a", "--inference_window", "64", "0", "64"]),
        ("run_experiment_evaluation", ["--experiment_names", "a", "--conf_thresholds", "0.5", "1e308"]),
    ],
)
def test_the_parser_names_flag_and_range(module, words, capsys):
    with pytest.raises(SystemExit) as error:
        importlib.import_module(module).build_parser().parse_args(words)
    flag = [word for word in words if word.startswith("--")][-1]
    assert error.value.code == 2
    assert re.search(rf"error: argument {flag}: must be a (whole )?number from ", capsys.readouterr().err)


def test_the_ends_are_in_range_and_nothing_beyond():
    assert [value in whole(1, 3) for value in (0, 1, 3, 4, 2.0, True, None, "2")] == [False, True, True] + [False] * 5
    assert all(value in SHARE for value in (0, 1, 0.5)) and not any(v in SHARE for v in (float("nan"), 10**400, -1e-9))
    assert COUNT("7") == 7 and SHARE("1e-3") == 0.001
    assert (
        str(whole(1, 3)) == "a whole number from 1 to 3" and str(NumberRange(0.1, 1e6)) == "a number from 0.1 to 1e+06"
    )


@pytest.mark.parametrize("text", SHARDS, ids=lambda text: text[:20])
def test_shards_that_nobody_starts(text):
    with pytest.raises(argparse.ArgumentTypeError):
        shard_argument(text)


def test_a_long_text_is_not_repeated():
    with pytest.raises(argparse.ArgumentTypeError) as error:
        COUNT("9" * 5000)
    assert len(str(error.value)) < 120
