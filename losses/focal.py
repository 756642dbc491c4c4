"""Focal losses: a power shifts the weight between what is nearly found and what is missed."""

import torch
from torch import Tensor, nn

from losses.targets import full_precision, total_weight, voxel_weights
from losses.tversky import Tversky, tversky_distance

FOCAL_GAMMA = 2.0  # arXiv 1708.02002
TVERSKY_GAMMA = 4 / 3  # arXiv 1810.07842
# A power below 1 has an infinite slope at 0. A class this near to its target counts as found and is left alone;
# above it the slope stays below 75.
FOUND = 1e-8


class Focal(nn.Module):
    """Focal loss (arXiv 1708.02002): cross-entropy of each voxel times (1 - p)^gamma, p that of the true class.

    Every voxel counts with the weight of its class, normalised by those weights, as in the cross-entropy; there is
    no label smoothing, which would ask for the very confidence that the power forgives.

    Parameters
    ----------
    class_weights : (C,) tensor
    gamma : at least 1; 0 would be the cross-entropy
    """

    def __init__(self, class_weights: Tensor, gamma: float = FOCAL_GAMMA) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Logits (B, C, Z, Y, X) and labels (B, Z, Y, X) or soft targets (B, C, Z, Y, X) -> {"focal": scalar}.

        A voxel with a soft target pays the expectation of the loss over the classes under it, and weighs the mean of
        their weights.
        """
        log_p = torch.log_softmax(full_precision(logits), dim=1)
        if target.ndim == 4:
            per_voxel = self._per_class(log_p.gather(1, target.long().unsqueeze(1))).squeeze(1)
        else:
            per_voxel = (self._per_class(log_p) * target).sum(dim=1)
        weights = voxel_weights(target, self.class_weights)
        return {"focal": (per_voxel * weights).sum() / total_weight(weights)}

    def _per_class(self, log_p: Tensor) -> Tensor:
        return (-torch.expm1(log_p)).pow(self.gamma) * -log_p


class FocalTversky(Tversky):
    """Sum over particle classes of weight (1 - Tversky index)^(1 / gamma), gamma 4/3 (arXiv 1810.07842).

    The power 3/4 steepens the slope where a class is nearly found and flattens it where it is missed.
    """

    name = "focal_tversky"

    def per_class(self, probability: Tensor, target: Tensor) -> Tensor:
        """What each class pays: probability and target (B, C, Z, Y, X) -> (C,)."""
        return tversky_distance(probability, target).clamp_min(FOUND).pow(1 / TVERSKY_GAMMA)


class FocalTverskyPlusPlus(Tversky):
    """Sum over particle classes of weight (1 - index)^(4/3), the index with squared errors.

    DSC++ (doi 10.1007/s10278-022-00735-3) with the prices of the Tversky index, joined to the focal power.
    """

    name = "focal_tversky_pp"

    def per_class(self, probability: Tensor, target: Tensor) -> Tensor:
        """What each class pays: probability and target (B, C, Z, Y, X) -> (C,)."""
        return tversky_distance(probability, target, square_errors=True).pow(TVERSKY_GAMMA)
