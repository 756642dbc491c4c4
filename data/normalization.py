"""Grey values made comparable: clip to percentiles of the tomogram, scale to 0..1, then z-score per patch."""

import math

import numpy as np
import torch
from torch import Tensor

from errors import InputError

EPSILON = 1e-6
# Sums of squares of larger and smaller grey values are no numbers of float32.
LEAST_GREY, LARGEST_GREY = 1e-12, 1e12


def check_percentiles(lower: float, upper: float) -> None:
    """InputError unless 0 <= lower < upper <= 100."""
    if not 0 <= lower < upper <= 100:
        raise InputError(f"percentiles must satisfy 0 <= lower < upper <= 100, got {lower:g} and {upper:g}")


def in_float32_range(volume: np.ndarray) -> np.ndarray:
    """A tomogram in a unit in which float32 can compute with its grey values.

    Parameters
    ----------
    volume : (Z, Y, X) float32 array of finite values

    Returns
    -------
    The same array where its largest value is neither huge nor tiny, else a copy times a power of two. Where the unit
    plays no part, as for z-scores and percentiles, results are the same.
    """
    largest = max(abs(float(volume.min())), abs(float(volume.max())))
    if largest == 0 or LEAST_GREY <= largest <= LARGEST_GREY:
        return volume
    return np.ldexp(volume, -math.frexp(largest)[1])


def clip_to_percentiles(volume: np.ndarray, lower: float, upper: float) -> np.ndarray:
    """Clip a tomogram to percentiles of its own voxels and scale the range to 0..1.

    Parameters
    ----------
    volume : (Z, Y, X) float array
    lower, upper : percent, 0 <= lower < upper <= 100

    Returns
    -------
    (Z, Y, X) float32 array in 0..1; all 0 where the two percentiles are equal (a constant volume).
    """
    check_percentiles(lower, upper)
    volume = in_float32_range(volume)
    return clip_to_limits(volume, *np.percentile(volume, (lower, upper)))


def clip_to_limits(voxels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Clip to grey values and scale the range to 0..1, voxel by voxel.

    Parameters
    ----------
    voxels : float array of any shape
    low, high : grey values

    Returns
    -------
    float32 array of that shape in 0..1; all 0 where ``high`` is not above ``low``.
    """
    if high <= low:
        return np.zeros(voxels.shape, dtype=np.float32)
    clipped = np.clip(voxels, np.float32(low), np.float32(high), dtype=np.float32)
    clipped -= np.float32(low)
    clipped /= np.float32(high - low)
    return clipped


def standardize(patches: Tensor) -> Tensor:
    """Z-score each patch by its own mean and standard deviation, whatever the unit of its grey values.

    Parameters
    ----------
    patches : (B, C, Z, Y, X) float tensor

    Returns
    -------
    Tensor of that shape; a constant patch becomes 0. Patches do not see each other, so that the result does not
    depend on how they are batched.
    """
    scored = torch.empty_like(patches)
    for patch, result in zip(patches, scored, strict=True):
        mean = patch.mean()
        torch.sub(patch, mean, out=result)
        # Row by row: no second array, and no sum so long that float32 rounds it away.
        deviation = (torch.linalg.vector_norm(result, dim=-1).square().mean() / result.shape[-1]).sqrt()
        # Relative to the mean: tomograms have grey values of 1e-5 or of 1e4. What rounding leaves of a constant
        # patch must not be blown up.
        result /= deviation + EPSILON * mean.abs() + torch.finfo(patches.dtype).tiny
    return scored
