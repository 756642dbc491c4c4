"""How far the work is: a bar for each level on a terminal, and a line for each tomogram everywhere."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


class ProgressBars:
    """Bars below each other, with the time left; without a terminal there are none."""

    def __init__(self) -> None:
        self._depth = 0

    def each(self, items: Iterable[Item], what: str, *, total: int) -> Iterator[Item]:
        """The items in turn, with a bar below those that are there."""
        with self._bar(total=total, desc=what) as bar:
            for item in items:
                yield item
                bar.update(1)

    def voxels(self, total: float, what: str) -> AbstractContextManager[tqdm]:
        """A bar of what goes through networks, below the others."""
        return self._bar(total=total, desc=what, unit="voxel", unit_scale=True)

    def say(self, text: str) -> None:
        """A line above the bars."""
        tqdm.write(text)

    @contextmanager
    def _bar(self, **options) -> Iterator[tqdm]:
        # The outermost stays when it is full.
        bar = tqdm(position=self._depth, leave=self._depth == 0, dynamic_ncols=True, disable=None, **options)
        self._depth += 1
        try:
            with bar:
                yield bar
        finally:
            self._depth -= 1
