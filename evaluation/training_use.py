"""What part tomograms had in the training of the networks that predict them.

Checkpoints name the runs that they were trained on. A run of another data set may bear the same name, so that nothing
here is certain of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inference.checkpoints import Description


@dataclass(frozen=True)
class TrainingUse:
    """Of one tomogram, by the name of its run.

    Attributes
    ----------
    networks : that predict it
    trained_on : how many of them were trained on it; None where their checkpoints do not say
    held_out : how many of them had it held out in training: their checkpoint and thresholds were chosen on it
    searched_on : whether the hyperparameters of detection were searched on it
    """

    networks: int
    trained_on: int | None
    held_out: int
    searched_on: bool = False


def training_use(run_name: str, descriptions: Sequence[Description], *, searched_on: bool = False) -> TrainingUse:
    """Of the networks of those descriptions."""
    held_out = sum(run_name in one.validation_runs for one in descriptions)
    trained_on = len(descriptions) - len(unseen_by(run_name, descriptions))
    known = trained_on or all(one.training_runs is not None or run_name in one.validation_runs for one in descriptions)
    return TrainingUse(len(descriptions), trained_on if known else None, held_out, searched_on)


def unseen_by(run_name: str, descriptions: Sequence[Description]) -> tuple[int, ...]:
    """Indices of the networks that did not train on the run."""
    held_out = {name for one in descriptions for name in one.validation_runs}
    return tuple(i for i, one in enumerate(descriptions) if not _trained_on(run_name, one, held_out))


def _trained_on(run_name: str, network: Description, held_out: set[str]) -> bool:
    if network.training_runs is not None:
        return run_name in network.training_runs
    # Without that list: what one fold holds out, all others were trained on.
    return run_name in held_out and run_name not in network.validation_runs


def cautions(uses: Mapping[str, TrainingUse]) -> list[str]:
    """Sentences about runs whose score says less than that of others: run name -> its use."""
    trained_on = [name for name, use in uses.items() if use.trained_on]
    held_out = [name for name, use in uses.items() if use.held_out and not use.trained_on]
    unknown = [name for name, use in uses.items() if use.trained_on is None]
    sentences = []
    if trained_on:
        sentences.append(
            f"networks were trained on runs named {', '.join(trained_on)}: if these are the same tomograms, their "
            "score is higher than that of others would be"
        )
    if held_out:
        sentences.append(
            f"runs named {', '.join(held_out)} were held out in training, and used to choose checkpoints and thresholds"
        )
    if unknown:
        sentences.append(f"the checkpoints do not say whether they were trained on {', '.join(unknown)}")
    return sentences
