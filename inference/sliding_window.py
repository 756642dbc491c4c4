"""Sliding window: a tomogram of any size through a network, window by window, over several views."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from data.normalization import standardize
from tta.orientations import IDENTITY, Orientation
from tta.views import apply, undo

# The Gaussian blend falls to this width at the window's border, in units of its side.
BLEND_SIGMA_FRACTION = 0.25
MIN_BLEND_WEIGHT = 1e-3
BLEND_MODES = ("gaussian", "constant")


def sliding_window(
    volume: Tensor,
    predict: Callable[[Tensor], Tensor],
    *,
    window_zyx: Sequence[int],
    overlap: float,
    blend_mode: str,
    batch_size: int,
    views: Sequence[Orientation] = (IDENTITY,),
    progress: Callable[[int], None] = lambda windows: None,
) -> Tensor:
    """Mean prediction over overlapping windows and over views.

    Each window is z-scored by itself and shown to the network in every view; the answers are turned back,
    averaged, and added up with a weight that falls towards the window's border.

    Parameters
    ----------
    volume : (Z, Y, X) tensor on the device of the network; smaller than the window: mirrored up to it
    predict : (B, 1, Z, Y, X) -> (B, C, Z, Y, X) probabilities
    window_zyx : voxels; for views that exchange axes those sides must be equal
    overlap : share of the window's side that neighbours have in common at least, 0 <= overlap < 1
    blend_mode : gaussian or constant
    batch_size : views of windows per call of the network; does not change the result
    views : orientations; the mean is over all of them
    progress : called with the number of windows done since the last call

    Returns
    -------
    (C, Z, Y, X) float32 probabilities on the volume's device
    """
    shape = volume.shape
    padded = _pad_to(volume, window_zyx)
    weight = _blend_weight(window_zyx, blend_mode).to(volume.device)
    total, weights = None, torch.zeros(padded.shape, device=volume.device)
    for corner in window_corners(padded.shape, window_zyx, overlap):
        region = tuple(slice(c, c + side) for c, side in zip(corner, window_zyx, strict=True))
        mean = _mean_over_views(standardize(padded[region][None, None]), predict, views, batch_size)
        if total is None:
            total = torch.zeros((len(mean), *padded.shape), device=volume.device)
        total[(slice(None), *region)] += mean * weight
        weights[region] += weight
        progress(1)
    total /= weights
    start = [(p - s) // 2 for p, s in zip(padded.shape, shape, strict=True)]
    return total[(slice(None), *(slice(b, b + s) for b, s in zip(start, shape, strict=True)))]


def window_corners(shape: Sequence[int], window: Sequence[int], overlap: float) -> Iterator[tuple[int, int, int]]:
    """First corners of windows that cover the volume: the fewest with this overlap, evenly spread."""
    starts = []
    for side, width in zip(shape, window, strict=True):
        step = max(1, int(width * (1 - overlap)))
        count = 1 + max(0, -(-(side - width) // step))
        last = side - width
        starts.append([round(last * k / (count - 1)) if count > 1 else 0 for k in range(count)])
    return itertools.product(*starts)


def _mean_over_views(
    window: Tensor, predict: Callable[[Tensor], Tensor], views: Sequence[Orientation], batch_size: int
) -> Tensor:
    """(1, 1, Z, Y, X) -> (C, Z, Y, X): the views go through the network in batches."""
    total = None
    for first in range(0, len(views), batch_size):
        batch = views[first : first + batch_size]
        answers = predict(torch.cat([apply(window, view) for view in batch]))
        for answer, view in zip(answers, batch, strict=True):
            turned_back = undo(answer, view).float()
            total = turned_back if total is None else total + turned_back
    return total / len(views)


def _blend_weight(window: Sequence[int], mode: str) -> Tensor:
    """Weight of each voxel of a window (Z, Y, X), symmetric, 1 at the most."""
    weight = torch.ones(tuple(window))
    if mode == "constant":
        return weight
    for axis, side in enumerate(window):
        distance = (torch.arange(side) - (side - 1) / 2) / (BLEND_SIGMA_FRACTION * side)
        shape = [1, 1, 1]
        shape[axis] = side
        weight = weight * torch.exp(-0.5 * distance**2).view(shape)
    return weight.clamp(min=MIN_BLEND_WEIGHT)


def _pad_to(volume: Tensor, window: Sequence[int]) -> Tensor:
    """Mirror (Z, Y, X) on both sides up to the window's size."""
    padding = []
    for side, width in reversed(list(zip(volume.shape, window, strict=True))):
        missing = max(0, width - side)
        padding += [missing // 2, missing - missing // 2]
    if not any(padding):
        return volume
    # Reflection reaches at most one side less a voxel; a thinner volume repeats its border.
    thin = any(missing >= side for missing, side in zip(padding[1::2], reversed(volume.shape), strict=True))
    return functional.pad(volume[None, None], padding, mode="replicate" if thin else "reflect")[0, 0]
