"""Targets come as labels or as soft class probabilities; losses see probabilities."""

import torch
from torch import Tensor
from torch.nn import functional


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
    one_hot = functional.one_hot(target.long(), num_classes)  # (B, Z, Y, X, C)
    return one_hot.movedim(-1, 1).to(torch.float32)
