"""Which windows a tomogram is cut into: the fewest voxels to compute among those that fit into memory."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from inference.settings import InferenceSettings
from inference.windows import WindowGrid, count_windows, overlap_voxels

# A GPU is busy with this many voxels per call; smaller windows go together.
GPU_CALL_VOXELS = 16_000_000
# Smaller windows are mostly border.
SMALLEST_SIDE = 64


@dataclass(frozen=True)
class Plan:
    """The windows of a tomogram, and how many views of them go through a network at a time."""

    grid: WindowGrid
    batch_size: int

    def __str__(self) -> str:
        return " x ".join(map(str, self.grid.window_zyx))


class Planner:
    """Cuts tomograms into windows as the settings say.

    Parameters
    ----------
    settings : InferenceSettings
    divisor : sides of a window must be multiples of it
    stride : of the output; divides the divisor
    num_views : of each window
    on_gpu : where the networks compute
    """

    def __init__(self, settings: InferenceSettings, *, divisor: int, stride: int, num_views: int, on_gpu: bool) -> None:
        self.settings = settings
        self.divisor = divisor
        self.stride = stride
        self.num_views = num_views
        self.on_gpu = on_gpu

    def plan(self, shape_zyx: Sequence[int], window_zyx: Sequence[int]) -> Plan:
        """Windows of that size: no larger than the tomogram needs, sides that the networks can take."""
        sides = [self._whole(min(side, wanted)) for side, wanted in zip(shape_zyx, window_zyx, strict=True)]
        return self._plan(shape_zyx, sides)

    def plans(self, shape_zyx: Sequence[int]) -> list[Plan]:
        """All that may pay, best first: the fewest voxels to compute, overlaps included, then the fewest windows.

        What a voxel costs hardly depends on the window: on a CPU deepfinder2 in bf16 does 3.5 million voxels a second
        in windows of 184 x 632 x 632 and of 184 x 336 x 336. In windows of 96^3, of which more stays in the caches, it
        does 5 million, but there are four times as many to compute.
        """
        options = [self._sides(side) for side in shape_zyx]
        ranked = sorted(
            (math.prod(width * count for width, count in zyx), math.prod(count for _, count in zyx), zyx)
            for zyx in itertools.product(*options)
        )
        return [self._plan(shape_zyx, [width for width, _ in zyx]) for _, _, zyx in ranked]

    def batches(self, plan: Plan) -> Iterator[Plan]:
        """The same windows in ever smaller batches, which do not change the result."""
        size = plan.batch_size
        while size:
            yield Plan(plan.grid, size)
            size //= 2

    def smaller(self, plan: Plan) -> Plan | None:
        """Half the batch, where there is one, else windows halved along the longest side; None if there is no half."""
        grid = plan.grid
        if plan.batch_size > 1:
            return Plan(grid, plan.batch_size // 2)
        sides = list(grid.window_zyx)
        longest = sides.index(max(sides))
        sides[longest] = self._whole(sides[longest] // 2)
        return Plan(self._grid(grid.shape_zyx, sides), 1) if sides[longest] < grid.window_zyx[longest] else None

    def _sides(self, side: int) -> Iterator[tuple[int, int]]:
        """Widths of windows along a side with how many it takes: the least width of each number."""
        least_width: dict[int, int] = {}
        for width in range(self._whole(side), min(self._whole(side), self._whole(SMALLEST_SIDE)) - 1, -self.divisor):
            least_width[count_windows(side, width, self._overlap([width])[0], self.stride)] = width
        return [(width, count) for count, width in least_width.items()]

    def _plan(self, shape_zyx: Sequence[int], sides: Sequence[int]) -> Plan:
        grid, batch_size = self._grid(shape_zyx, sides), self.settings.batch_size
        if batch_size is None:
            busy = GPU_CALL_VOXELS // math.prod(sides) if self.on_gpu else 1
            batch_size = max(1, min(busy, len(grid) * self.num_views))
        return Plan(grid, batch_size)

    def _grid(self, shape_zyx: Sequence[int], sides: Sequence[int]) -> WindowGrid:
        return WindowGrid(tuple(shape_zyx), tuple(sides), self._overlap(sides), self.stride)

    def _overlap(self, sides: Sequence[int]) -> tuple[int, ...]:
        return overlap_voxels(sides, self.settings.overlap, self.settings.max_overlap_voxels)

    def _whole(self, side: int) -> int:
        return self.divisor * max(1, -(-side // self.divisor))
