"""Turn the predictions of views back, and merge those of many views as they come.

The one law: undo(apply(x)) == x.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tta.moments import RunningMoments
from tta.orientations import IDENTITY, Orientation, apply, inverse

# probability: arithmetic mean. logit: mean of the log-probabilities, normalised again; one view that is sure
# that a class is absent outvotes several that are not sure.
MERGES = ("probability", "logit")
# In a mean of logarithms a probability counts as this at least. Maps of networks are rounded before they are merged:
# with eight of their steps here, rounding moves the merged probability by 0.02 at most (rms below 0.001).
SMALLEST_PROBABILITY = 2e-3
# Elements of a slab: on a CPU (True) it stays in the cache (five times as fast as whole maps), on a GPU calls are few.
SLAB_ELEMENTS = {True: 2**20, False: 2**25}


def undo(view: Tensor, orientation: Orientation) -> Tensor:
    """The volume (..., Z, Y, X) whose view this is."""
    return apply(view, inverse(orientation))


def undo_box(view: Tensor, orientation: Orientation, box: Sequence[slice]) -> Tensor:
    """undo(view, orientation)[..., z, y, x] for the slices of ``box``, nothing else turned; a view or a copy."""
    back = inverse(orientation)
    leading = range(view.ndim - 3)
    permuted = view.permute(*leading, *(len(leading) + axis for axis in back.order))
    source = []
    for part, flip, side in zip(box, back.flips, permuted.shape[-3:], strict=True):
        first, last, _ = part.indices(side)
        source.append(slice(side - last, side - first) if flip else slice(first, last))
    return permuted[(..., *source)].flip([axis - 3 for axis in range(3) if back.flips[axis]])


class ViewMerger:
    """Logits of networks for many views -> one probability map and its variance, without keeping the logits.

    Every prediction counts the same, whichever network and view it comes from; their order matters to rounding only.
    Whole maps are large: logits are turned back, normalised and added in slabs that stay in the cache.

    Parameters
    ----------
    merge : probability or logit (see MERGES)
    with_variance : also how far the predictions disagree
    box : slices z, y, x of the logits turned back; what lies outside is left out; None for all of it
    """

    def __init__(
        self, merge: str = "probability", *, with_variance: bool = True, box: Sequence[slice] | None = None
    ) -> None:
        if merge not in MERGES:
            raise ValueError(f"merge must be one of {MERGES}, got {merge}")
        self._by_logit = merge == "logit"
        self._with_variance = with_variance
        self._box = box
        self._slabs: list[_Slab] = []

    def add(self, logits: Tensor, orientation: Orientation = IDENTITY) -> None:
        """Add the prediction of the view in that orientation: finite logits (..., C, Z, Y, X) in any precision."""
        if not self._slabs:
            self._begin(logits, orientation)
        for slab in self._slabs:
            # One class after the other in memory, as in the maps; the output of networks has the classes innermost.
            part = undo_box(logits, orientation, slab.box).contiguous().float()
            if slab.log_probabilities is not None:
                part = torch.log_softmax(part, dim=-4)
                if slab.probabilities is not None:
                    slab.probabilities.add(part.exp())
                slab.log_probabilities.add(part.clamp_(min=math.log(SMALLEST_PROBABILITY)))
            else:
                slab.probabilities.add(torch.softmax(part, dim=-4))

    def _begin(self, logits: Tensor, orientation: Orientation) -> None:
        sides = [logits.shape[axis - 3] for axis in inverse(orientation).order]
        box = [part.indices(side)[:2] for part, side in zip(self._box or (slice(None),) * 3, sides, strict=True)]
        shape = (*logits.shape[:-3], *(last - first for first, last in box))

        def buffer(wanted: bool) -> Tensor | None:
            return torch.empty(shape, device=logits.device) if wanted else None

        self._log_mean = buffer(self._by_logit)
        self._mean = buffer(self._with_variance or not self._by_logit)
        self._squares = buffer(self._with_variance)
        (front, back), *rest = box
        depth = max(1, SLAB_ELEMENTS[logits.device.type == "cpu"] * shape[-3] // max(1, math.prod(shape)))
        for first in range(front, back, depth):
            last = min(first + depth, back)
            part = slice(first - front, last - front)
            log_mean, mean, squares = (
                None if one is None else one[..., part, :, :] for one in (self._log_mean, self._mean, self._squares)
            )
            self._slabs.append(
                _Slab(
                    (slice(first, last), *(slice(*bounds) for bounds in rest)),
                    None if log_mean is None else RunningMoments(log_mean),
                    None if mean is None else RunningMoments(mean, squares),
                )
            )

    def merged(self) -> tuple[Tensor, Tensor | None]:
        """Probability and variance, once all are added; the merger ends with it.

        Returns
        -------
        probability : (..., C, Z, Y, X) float32 on the device of the logits, sum over C is 1
        variance : of that shape, 0 to 0.25: of the probabilities about their arithmetic mean, in both merges; None
            where it was not asked for
        """
        for slab in self._slabs:
            if slab.log_probabilities is not None:
                slab.log_probabilities.mean.copy_(torch.softmax(slab.log_probabilities.mean, dim=-4))
            if slab.probabilities is not None:
                slab.probabilities.variance()
        self._slabs.clear()
        return self._mean if self._log_mean is None else self._log_mean, self._squares


@dataclass(frozen=True)
class _Slab:
    """A part of the box, and what has been added there."""

    box: tuple[slice, ...]
    log_probabilities: RunningMoments | None
    probabilities: RunningMoments | None
