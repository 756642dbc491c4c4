"""Nobody is asked about a tomogram that he was trained on."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from test_checkpoints import DESCRIPTION

from errors import InputError
from evaluation.out_of_fold import out_of_fold, unseen_by

RUNS = ("a", "b", "c", "d")


def fold(number, names=RUNS):
    others = tuple(name for name in names if name != names[number])
    return replace(DESCRIPTION, fold=number, validation_run=names[number], training_runs=others)


def groups(names, descriptions):
    runs = [SimpleNamespace(name=name) for name in names]
    return [(members, [run.name for run in group]) for members, group in out_of_fold(runs, descriptions)]


def test_each_fold_is_asked_about_its_own_tomogram_and_all_about_new_ones():
    ensemble = [fold(k) for k in range(4)]
    assert groups(["new", *RUNS, "newer"], ensemble) == [
        ((0, 1, 2, 3), ["new", "newer"]),
        *(((k,), [RUNS[k]]) for k in range(4)),
    ]


def test_two_networks_of_one_fold_are_asked_together():
    assert groups(["b"], [fold(0), fold(1), fold(1)]) == [((1, 2), ["b"])]


def test_what_all_trained_on_is_left_out_and_said():
    with pytest.warns(UserWarning, match="c, d"):
        assert groups(RUNS, [fold(0), fold(1)]) == [((0,), ["a"]), ((1,), ["b"])]


def test_nothing_left_to_search_on():
    with pytest.raises(InputError, match=r"b, c.*every network.*\(a\)"):
        groups(["b", "c"], [fold(0)])


def test_without_a_list_of_training_runs_what_sisters_held_out_counts_as_seen():
    old = [replace(fold(k), training_runs=None) for k in range(2)]
    assert unseen_by("a", old) == (0,) and unseen_by("b", old) == (1,) and unseen_by("new", old) == (0, 1)
