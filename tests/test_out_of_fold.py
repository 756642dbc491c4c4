"""Hyperparameters are searched with networks that were not trained on the tomogram."""

from dataclasses import replace
from unittest import mock

import pandas as pd
import pytest
from test_checkpoints import DESCRIPTION

from errors import InputError
from evaluation.training_use import TrainingUse, cautions, training_use, unseen_by
from evaluation.tuning.out_of_fold import out_of_fold
from inference.ensembles import Ensemble, mean_of_maps

RUNS = ("a", "b", "c", "d")


def fold(number, names=RUNS):
    others = tuple(name for name in names if name != names[number])
    return replace(DESCRIPTION, fold=number, validation_runs=(names[number],), training_runs=others)


def chosen(names, descriptions, without_truth=()):
    """(run, numbers of its networks) of all that are searched on."""
    sources = [mock.Mock() for _ in names]
    for source, name in zip(sources, names, strict=True):
        source.name = name
    truths = {name: pd.DataFrame({"x": [0.0]}) for name in names if name not in without_truth}
    ensemble = Ensemble(tuple(range(len(descriptions))), mean_of_maps)
    found = out_of_fold(sources, truths, ensemble, descriptions)
    assert all(one.ensemble.combine is mean_of_maps and one.truth is truths[one.source.name] for one in found)
    return [(one.source.name, one.ensemble.members) for one in found]


def test_each_fold_predicts_its_own_tomogram_and_all_predict_new_ones():
    ensemble = [fold(k) for k in range(4)]
    everyone = (0, 1, 2, 3)
    assert chosen(["new", *RUNS, "newer"], ensemble) == [
        ("new", everyone),
        *((RUNS[k], (k,)) for k in range(4)),
        ("newer", everyone),
    ]


def test_two_networks_of_one_fold_predict_together():
    assert chosen(["b"], [fold(0), fold(1), fold(1)]) == [("b", (1, 2))]


def test_what_all_were_trained_on_is_left_out_and_said():
    with pytest.warns(UserWarning, match="c, d"):
        assert chosen(RUNS, [fold(0), fold(1)]) == [("a", (0,)), ("b", (1,))]


def test_what_has_no_truth_is_left_out_and_said():
    with pytest.warns(UserWarning, match="no picks: b"):
        assert chosen(["a", "b"], [fold(0), fold(1)], without_truth="b") == [("a", (0,))]
    with pytest.raises(InputError, match=r"only .* with picks.*: a, b"):
        chosen(["a", "b"], [fold(0)], without_truth="ab")


def test_nothing_left_to_search_on():
    with pytest.raises(InputError, match=r"b, c.*every network.*\(a\)"):
        chosen(["b", "c"], [fold(0)])


def test_without_a_list_of_training_runs_what_sisters_held_out_counts_as_seen():
    old = [replace(fold(k), training_runs=None) for k in range(2)]
    assert unseen_by("a", old) == (0,) and unseen_by("b", old) == (1,) and unseen_by("new", old) == (0, 1)


# --- What part a tomogram had in training -------------------------------------------------------------
def test_networks_are_counted_that_were_trained_on_a_run_or_held_it_out():
    folds = [fold(k) for k in range(4)]
    assert training_use("b", folds) == TrainingUse(networks=4, trained_on=3, held_out=1)
    assert training_use("b", folds[1:2]) == TrainingUse(networks=1, trained_on=0, held_out=1)
    assert training_use("new", folds, searched_on=True) == TrainingUse(4, 0, 0, searched_on=True)


def test_older_checkpoints_do_not_say_what_they_were_trained_on():
    """One alone says nothing but what it held out; sisters held out what it was trained on."""
    old = [replace(fold(k), training_runs=None) for k in range(2)]
    assert training_use("b", old[:1]).trained_on is None and training_use("new", old).trained_on is None
    assert training_use("a", old[:1]) == TrainingUse(1, trained_on=0, held_out=1)
    assert training_use("a", old) == TrainingUse(2, trained_on=1, held_out=1)


def test_cautions_name_the_runs():
    uses = {
        "new": TrainingUse(2, 0, 0),
        "a": TrainingUse(2, 1, 1),
        "b": TrainingUse(1, 0, 1),
        "c": TrainingUse(1, None, 0),
    }
    trained, held_out, unknown = cautions(uses)
    assert "trained on runs named a: if these are the same" in trained and "runs named b were held out" in held_out
    assert unknown.endswith("whether they were trained on c") and cautions({"new": uses["new"]}) == []
