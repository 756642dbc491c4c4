"""Which networks may predict a tomogram whose truth they are tuned on: those that were not trained on it."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from errors import InputError
from evaluation.finished import TomogramInput
from evaluation.training_use import unseen_by
from inference.checkpoints import Description
from inference.ensembles import Ensemble
from inference.tomograms import SourceTomogram


def out_of_fold(
    sources: Sequence[SourceTomogram],
    truths: Mapping[str, pd.DataFrame],
    ensemble: Ensemble,
    descriptions: Sequence[Description],
) -> list[TomogramInput]:
    """Each tomogram to search on with those of the networks that were not trained on it.

    Parameters
    ----------
    truths : run name -> reference points; tomograms without any are left out, with a warning
    descriptions : of the members of the ensemble

    Returns
    -------
    In the order of the sources. A tomogram that all networks were trained on is left out, with a warning.

    Raises
    ------
    InputError : nothing is left to search on.
    """
    known = [source for source in sources if len(truths.get(source.name, ()))]
    if not known:
        raise InputError(
            "hyperparameters can only be searched on tomograms with picks, and none of these has any: "
            f"{', '.join(source.name for source in sources)}"
        )
    if others := [source.name for source in sources if source not in known]:
        warnings.warn(f"left out of the search, since they have no picks: {', '.join(others)}", stacklevel=2)
    unseen = {source: unseen_by(source.name, descriptions) for source in known}
    if trained_on := [source.name for source in known if not unseen[source]]:
        if len(trained_on) == len(known):
            held_out = ", ".join(sorted({name for one in descriptions for name in one.validation_runs}))
            raise InputError(
                f"hyperparameters cannot be searched on {', '.join(trained_on)}: every network was trained on it; "
                f"search on tomograms that were held out ({held_out}) or are new"
            )
        warnings.warn(
            f"{', '.join(trained_on)} left out of the search and its score: every network was trained on it",
            stacklevel=2,
        )
    return [
        TomogramInput(
            source, replace(ensemble, members=tuple(ensemble.members[i] for i in members)), truths[source.name]
        )
        for source, members in unseen.items()
        if members
    ]
