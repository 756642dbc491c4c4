"""Training losses: ``LOSSES[name]`` takes logits and a target and returns named, unweighted terms."""

from collections.abc import Sequence

import torch
from torch import nn

from losses.cross_entropy import CrossEntropy
from losses.hybrid import Hybrid
from losses.tversky import Tversky

LOSSES = {
    "ce": lambda weights: CrossEntropy(weights),
    "tversky": lambda weights: Tversky(weights),
    "ce_tversky": lambda weights: Hybrid({"ce": CrossEntropy(weights), "tversky": Tversky(weights)}),
}

# How much each term of a hybrid loss counts; a term not named counts 1.
TERM_WEIGHTS = {"ce_tversky": {"ce": 2.0, "tversky": 1.0}}


def build_loss(loss_type: str, class_weights: Sequence[float]) -> nn.Module:
    """The loss of that name with one weight per class, background first."""
    return LOSSES[loss_type](torch.tensor(class_weights, dtype=torch.float32))


def term_weights(loss_type: str) -> dict[str, float]:
    """Weights of the loss's terms, by name."""
    return TERM_WEIGHTS.get(loss_type, {})
