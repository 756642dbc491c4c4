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
    output_stride: int = 1,
    progress: Callable[[int], None] = lambda windows: None,
) -> Tensor:
    """Mean prediction over overlapping windows and over views.

    Each window is z-scored by itself and shown to the network in every view; the answers are turned back,
    averaged, and added up with a weight that falls towards the window's border. Where the network answers at a
    coarser grid, everything after it stays on that grid: a cell of ``output_stride`` voxels a side is one place.

    Parameters
    ----------
    volume : (Z, Y, X) tensor on the device of the network; smaller than the window: mirrored up to it
    predict : (B, 1, Z, Y, X) -> (B, C, Z / s, Y / s, X / s) probabilities, s the output stride
    window_zyx : voxels, multiples of the output stride; for views that exchange axes those sides must be equal
    overlap : share of the window's side that neighbours have in common at least, 0 <= overlap < 1
    blend_mode : gaussian or constant
    batch_size : views of windows per call of the network; does not change the result
    views : orientations; the mean is over all of them
    output_stride : voxels from one place of the answer to the next
    progress : called with the number of windows done since the last call

    Returns
    -------
    (C, ceil(Z / s), ceil(Y / s), ceil(X / s)) float32 probabilities on the volume's device; place j lies at
    voxel (j + 0.5) * s - 0.5. The last cell of a side that is no multiple of s reaches beyond the volume: it sees
    the volume mirrored.
    """
    window_cells = _cells(window_zyx, output_stride)
    if any(cells * output_stride != side for cells, side in zip(window_cells, window_zyx, strict=True)):
        raise ValueError(f"sides of the window {tuple(window_zyx)} must be multiples of {output_stride}")
    padding = _padding(volume.shape, window_zyx, output_stride)
    padded = _mirror(volume, padding)
    weight = _blend_weight(window_cells, blend_mode).to(volume.device)
    total, weights = None, torch.zeros(_cells(padded.shape, output_stride), device=volume.device)
    for corner in window_corners(padded.shape, window_zyx, overlap, output_stride):
        window = standardize(padded[_box(corner, window_zyx)][None, None])
        mean = _mean_over_views(window, predict, views, batch_size)
        if mean.shape[1:] != weight.shape:
            raise ValueError(f"a window of {weight.shape} cells was answered with {mean.shape[1:]}")
        if total is None:
            total = torch.zeros((len(mean), *weights.shape), device=volume.device)
        cells = _box(_cells(corner, output_stride), window_cells)
        total[(slice(None), *cells)] += mean * weight
        weights[cells] += weight
        progress(1)
    total /= weights
    front = _cells([before for before, _ in padding], output_stride)
    return total[(slice(None), *_box(front, _cells(volume.shape, output_stride)))]


def count_windows(shape_zyx: Sequence[int], window_zyx: Sequence[int], overlap: float, output_stride: int = 1) -> int:
    """How many windows :func:`sliding_window` takes for a volume of that shape."""
    padding = _padding(shape_zyx, window_zyx, output_stride)
    padded = [side + sum(added) for side, added in zip(shape_zyx, padding, strict=True)]
    return len(list(window_corners(padded, window_zyx, overlap, output_stride)))


def window_corners(
    shape: Sequence[int], window: Sequence[int], overlap: float, output_stride: int = 1
) -> Iterator[tuple[int, int, int]]:
    """First corners, multiples of the output stride, of windows that cover the volume.

    The fewest with this overlap, evenly spread; sides of volume and window are multiples of the output stride.
    """
    starts = []
    for side, width in zip(_cells(shape, output_stride), _cells(window, output_stride), strict=True):
        step = max(1, int(width * (1 - overlap)))
        count = 1 + max(0, -(-(side - width) // step))
        last = side - width
        starts.append([output_stride * round(last * k / (count - 1)) if count > 1 else 0 for k in range(count)])
    return itertools.product(*starts)


def _cells(sides: Sequence[int], output_stride: int) -> tuple[int, ...]:
    """Cells of the answer that cover that many voxels."""
    return tuple(-(-side // output_stride) for side in sides)


def _box(corner: Sequence[int], sides: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(first, first + side) for first, side in zip(corner, sides, strict=True))


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
    """Weight of each cell of a window (Z, Y, X), symmetric, 1 at the most; that of the cell's centre."""
    weight = torch.ones(tuple(window))
    if mode == "constant":
        return weight
    for axis, side in enumerate(window):
        distance = (torch.arange(side) - (side - 1) / 2) / (BLEND_SIGMA_FRACTION * side)
        shape = [1, 1, 1]
        shape[axis] = side
        weight = weight * torch.exp(-0.5 * distance**2).view(shape)
    return weight.clamp(min=MIN_BLEND_WEIGHT)


def _padding(shape: Sequence[int], window: Sequence[int], output_stride: int) -> list[tuple[int, int]]:
    """Voxels to add before and after each side: up to a window, and to whole cells.

    Those before fill whole cells, so that the volume's first voxel stays the first of its cell.
    """
    padding = []
    for side, cells, width in zip(shape, _cells(shape, output_stride), window, strict=True):
        missing = max(cells * output_stride, width) - side
        before = missing // 2 // output_stride * output_stride
        padding.append((before, missing - before))
    return padding


def _mirror(volume: Tensor, padding: Sequence[tuple[int, int]]) -> Tensor:
    """Mirror (Z, Y, X) at its borders."""
    if not any(map(sum, padding)):
        return volume
    # Reflection reaches at most one side less a voxel; a thinner volume repeats its border.
    thin = any(max(added) >= side for added, side in zip(padding, volume.shape, strict=True))
    flat = [voxels for added in reversed(padding) for voxels in added]
    return functional.pad(volume[None, None], flat, mode="replicate" if thin else "reflect")[0, 0]
