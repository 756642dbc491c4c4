"""Cross-entropy with class weights and label smoothing."""

from torch import Tensor, nn
from torch.nn import functional

from losses.targets import full_precision, total_weight, voxel_weights


class CrossEntropy(nn.Module):
    """Cross-entropy in which every voxel counts with the weight of its class, normalised by those weights.

    The weight belongs to the voxel, not to the terms of its smoothed target: in torch's own combination of the two
    the small share that smoothing gives to heavy classes outweighs the background, and every voxel of it is pulled
    towards particles.

    Parameters
    ----------
    class_weights : (C,) tensor
    label_smoothing : share of the target spread evenly over all classes (arXiv 1512.00567)
    """

    def __init__(self, class_weights: Tensor, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Logits (B, C, Z, Y, X) and labels (B, Z, Y, X) or soft targets (B, C, Z, Y, X) -> {"ce": scalar}.

        A voxel with a soft target weighs the mean of the class weights under it.
        """
        logits = full_precision(logits)
        weights = voxel_weights(target, self.class_weights)
        per_voxel = functional.cross_entropy(
            logits,
            target.long() if target.ndim == 4 else target.to(logits.dtype),
            reduction="none",
            label_smoothing=self.label_smoothing,
        )
        return {"ce": (per_voxel * weights).sum() / total_weight(weights)}
