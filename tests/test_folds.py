"""Leave one out."""

import pytest

from data.folds import leave_one_out
from errors import InputError


def test_every_run_is_held_out_once():
    folds = leave_one_out(["a", "b", "c"])
    assert [fold.validation for fold in folds] == ["a", "b", "c"]
    assert [fold.index for fold in folds] == [0, 1, 2]
    assert folds[1].training == ("a", "c")


@pytest.mark.parametrize("runs", [[], ["a"]])
def test_one_run_cannot_be_trained_on(runs):
    with pytest.raises(InputError, match="at least 2"):
        leave_one_out(runs)
