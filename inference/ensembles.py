"""Networks that predict together: their maps -> one map, with one of theirs in memory beside it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from inference.predictor import Prediction
from tta.moments import RunningMoments
from tta.views import SMALLEST_PROBABILITY

# Makes or loads the map of one network; whoever gets it may change it.
MakeMap = Callable[[], Prediction]
# The members' maps on one grid, and how they are merged (one of tta.views.MERGES) -> the map of all.
Combination = Callable[[Sequence[MakeMap], str], Prediction]
# Where all specialists see nothing there is nothing to divide by.
SMALLEST_TOTAL = 1e-4


@dataclass(frozen=True)
class Ensemble:
    """Checkpoints in the order in which ``combine`` takes their maps; one network alone is an ensemble, too."""

    members: tuple[Path, ...]
    combine: Combination

    @property
    def merges(self) -> bool:
        """Whether it matters how networks are merged."""
        return self.combine is mean_of_maps and len(self.members) > 1


@torch.inference_mode()
def mean_of_maps(members: Sequence[MakeMap], merge: str) -> Prediction:
    """Every network counts the same.

    Parameters
    ----------
    members : one or more; a single one comes back as it is
    merge : as tta.views.ViewMerger merges views; where each member is such a mean over the same number of views, this
        is the one over all views of all networks

    Returns
    -------
    Prediction
        Its variance is that over views and networks: the mean of the members' variances plus the variance of their
        maps (law of total variance).
    """
    if len(members) == 1:
        return members[0]()
    probabilities, logarithms = RunningMoments(with_variance=True), RunningMoments()
    for make in members:
        member = make()
        stride = member.stride
        if merge == "logit":
            logarithms.add(member.probability.clamp(min=SMALLEST_PROBABILITY).log_())
        probabilities.add(member.probability, member.variance)
        del member  # not needed while the next is made
    merged = torch.softmax(logarithms.mean, dim=0) if merge == "logit" else probabilities.mean
    return Prediction(merged, probabilities.variance(), stride)


@torch.inference_mode()
def specialists_map(members: Sequence[MakeMap], merge: str) -> Prediction:
    """Each class from its specialist; the background is the mean of theirs, and all is normalised again.

    Parameters
    ----------
    members : the specialist of each label from 1 up
    merge : without effect: no class is merged from several networks, and of the background it is the mean

    Returns
    -------
    Prediction
        The variance of a class is that of its specialist over the views, scaled like its probability; None where
        the members have none.
    """
    background = RunningMoments(with_variance=True)
    probability = variance = None
    for label, make in enumerate(members, start=1):
        member = make()
        background.add(member.probability[0], None if member.variance is None else member.variance[0])
        probability = _with_class(probability, member.probability, label)
        if member.variance is not None:
            variance = _with_class(variance, member.variance, label)
        stride = member.stride
        del member
    probability[0] = background.mean
    total = probability.sum(dim=0).clamp_(min=SMALLEST_TOTAL)
    probability /= total
    if variance is not None:
        variance[0] = background.variance()
        variance /= total.square_()
    return Prediction(probability, variance, stride)


def _with_class(classes: Tensor | None, member: Tensor, label: int) -> Tensor:
    """The first member's map becomes the one of all."""
    if classes is None:
        return member
    classes[label] = member[label]
    return classes
