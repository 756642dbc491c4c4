"""Where the windows of a volume lie, what they see, and how much each of them counts where they overlap."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

BLEND_MODES = ("gaussian", "constant")
# A window's weight rises to 1 over the overlap (half of the window at most), as a Gaussian whose sigma is this share of
# it: next to nothing at the border, where a network knows only one side, equal to the neighbour's in the middle.
FLANK_SIGMA_FRACTION = 0.25


@dataclass(frozen=True)
class Span:
    """A window along one axis.

    Attributes
    ----------
    voxels : of the volume that lie in it
    mirrored : voxels before and after them, mirrored at the volume's border
    map_voxels : voxels of the probability map that it gives
    inner : the same, counted from the window's first
    """

    voxels: slice
    mirrored: tuple[int, int]
    map_voxels: slice
    inner: slice


@dataclass(frozen=True)
class Window:
    """One span per axis, and which of the axis's spans it is."""

    spans: tuple[Span, Span, Span]
    index: tuple[int, int, int]

    @property
    def map_voxels(self) -> tuple[slice, ...]:
        return tuple(span.map_voxels for span in self.spans)

    @property
    def inner(self) -> tuple[slice, ...]:
        return tuple(span.inner for span in self.spans)

    def cut(self, volume: Tensor) -> Tensor:
        """The input window of a volume (Z, Y, X)."""
        inside = volume[tuple(span.voxels for span in self.spans)]
        mirrored = [span.mirrored for span in self.spans]
        if not any(map(sum, mirrored)):
            return inside
        # Reflection reaches at most one side less a voxel; a thinner volume repeats its border.
        thin = any(max(added) >= side for added, side in zip(mirrored, inside.shape, strict=True))
        flat = [voxels for added in reversed(mirrored) for voxels in added]
        return functional.pad(inside[None, None], flat, mode="replicate" if thin else "reflect")[0, 0]


@dataclass(frozen=True)
class WindowGrid:
    """The fewest windows that cover a volume with an overlap, evenly spread.

    Parameters
    ----------
    shape_zyx : voxels of the volume; mirrored up to the window where that is larger, and up to whole voxels of the map
    window_zyx : voxels, multiples of the stride
    overlap_zyx : voxels that neighbours have in common at least, below the window's side
    stride : voxels of the volume in a voxel of the map, which begins with the volume's first voxel
    """

    shape_zyx: tuple[int, int, int]
    window_zyx: tuple[int, int, int]
    overlap_zyx: tuple[int, int, int]
    stride: int = 1

    def __post_init__(self) -> None:
        if any(side % self.stride for side in self.window_zyx):
            raise ValueError(f"sides of the window {self.window_zyx} must be multiples of {self.stride}")

    @property
    def map_shape_zyx(self) -> tuple[int, ...]:
        """Of the probability map; the last voxel of a side may reach beyond the volume."""
        return tuple(-(-side // self.stride) for side in self.shape_zyx)

    @property
    def window_map_shape_zyx(self) -> tuple[int, ...]:
        return tuple(side // self.stride for side in self.window_zyx)

    def spans(self, axis: int) -> list[Span]:
        """The windows along an axis, in order."""
        side, length, width = self.shape_zyx[axis], self.map_shape_zyx[axis], self.window_map_shape_zyx[axis]
        count = count_windows(side, self.window_zyx[axis], self.overlap_zyx[axis], self.stride)
        # Half of what is mirrored goes before the volume, in whole voxels of the map.
        front = max(0, width * self.stride - side) // 2 // self.stride
        starts = [round((length - width) * k / (count - 1)) for k in range(count)] if count > 1 else [-front]
        return [self._span(start, side, length, width) for start in starts]

    def _span(self, start: int, side: int, length: int, width: int) -> Span:
        first, end = start * self.stride, (start + width) * self.stride
        filled = slice(max(0, start), min(length, start + width))
        return Span(
            slice(max(0, first), min(side, end)),
            (max(0, -first), max(0, end - side)),
            filled,
            slice(filled.start - start, filled.stop - start),
        )

    def __len__(self) -> int:
        return math.prod(len(self.spans(axis)) for axis in range(3))

    def __iter__(self) -> Iterator[Window]:
        for numbered in itertools.product(*(enumerate(self.spans(axis)) for axis in range(3))):
            index, spans = zip(*numbered, strict=True)
            yield Window(spans, index)

    def weights(self, mode: str) -> list[list[Tensor]]:
        """Per axis and span the weights of its voxels of the map; over all windows those of a voxel add up to 1.

        The weight of a voxel is the product over its axes. ``constant``: all windows count the same; ``gaussian``: they
        count less where they overlap and their border is near. Where only one window is, it has weight 1.
        """
        return [self._axis_weights(axis, mode) for axis in range(3)]

    def _axis_weights(self, axis: int, mode: str) -> list[Tensor]:
        spans, width = self.spans(axis), self.window_map_shape_zyx[axis]
        common = [one.map_voxels.stop - other.map_voxels.start for one, other in itertools.pairwise(spans)]
        rise = _rise(width, min(width // 2, *common)) if common and mode == "gaussian" else torch.ones(width)
        # At the volume's borders there is no neighbour to make room for.
        weights = [
            (rise if number > 0 else 1) * (rise.flip(0) if number < len(spans) - 1 else torch.ones(width))
            for number in range(len(spans))
        ]
        total = torch.zeros(self.map_shape_zyx[axis])
        for span, weight in zip(spans, weights, strict=True):
            total[span.map_voxels] += weight[span.inner]
        return [weight[span.inner] / total[span.map_voxels] for span, weight in zip(spans, weights, strict=True)]


def count_windows(side: int, width: int, overlap: int, stride: int = 1) -> int:
    """Windows of that width that a side takes, all in voxels."""
    rest = -(-side // stride) - width // stride
    return 1 + max(0, -(-rest // max(1, width // stride - -(-overlap // stride))))


def _rise(width: int, rising: int) -> Tensor:
    """Weights that rise to 1 over so many voxels of the map from the first."""
    missing = (rising - 0.5 - torch.arange(width)).clamp(min=0) / max(1, FLANK_SIGMA_FRACTION * rising)
    return torch.exp(-0.5 * missing**2)


def overlap_voxels(window_zyx: Sequence[int], share: float, at_most: int | None = None) -> tuple[int, ...]:
    """Voxels that are this share of each side (below it), limited where a number of voxels is enough."""
    return tuple(min(side - 1, math.ceil(share * side), side if at_most is None else at_most) for side in window_zyx)
