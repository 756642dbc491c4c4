"""The maps of several networks -> one map, with one of theirs in memory at a time."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from inference.predictor import Prediction
from tta.views import RunningMoments

# Makes or loads the map of one network.
MakeMap = Callable[[], Prediction]
# What the members see on one grid, and how to merge it (one of tta.views.MERGES) -> what they see together.
Combination = Callable[[Sequence[MakeMap], str], Prediction]
# A probability from disk is rounded: what is 0 there is less than this.
SMALLEST_PROBABILITY = 1e-4


@torch.inference_mode()
def mean_of_maps(members: Sequence[MakeMap], merge: str) -> Prediction:
    """Every network counts the same.

    Parameters
    ----------
    members : one or more; a single one comes back as it is
    merge : probability: arithmetic mean; logit: mean of the log probabilities, normalised again. Where each member
        is such a mean over the same number of views, this is the one over all views of all networks.

    Returns
    -------
    Prediction
        Its variance is that over views and networks: the mean of the members' variances plus the variance of their
        maps (law of total variance).
    """
    if len(members) == 1:
        return members[0]()
    probabilities, logarithms = RunningMoments(), RunningMoments(with_variance=False)
    for make in members:
        member = make()
        probabilities.add(member.probability, member.variance)
        if merge == "logit":
            logarithms.add(member.probability.clamp(min=SMALLEST_PROBABILITY).log_())
        stride = member.stride
        del member  # not needed while the next is made
    merged = torch.softmax(logarithms.mean, dim=0) if merge == "logit" else probabilities.mean
    return Prediction(merged, probabilities.variance, stride)


@torch.inference_mode()
def specialists_map(members: Sequence[MakeMap], merge: str) -> Prediction:
    """Each class as its specialist sees it; the background is the mean of theirs, and all is normalised again.

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
    background = RunningMoments()
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
    total = probability.sum(dim=0).clamp_(min=SMALLEST_PROBABILITY)
    probability /= total
    if variance is not None:
        variance[0] = background.variance
        variance /= total.square_()
    return Prediction(probability, variance, stride)


def _with_class(classes: Tensor | None, member: Tensor, label: int) -> Tensor:
    classes = torch.empty_like(member) if classes is None else classes
    classes[label] = member[label]
    return classes
