"""Which networks may be asked about a tomogram whose truth tunes them: those that did not train on it."""

import warnings
from collections.abc import Sequence

from data.czi import Run
from errors import InputError
from inference.checkpoints import Description


def out_of_fold(runs: Sequence[Run], descriptions: Sequence[Description]) -> list[tuple[tuple[int, ...], list[Run]]]:
    """The runs in their order, grouped by the networks that have not seen them in training.

    Parameters
    ----------
    runs : tomograms with truth
    descriptions : of every network of the ensemble

    Returns
    -------
    list of (indices of the networks, runs that these and only these have not trained on). A run that all networks
    trained on is left out, with a warning.

    Raises
    ------
    InputError : there is no other run.
    """
    groups: dict[tuple[int, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(unseen_by(run.name, descriptions), []).append(run)
    if trained_on := [run.name for run in groups.pop((), [])]:
        held_out = ", ".join(sorted({one.validation_run for one in descriptions}))
        if not groups:
            raise InputError(
                f"hyperparameters cannot be searched on {', '.join(trained_on)}: every network was trained on it; "
                f"search on tomograms that were held out ({held_out}) or are new"
            )
        warnings.warn(
            f"{', '.join(trained_on)} left out of the search and its score: every network was trained on it",
            stacklevel=2,
        )
    return list(groups.items())


def unseen_by(run_name: str, descriptions: Sequence[Description]) -> tuple[int, ...]:
    """Indices of the networks that did not train on the run."""
    held_out = {one.validation_run for one in descriptions}
    return tuple(i for i, one in enumerate(descriptions) if not _trained_on(run_name, one, held_out))


def _trained_on(run_name: str, network: Description, held_out: set[str]) -> bool:
    if network.training_runs is not None:
        return run_name in network.training_runs
    # Without that list: what one fold holds out, all others were trained on.
    return run_name in held_out and run_name != network.validation_run
