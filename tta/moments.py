"""Running mean and variance of maps that come one by one, in as much memory as the two of them take."""

import torch
from torch import Tensor


class RunningMoments:
    """Mean and variance of tensors of one shape, added one after the other.

    Welford's update (doi 10.1080/00401706.1962.10490022): the variance is a sum of squared distances from the mean,
    so it is never negative and exactly 0 where all values are equal. The difference of two large sums would be
    mostly rounding error once the deviation is below some 0.0003 of the mean, which is where sure networks agree.

    Parameters
    ----------
    mean, squares : float32 buffers of the tensors' shape, whatever they hold; without a mean the first tensor becomes
        it
    with_variance : also without buffers; a buffer of squares asks for it by itself

    Attributes
    ----------
    count : tensors so far, a number of the host: nothing waits for the device
    """

    def __init__(
        self, mean: Tensor | None = None, squares: Tensor | None = None, *, with_variance: bool = False
    ) -> None:
        self.count = 0
        self.mean = mean
        self._squares = squares
        self._with_variance = with_variance or squares is not None

    def add(self, values: Tensor, variance: Tensor | None = None) -> None:
        """Add a float32 tensor and the variance within it, if it is a mean itself; both are used up."""
        self.count += 1
        if self.count == 1:
            self._begin(values, variance)
            return
        difference = values.sub_(self.mean)
        self.mean.add_(difference, alpha=1 / self.count)
        if self._with_variance:
            # The distance from the new mean is this share of the distance from the old one.
            self._squares.addcmul_(difference, difference, value=1 - 1 / self.count)
            if variance is not None:
                self._squares.add_(variance)

    def _begin(self, values: Tensor, variance: Tensor | None) -> None:
        self.mean = values if self.mean is None else self.mean.copy_(values)
        if self._with_variance and self._squares is None:
            self._squares = torch.zeros_like(values) if variance is None else variance
        elif self._with_variance:
            self._squares.zero_()

    def variance(self) -> Tensor | None:
        """Mean squared distance from the mean, plus the mean variance within (law of total variance).

        Once, at the end: it takes the memory of the sums.
        """
        return self._squares.div_(self.count) if self._with_variance else None
