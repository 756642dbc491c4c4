"""Tversky loss: overlap with a free price for false positives and false negatives (arXiv 1706.05721)."""

import torch
from torch import Tensor, nn

from losses.targets import as_probabilities

# A miss costs more than a false alarm, as in the score (F4).
FALSE_POSITIVE_WEIGHT = 0.3
FALSE_NEGATIVE_WEIGHT = 0.7
EPSILON = 1e-5


def tversky_index(
    probability: Tensor,
    target: Tensor,
    false_positive_weight: float = FALSE_POSITIVE_WEIGHT,
    false_negative_weight: float = FALSE_NEGATIVE_WEIGHT,
) -> Tensor:
    """Tversky index TP / (TP + a FP + b FN) of each class over the whole batch.

    Parameters
    ----------
    probability, target : (B, C, Z, Y, X), each summing to 1 over C
    false_positive_weight, false_negative_weight : a and b

    Returns
    -------
    (C,) tensor in 0..1; about 1 where a class is absent from both.
    """
    over = (0, 2, 3, 4)
    true_positive = (probability * target).sum(over)
    false_positive = probability.sum(over) - true_positive
    false_negative = target.sum(over) - true_positive
    wrong = false_positive_weight * false_positive + false_negative_weight * false_negative
    return (true_positive + EPSILON) / (true_positive + wrong + EPSILON)


class Tversky(nn.Module):
    """1 - Tversky index, averaged over the particle classes with their weights; background is left out.

    Parameters
    ----------
    class_weights : (C,) tensor; the background's entry is not used.
    """

    def __init__(self, class_weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights[1:] / class_weights[1:].sum(), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Logits (B, C, Z, Y, X) and labels (B, Z, Y, X) or soft targets (B, C, Z, Y, X) -> {"tversky": scalar}."""
        probability = torch.softmax(logits.float(), dim=1)
        index = tversky_index(probability, as_probabilities(target, logits.shape[1]))
        return {"tversky": ((1 - index[1:]) * self.class_weights).sum()}
