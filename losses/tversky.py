"""Tversky loss: overlap with a free price for false positives and false negatives (arXiv 1706.05721)."""

import torch
from torch import Tensor, nn

from losses.targets import as_probabilities, full_precision

# A miss costs more than a false alarm, as in the score (F4).
FALSE_POSITIVE_WEIGHT = 0.3
FALSE_NEGATIVE_WEIGHT = 0.7
EPSILON = 1e-5


def tversky_distance(probability: Tensor, target: Tensor, *, square_errors: bool = False) -> Tensor:
    """1 - Tversky index of each class over the whole batch, where the index is (TP + e) / (TP + a FP + b FN + e).

    Computed as (a FP + b FN) / (TP + a FP + b FN + e) from sums without a negative term: rounding cannot take it
    below 0, where a fractional power is not defined.

    Parameters
    ----------
    probability, target : (B, C, Z, Y, X), values 0..1
    square_errors : square each voxel's p (1 - g) and (1 - p) g before FP and FN are summed, so that small errors are
        forgiven: the index is then the DSC++ of doi 10.1007/s10278-022-00735-3 with the weights a and b

    Returns
    -------
    (C,) tensor in 0..1; 0 where a class is absent from both; near 1, and almost without slope, where it is absent
    from the target but predicted anywhere.
    """
    false_positive, false_negative = probability * (1 - target), (1 - probability) * target
    if square_errors:
        false_positive, false_negative = false_positive.square(), false_negative.square()
    over = (0, 2, 3, 4)
    wrong = FALSE_POSITIVE_WEIGHT * false_positive.sum(over) + FALSE_NEGATIVE_WEIGHT * false_negative.sum(over)
    return wrong / ((probability * target).sum(over) + wrong + EPSILON)


class Tversky(nn.Module):
    """1 - Tversky index, averaged over the particle classes with their weights; background is left out.

    Parameters
    ----------
    class_weights : (C,) tensor; the background's entry is not used.
    """

    name = "tversky"

    def __init__(self, class_weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights[1:] / class_weights[1:].sum(), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Logits (B, C, Z, Y, X) and labels (B, Z, Y, X) or soft targets (B, C, Z, Y, X) -> {name: scalar}."""
        particles = slice(1, None)
        probability = torch.softmax(full_precision(logits), dim=1)[:, particles]
        target = as_probabilities(target, logits.shape[1])[:, particles]
        return {self.name: (self.per_class(probability, target) * self.class_weights).sum()}

    def per_class(self, probability: Tensor, target: Tensor) -> Tensor:
        """What each class pays: probability and target (B, C, Z, Y, X) -> (C,)."""
        return tversky_distance(probability, target)
