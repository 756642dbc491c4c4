"""Cross-entropy with class weights and label smoothing."""

from torch import Tensor, nn
from torch.nn import functional


class CrossEntropy(nn.Module):
    """Class-weighted cross-entropy, normalised by the weight of the voxels.

    Parameters
    ----------
    class_weights : (C,) tensor
    label_smoothing : share of the target spread evenly over all classes (arXiv 1512.00567)
    """

    def __init__(self, class_weights: Tensor, label_smoothing: float = 0.1) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Logits (B, C, Z, Y, X) and labels (B, Z, Y, X) or soft targets (B, C, Z, Y, X) -> {"ce": scalar}."""
        logits = logits.float()
        if target.ndim == 4:
            loss = functional.cross_entropy(
                logits, target.long(), weight=self.class_weights, label_smoothing=self.label_smoothing
            )
            return {"ce": loss}
        per_voxel = functional.cross_entropy(
            logits, target, weight=self.class_weights, label_smoothing=self.label_smoothing, reduction="sum"
        )
        # torch divides soft targets by the number of voxels; by their weight the two kinds of target agree.
        return {"ce": per_voxel / (target.sum(dim=(0, 2, 3, 4)) * self.class_weights).sum()}
