"""Cross-validation folds: leave one tomogram out."""

from collections.abc import Sequence
from dataclasses import dataclass

from data.training_volume import TrainingVolume
from errors import InputError


@dataclass(frozen=True)
class Fold:
    """Fold ``index``: train on ``training``, validate on ``validation``."""

    index: int
    training: tuple[TrainingVolume, ...]
    validation: TrainingVolume


def leave_one_out(volumes: Sequence[TrainingVolume]) -> list[Fold]:
    """One fold per tomogram, in the order given: fold k holds out the k-th."""
    if len(volumes) < 2:
        raise InputError(f"training needs at least 2 tomograms with picks, one of them held out; found {len(volumes)}")
    return [
        Fold(index, tuple(volume for i, volume in enumerate(volumes) if i != index), held_out)
        for index, held_out in enumerate(volumes)
    ]
