"""What losses compute on: targets as class probabilities, the weight of each voxel, logits in full precision."""

import torch
from torch import Tensor


def as_probabilities(target: Tensor, num_classes: int) -> Tensor:
    """Target as class probabilities.

    Parameters
    ----------
    target : (B, Z, Y, X) integer labels, or (B, C, Z, Y, X) float probabilities, which pass unchanged.
    num_classes : C

    Returns
    -------
    (B, C, Z, Y, X) float32
    """
    if target.ndim == 5:
        return target.float()
    batch, *size_zyx = target.shape
    one_hot = torch.zeros((batch, num_classes, *size_zyx), device=target.device)
    return one_hot.scatter_(1, target.long().unsqueeze(1), 1.0)


def voxel_weights(target: Tensor, class_weights: Tensor) -> Tensor:
    """Weight of each voxel: that of its class, or the mean of the class weights under its soft target.

    Parameters
    ----------
    target : (B, Z, Y, X) integer labels or (B, C, Z, Y, X) probabilities
    class_weights : (C,)

    Returns
    -------
    (B, Z, Y, X) tensor
    """
    if target.ndim == 4:
        return class_weights[target.long()]
    return (target * class_weights.view(1, -1, 1, 1, 1)).sum(dim=1)


def full_precision(logits: Tensor) -> Tensor:
    """Logits as float32 (float64 stays): half precision cannot add up the voxels of a patch."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def total_weight(weights: Tensor) -> Tensor:
    """Sum of voxel weights to divide by: above 0 also where every voxel of a batch weighs nothing."""
    return weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)
