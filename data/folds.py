"""Cross-validation folds: leave one tomogram out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from errors import InputError

RunT = TypeVar("RunT")


@dataclass(frozen=True)
class Fold(Generic[RunT]):
    """Fold ``index``: train on ``training``, validate on ``validation``."""

    index: int
    training: tuple[RunT, ...]
    validation: RunT


def leave_one_out(runs: Sequence[RunT]) -> list[Fold[RunT]]:
    """One fold per run, in the order given: fold k holds out the k-th run."""
    if len(runs) < 2:
        raise InputError(f"training needs at least 2 tomograms with picks, one of them held out; found {len(runs)}")
    return [
        Fold(index, tuple(run for i, run in enumerate(runs) if i != index), held_out)
        for index, held_out in enumerate(runs)
    ]
