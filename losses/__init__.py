"""Training losses: ``LOSSES[name]`` takes logits and a target and returns named, unweighted terms."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from losses.cross_entropy import CrossEntropy
from losses.focal import Focal, FocalTversky, FocalTverskyPlusPlus
from losses.hybrid import Hybrid
from losses.tversky import Tversky


def ce_tversky(class_weights: Tensor, label_smoothing: float = 0.0) -> Hybrid:
    """Cross-entropy finds every voxel, Tversky the overlap."""
    return Hybrid({"ce": CrossEntropy(class_weights, label_smoothing), "tversky": Tversky(class_weights)})


LOSSES = {
    "ce": CrossEntropy,
    "focal_tversky": FocalTversky,
    "ce_tversky": ce_tversky,
    "tversky": Tversky,
    "focal": Focal,
    "focal_tversky_pp": FocalTverskyPlusPlus,
}

# How much each term of a loss of several terms counts; such a loss has a row here.
TERM_WEIGHTS = {"ce_tversky": {"ce": 2.0, "tversky": 1.0}}

# The losses with something to balance (GradNorm).
HYBRID_LOSSES = tuple(TERM_WEIGHTS)
# Those with a cross-entropy, whose target can be smoothed.
SMOOTHED_LOSSES = ("ce", "ce_tversky")


def build_loss(loss_type: str, class_weights: Sequence[float], label_smoothing: float = 0.0) -> nn.Module:
    """The loss of that name with one weight per class, background first.

    ``label_smoothing`` other than 0 is for :data:`SMOOTHED_LOSSES`.
    """
    smoothing = {"label_smoothing": label_smoothing} if label_smoothing else {}
    return LOSSES[loss_type](torch.tensor(class_weights, dtype=torch.float32), **smoothing)


def term_weights(loss_type: str) -> dict[str, float]:
    """Weights of the loss's terms, by name; a single term counts 1 and is not named."""
    return TERM_WEIGHTS.get(loss_type, {})
