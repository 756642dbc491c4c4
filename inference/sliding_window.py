"""Sliding window: a tomogram of any size through networks, window by window, in several views."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from data.normalization import standardize
from inference.windows import Window, WindowGrid
from tta.orientations import IDENTITY, Orientation, apply
from tta.views import ViewMerger

Network = Callable[[Tensor], Tensor]
Map = tuple[Tensor, Tensor | None]


def sliding_window(
    volume: Tensor,
    networks: Sequence[Network],
    *,
    grid: WindowGrid,
    blend_mode: str = "gaussian",
    batch_size: int = 1,
    full_batches: bool = False,
    views: Sequence[Orientation] = (IDENTITY,),
    merge: str = "probability",
    progress: Callable[[float], None] = lambda voxels: None,
) -> Map:
    """Probability, and how far networks and views disagree, of a volume cut into windows.

    Each window is z-scored by itself and given to every network in every view; the logits are turned back, merged, and
    blended with those of the neighbours. Where the networks have an output stride s, everything after them stays on
    that grid. A single window is its own map: nothing is blended.

    Maps are blended in float32. Half precision would be exact enough (probability off by 1e-4 rms and 1.3e-3 at most;
    a network in bf16 is off by 5e-4 and 0.012), but detection wants float32, so that in the end both would be there,
    and the sums are not faster for it.

    Parameters
    ----------
    volume : (Z, Y, X) float32 on the device of the networks
    networks : logits (B, C, Z / s, Y / s, X / s) from (B, 1, Z, Y, X), s the stride of the grid
    grid : the windows; sides that views exchange need not be equal, the networks then see windows of other shapes
    blend_mode : gaussian or constant, see WindowGrid.weights
    batch_size : views of windows per call of a network; does not change the result
    full_batches : repeat a view where a batch is short, so that all calls with windows of one shape are of one size
    views : orientations
    merge : of views and networks: probability or logit, see tta.views.MERGES
    progress : called with the number of the volume's voxels that were done since the last call

    Returns
    -------
    probability : (C, ceil(Z / s), ceil(Y / s), ceil(X / s)) float32 on the volume's device, the sum over C is 1;
        voxel j lies at voxel (j + 0.5) * s - 0.5 of the volume. The last voxel of a side that is no multiple of s
        reaches beyond the volume, which is mirrored there.
    variance : of the probability over views and networks, of the same shape; where windows overlap the weighted mean of
        theirs. None for one view of one network.
    """
    weights = grid.weights(blend_mode)
    share = volume.numel() / (len(grid) * len(views) * len(networks))
    total: Map | None = None
    windows_at_a_time = min(len(grid), max(1, batch_size // len(views)))
    for windows in _batches(grid, windows_at_a_time):
        maps = _maps_of(
            volume,
            windows,
            networks,
            views,
            batch_size=batch_size,
            full_batch_of=windows_at_a_time if full_batches else 0,
            merge=merge,
            stride=grid.stride,
            progress=lambda outputs: progress(share * outputs),
        )
        if len(grid) == 1:
            return maps[0]
        total = total or tuple(None if one is None else one.new_zeros(len(one), *grid.map_shape_zyx) for one in maps[0])
        for window in windows:
            _blend(total, maps.pop(0), window, weights)
    return total


def _maps_of(
    volume: Tensor,
    windows: Sequence[Window],
    networks: Sequence[Network],
    views: Sequence[Orientation],
    *,
    batch_size: int,
    full_batch_of: int,
    merge: str,
    stride: int,
    progress: Callable[[int], None],
) -> list[Map]:
    """The merged map of each window, in the order of the windows; batches are filled up to those of so many windows."""
    inputs = [standardize(window.cut(volume)[None, None])[0, 0] for window in windows]
    with_variance = len(views) * len(networks) > 1
    mergers = [ViewMerger(merge, with_variance=with_variance, box=window.inner) for window in windows]
    for batch in _batches_of_one_shape(range(len(windows)), views, batch_size, inputs[0].shape):
        turned = [apply(inputs[number], view) for number, view in batch]
        alike = sum(_turned_shape(view, inputs[0].shape) == turned[0].shape for view in views)
        missing = max(0, min(batch_size, alike * full_batch_of) - len(batch))
        batch_of_views = torch.stack([*turned, *turned[:1] * missing])[:, None]
        for network in networks:
            _add_logits(network, batch_of_views, [(mergers[number], view) for number, view in batch], stride)
            progress(len(batch))
        del batch_of_views  # not there when the next is made
    return [merger.merged() for merger in mergers]


def _add_logits(
    network: Network, inputs: Tensor, mergers: Sequence[tuple[ViewMerger, Orientation]], stride: int
) -> None:
    """One call of one network; its logits are gone with the end of this function."""
    outputs = network(inputs)
    if any(length * stride != side for length, side in zip(outputs.shape[2:], inputs.shape[2:], strict=True)):
        raise ValueError(f"inputs {tuple(inputs.shape)} gave outputs {tuple(outputs.shape)}")
    for logits, (merger, view) in zip(outputs, mergers, strict=False):  # what fills a batch up is left out
        merger.add(logits, view)


def _batches_of_one_shape(
    numbers: Iterable[int], views: Sequence[Orientation], batch_size: int, shape: Sequence[int]
) -> Iterator[tuple[tuple[int, Orientation], ...]]:
    """Pairs of window and view; views that exchange unequal sides go with those that do so, too."""
    by_shape: dict[tuple[int, ...], list[tuple[int, Orientation]]] = {}
    for number, view in itertools.product(numbers, views):
        by_shape.setdefault(_turned_shape(view, shape), []).append((number, view))
    for pairs in by_shape.values():
        yield from _batches(pairs, batch_size)


def _turned_shape(view: Orientation, shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in view.order)


def _batches(items: Iterable, size: int) -> Iterator[tuple]:
    iterator = iter(items)
    while batch := tuple(itertools.islice(iterator, size)):
        yield batch


def _blend(total: Map, window_map: Map, window: Window, weights: Sequence[Sequence[Tensor]]) -> None:
    """Add a window's map where it lies, weighted."""
    for sum_, values in zip(total, window_map, strict=True):
        if sum_ is not None:
            z, y, x = (axis[number].to(sum_.device) for axis, number in zip(weights, window.index, strict=True))
            values *= z[:, None, None]
            values *= y[:, None]
            sum_[(slice(None), *window.map_voxels)].addcmul_(values, x)
