"""Arrays of which only the regions asked for are ever in memory."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

Region = tuple[slice, slice, slice]


class Cut(Protocol):
    """What gives the voxels of a region; small to pickle, since processes that cut patches get a copy."""

    def __call__(self, *, region: Region) -> np.ndarray: ...


@dataclass(frozen=True)
class LazyArray:
    """A volume that is read or made region by region, so that memory does not grow with the number of tomograms.

    Attributes
    ----------
    shape : (Z, Y, X)
    cut : region, three slices with their ends -> the voxels there
    """

    shape: tuple[int, int, int]
    cut: Cut

    def __getitem__(self, region: Region) -> np.ndarray:
        ends = (one.indices(side)[:2] for one, side in zip(region, self.shape, strict=True))
        return self.cut(region=tuple(slice(*pair) for pair in ends))

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """All of it."""
        return np.asarray(self[(slice(None),) * 3], dtype=dtype)
