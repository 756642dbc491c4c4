"""Folds: which runs are held out."""

from types import SimpleNamespace

import pytest

from data.folds import deal_runs, hold_out, make_folds
from errors import InputError

NAMES = [f"TS_{number}" for number in range(23)]
FIRST_OF_FOUR = ("TS_0", "TS_19", "TS_3", "TS_4", "TS_5", "TS_7")


def test_by_default_every_run_is_a_fold_in_alphabetical_order():
    assert deal_runs(["b", "a", "c"], None, seed=5) == deal_runs(["b", "a", "c"], 3, seed=7) == [("a",), ("b",), ("c",)]


@pytest.mark.parametrize("count", [2, 5, 22])
def test_every_run_is_held_out_once_and_folds_are_alike_in_size(count):
    folds = deal_runs(NAMES, count, seed=1)
    assert len(folds) == count and sorted(name for fold in folds for name in fold) == sorted(NAMES)
    assert {len(fold) for fold in folds} == {23 // count, -(-23 // count)}


def test_the_deal_depends_on_names_and_seed_alone():
    """Not on the order in which a file system lists them; and neighbours in the alphabet do not stay together."""
    folds = deal_runs(NAMES, 4, seed=1)
    assert folds == deal_runs(NAMES[::-1], 4, seed=1) != deal_runs(NAMES, 4, seed=2)
    # The deal itself: whoever changes it makes checkpoints of before unresumable.
    assert folds[0] == FIRST_OF_FOUR


@pytest.mark.parametrize(
    ("names", "count", "text"),
    [
        ([], None, "at least 2"),
        (["a"], None, "at least 2 .* found 1"),
        (["a", "b", "c"], 4, "--num_folds must be from 2 to the number of runs with picks, 3; got 4"),
        (["a", "b", "c"], 1, "--num_folds must be from 2"),
    ],
)
def test_what_cannot_be_dealt(names, count, text):
    with pytest.raises(InputError, match=text):
        deal_runs(names, count, seed=1)


def test_runs_held_out_by_name():
    assert hold_out(["a", "b", "c"], ["c", "a", "c"]) == [("a", "c")]
    with pytest.raises(InputError, match="--validation_runs d: no such training run with picks; there are a, b, c"):
        hold_out(["a", "b", "c"], ["a", "d"])
    with pytest.raises(InputError, match="none is left to train on"):
        hold_out(["a", "b"], ["a", "b"])


def test_a_fold_trains_on_what_it_does_not_hold_out():
    """And does not train on a run that it holds out but cannot validate on."""
    volumes = [SimpleNamespace(run_name=name) for name in "abcd"]
    first, second = make_folds(volumes, [("a", "c"), ("b", "d")], unfit=["c"])
    assert (first.index, second.index) == (0, 1)
    assert [[volume.run_name for volume in part] for part in (first.training, first.validation)] == [["b", "d"], ["a"]]
    assert [[volume.run_name for volume in part] for part in (second.training, second.validation)] == [
        ["a", "c"],
        ["b", "d"],
    ]
