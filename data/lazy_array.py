"""Arrays of which only the regions asked for are ever in memory."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Region = tuple[slice, slice, slice]


@dataclass(frozen=True)
class LazyArray:
    """A volume that is read or made region by region, so that memory does not grow with the number of tomograms.

    Attributes
    ----------
    shape : (Z, Y, X)
    cut : three slices -> the voxels there; small to pickle, since processes that cut patches get a copy
    """

    shape: tuple[int, int, int]
    cut: Callable[[Region], np.ndarray]

    def __getitem__(self, region: Region) -> np.ndarray:
        return self.cut(tuple(slice(*one.indices(side)[:2]) for one, side in zip(region, self.shape, strict=True)))

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """All of it."""
        return np.asarray(self[(slice(None),) * 3], dtype=dtype)
