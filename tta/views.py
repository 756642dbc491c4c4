"""Show a volume in an orientation, turn the answer back, and merge the answers to many views as they come.

The one law: undo(apply(x)) == x.
"""

import torch
from torch import Tensor

from tta.orientations import IDENTITY, Orientation, inverse

# probability: arithmetic mean. logit: mean of the log-probabilities, normalised again; one view that is sure
# that a class is absent outvotes the others.
MERGES = ("probability", "logit")


def apply(volume: Tensor, orientation: Orientation) -> Tensor:
    """View of (..., Z, Y, X) in the orientation; leading axes stay."""
    leading = range(volume.ndim - 3)
    permuted = volume.permute(*leading, *(len(leading) + axis for axis in orientation.order))
    return permuted.flip([axis - 3 for axis in range(3) if orientation.flips[axis]])


def undo(view: Tensor, orientation: Orientation) -> Tensor:
    """The volume (..., Z, Y, X) whose view this is."""
    return apply(view, inverse(orientation))


class RunningMoments:
    """Mean and variance of tensors of one shape, added one after the other; two buffers in float32.

    Welford's update (doi 10.1080/00401706.1962.10490022): the variance is a sum of squared distances from the mean,
    so it is never negative and exactly 0 where all values are equal. The difference of two large sums would be
    mostly rounding error once the deviation is below some 0.0003 of the mean, which is where sure networks agree.

    Parameters
    ----------
    with_variance : False saves the second buffer

    Attributes
    ----------
    count : tensors so far, a number of the host: nothing waits for the device
    mean : float32, of the tensors' shape
    """

    def __init__(self, with_variance: bool = True) -> None:
        self.count = 0
        self.mean: Tensor | None = None
        self._squares: Tensor | None = None
        self._with_variance = with_variance

    def add(self, values: Tensor) -> None:
        self.count += 1
        values = values.float()
        if self.mean is None:
            self.mean = values.clone()
            self._squares = torch.zeros_like(values) if self._with_variance else None
            return
        difference = values - self.mean
        self.mean.add_(difference, alpha=1 / self.count)
        if self._squares is not None:
            self._squares.addcmul_(difference, values - self.mean)

    @property
    def variance(self) -> Tensor | None:
        """Mean of the squared distances from the mean: 0 after one tensor; None where it was not asked for."""
        return self._squares / self.count if self._squares is not None else None


class ViewMerger:
    """Answers of networks to views -> one probability map and its variance, without keeping the answers.

    Every answer counts the same, whichever network and view it comes from; their order matters to rounding only.

    Parameters
    ----------
    merge : probability or logit (see MERGES)
    with_variance : also how far the answers disagree
    """

    def __init__(self, merge: str = "probability", *, with_variance: bool = True) -> None:
        if merge not in MERGES:
            raise ValueError(f"merge must be one of {MERGES}, got {merge}")
        by_logit = merge == "logit"
        self._log_probabilities = RunningMoments(with_variance=False) if by_logit else None
        self._probabilities = RunningMoments(with_variance) if with_variance or not by_logit else None

    def add(self, logits: Tensor, orientation: Orientation = IDENTITY) -> None:
        """Add the answer (..., C, Z, Y, X) to the view in that orientation: finite logits in any precision."""
        log_probabilities = torch.log_softmax(undo(logits, orientation).float(), dim=-4)
        if self._log_probabilities is not None:
            self._log_probabilities.add(log_probabilities)
        if self._probabilities is not None:
            self._probabilities.add(log_probabilities.exp_())

    @property
    def probability(self) -> Tensor:
        """(..., C, Z, Y, X) float32 on the device of the answers, sum over C is 1; not to be changed in place."""
        if self._log_probabilities is not None:
            return torch.softmax(self._log_probabilities.mean, dim=-4)
        return self._probabilities.mean

    @property
    def variance(self) -> Tensor | None:
        """(..., C, Z, Y, X) float32, 0 to 0.25: of the probabilities about their arithmetic mean, in both merges.

        None where it was not asked for.
        """
        return self._probabilities.variance if self._probabilities is not None else None
