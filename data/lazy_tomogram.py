"""A normalised tomogram that stays on disk: patches are read where they are asked for."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from data.normalization import check_percentiles, clip_to_limits
from data.tomogram import Region, Tomogram
from errors import InputError

# Read at a time where a whole tomogram has to be gone through; a multiple of most chunk sizes.
SLAB_PLANES = 64
HALF_BITS = 16


@dataclass(frozen=True)
class LazyTomogram:
    """Looks like the (Z, Y, X) float32 array of :func:`clip_to_percentiles`, voxel for voxel, but reads on demand.

    Attributes
    ----------
    tomogram : where the voxels come from
    limits : grey values that become 0 and 1; None for the raw values
    """

    tomogram: Tomogram
    limits: tuple[float, float] | None

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.tomogram.shape_zyx

    def __getitem__(self, region: Region | slice) -> np.ndarray:
        """The box of three slices z, y, x (or slabs: one slice) as a float32 array; only its chunks are read."""
        if isinstance(region, slice):
            region = (region, slice(None), slice(None))
        voxels = self.tomogram.read(region)
        return voxels if self.limits is None else clip_to_limits(voxels, *self.limits)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("the voxels have to be read, which makes a copy")
        return np.asarray(self[:], dtype=dtype)


def open_lazily(tomogram: Tomogram, norm_percentiles: tuple[float, float] | None) -> LazyTomogram:
    """The normalised tomogram without its voxels; percentiles need two passes over the file, slab by slab."""
    if tomogram.path.suffix.lower() in (".gz", ".bz2"):
        raise InputError(f"{tomogram.path} does not fit in memory and cannot be read in parts; decompress it")
    return LazyTomogram(tomogram, norm_percentiles and percentile_limits(tomogram, *norm_percentiles))


def slabs(shape_zyx: tuple[int, int, int]) -> Iterator[Region]:
    """Boxes of some planes each that together are the volume, in the order of the voxels on disk."""
    for start in range(0, shape_zyx[0], SLAB_PLANES):
        yield slice(start, min(start + SLAB_PLANES, shape_zyx[0])), slice(0, shape_zyx[1]), slice(0, shape_zyx[2])


def percentile_limits(tomogram: Tomogram, lower: float, upper: float) -> tuple[float, float]:
    """``np.percentile`` of a tomogram, equal to the last bit, with one slab in memory at a time.

    Parameters
    ----------
    tomogram : read twice: the first pass counts the upper halves of the bit patterns, the second one the lower
        halves of those upper halves that the wanted ranks fall into
    lower, upper : percent, 0 <= lower < upper <= 100

    Returns
    -------
    The two grey values, interpolated linearly between neighbouring voxels.
    """
    check_percentiles(lower, upper)
    places = (np.prod(tomogram.shape_zyx) - 1) * (np.array([lower, upper]) / 100)
    below = np.floor(places).astype(np.int64)
    ranks = np.concatenate((below, np.ceil(places).astype(np.int64)))
    value = _values_at(tomogram, np.unique(ranks))
    limits = []
    for rank, next_rank, share in zip(ranks[:2], ranks[2:], places - below, strict=True):
        step = value[next_rank] - value[rank]  # in float32, as NumPy does
        from_above = share >= 0.5  # from the nearer end, as NumPy does
        limits.append(float(value[next_rank] - step * (1 - share) if from_above else value[rank] + step * share))
    return limits[0], limits[1]


def _values_at(tomogram: Tomogram, ranks: np.ndarray) -> dict[int, np.float32]:
    """Rank in the sorted voxels -> the voxel of that rank."""
    counts = np.zeros(2**HALF_BITS, np.int64)
    for key in _sorting_keys(tomogram):
        counts += np.bincount(key >> HALF_BITS, minlength=len(counts))
    ends = counts.cumsum()
    upper_halves = np.searchsorted(ends, ranks, side="right")
    finer = {int(half): np.zeros(2**HALF_BITS, np.int64) for half in upper_halves}
    for key in _sorting_keys(tomogram):
        for half, count in finer.items():
            count += np.bincount(key[key >> HALF_BITS == half] & (2**HALF_BITS - 1), minlength=len(count))
    values = {}
    for rank, half in zip(ranks.tolist(), upper_halves.tolist(), strict=True):
        rest = rank - (ends[half] - counts[half])
        lower_half = int(np.searchsorted(finer[half].cumsum(), rest, side="right"))
        key = np.uint32(half << HALF_BITS | lower_half)
        values[rank] = (key ^ (_SIGN if key & _SIGN else ~np.uint32(0))).view(np.float32)
    return values


_SIGN = np.uint32(2**31)


def _sorting_keys(tomogram: Tomogram) -> Iterator[np.ndarray]:
    """The voxels plane by plane as uint32 of the same order: bit patterns, negative ones turned around."""
    for region in slabs(tomogram.shape_zyx):
        for plane in tomogram.read(region):
            bits = plane.ravel().view(np.uint32)
            yield np.where(bits & _SIGN, ~bits, bits | _SIGN)
