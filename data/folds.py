"""Cross-validation folds: which tomograms are trained on, and which are held out to validate on."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from data.content_hash import hash_of
from data.training_volume import TrainingVolume
from errors import InputError, some_names


@dataclass(frozen=True)
class Fold:
    """Fold ``index``: train on ``training`` and on ``extra``, which no fold holds out; validate on ``validation``.

    ``unfit`` names runs that are held out, but cannot be validated on.
    """

    index: int
    training: tuple[TrainingVolume, ...]
    validation: tuple[TrainingVolume, ...]
    extra: tuple[TrainingVolume, ...] = ()
    unfit: tuple[str, ...] = ()

    @property
    def trained_names(self) -> tuple[str, ...]:
        """Runs trained on. A name that the data set has means its own run, and not that of other data."""
        own = [*(volume.run_name for volume in (*self.training, *self.validation)), *self.unfit]
        others = dict.fromkeys(volume.run_name for volume in self.extra if volume.run_name not in own)
        return (*(volume.run_name for volume in self.training), *others)


def deal_runs(names: Sequence[str], num_folds: int | None, seed: int) -> list[tuple[str, ...]]:
    """The runs that each fold holds out: every run in one fold, and all folds as large as possible alike.

    Parameters
    ----------
    names : of the runs
    num_folds : None: one fold for each run (leave one out)
    seed : of who is dealt to whom, which depends on the names alone, and not on their order

    Returns
    -------
    Names in alphabetical order within a fold; folds in the order of their first names.
    """
    count = len(names) if num_folds is None else num_folds
    if len(names) < 2:
        raise InputError(f"training needs at least 2 tomograms with picks, one of them held out; found {len(names)}")
    if not 2 <= count <= len(names):
        raise InputError(f"--num_folds must be from 2 to the number of runs with picks, {len(names)}; got {count}")
    shuffled = sorted(names, key=lambda name: hash_of([seed, name]))
    return sorted(tuple(sorted(shuffled[k::count])) for k in range(count))


def hold_out(names: Sequence[str], wanted: Collection[str]) -> list[tuple[str, ...]]:
    """One fold, which holds out the runs wanted; InputError where there is no such run, or none is left to train on."""
    if unknown := sorted(set(wanted) - set(names)):
        raise InputError(
            f"--validation_runs {unknown[0]}: no such training run with picks; there are {some_names(names)}"
        )
    if set(wanted) == set(names):
        raise InputError("--validation_runs names all runs, and none is left to train on; name fewer")
    return [tuple(sorted(set(wanted)))]


def make_folds(
    volumes: Sequence[TrainingVolume],
    held_out: Sequence[Collection[str]],
    unfit: Collection[str] = (),
    extra: Sequence[TrainingVolume] = (),
) -> list[Fold]:
    """Fold k trains on all runs but those of ``held_out[k]``, and validates on these where they are not ``unfit``.

    All train on ``extra`` as well.
    """
    return [
        Fold(
            index,
            tuple(volume for volume in volumes if volume.run_name not in names),
            tuple(volume for volume in volumes if volume.run_name in names and volume.run_name not in unfit),
            tuple(extra),
            tuple(name for name in names if name in unfit),
        )
        for index, names in enumerate(held_out)
    ]
