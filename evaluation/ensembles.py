"""The maps of several networks -> one map, with one of theirs in memory beside it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from inference.predictor import Prediction

# Makes or loads the map of one network; whoever gets it may change it.
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
    probabilities, logarithms = _RunningMoments(), _RunningMoments()
    for make in members:
        member = make()
        stride = member.stride
        if merge == "logit":
            logarithms.add(member.probability.clamp(min=SMALLEST_PROBABILITY).log_())
        probabilities.add(member.probability, member.variance)
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
    background = _RunningMoments()
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
    """The first member's map becomes the one of all."""
    if classes is None:
        return member
    classes[label] = member[label]
    return classes


class _RunningMoments:
    """Mean of maps that come one by one, and their variance: that between them and the mean of that within them.

    Welford's update (doi 10.1080/00401706.1962.10490022) and the law of total variance. What is added is used up.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | None = None
        self._squares: Tensor | None = None

    def add(self, values: Tensor, variance: Tensor | None = None) -> None:
        self.count += 1
        if self.mean is None:
            self.mean = values
            self._squares = torch.zeros_like(values) if variance is None else variance
            return
        difference = values.sub_(self.mean)
        self.mean.add_(difference, alpha=1 / self.count)
        # The distance from the new mean is this share of the distance from the old one.
        self._squares.addcmul_(difference, difference, value=1 - 1 / self.count)
        if variance is not None:
            self._squares.add_(variance)

    @property
    def variance(self) -> Tensor:
        return self._squares / self.count
