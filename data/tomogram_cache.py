"""Normalised tomograms kept on disk, so that each is decompressed and normalised once.

An entry is ``{folder}/{run}/{type}-{source}-{content}.npy``, the normalised float32 array. ``source`` stands for the
path of the tomogram, the percentiles and resampling, ``content`` for the size and time of all its files: when the
tomogram changes, the entry is another one, and the old one is removed. Entries are memory-mapped, for each region anew:
what is read of them stays in the system's page cache, which serves all processes together, and neither memory nor open
files grow with the number of tomograms.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.content_hash import file_states, hash_of
from data.files import atomic_path
from data.lazy_array import LazyArray, Region
from data.locks import locked
from data.normalization import clip_to_percentiles, in_float32_range
from data.npy_files import open_npy
from data.tomogram import Tomogram
from errors import InputError, raise_scarcity

# Part of every entry's name: count up when the same tomogram would be normalised to other values.
FORMAT = 3

Percentiles = tuple[float, float] | None


@dataclass(frozen=True)
class TomogramCache:
    """Normalised tomograms below ``folder``; several processes may use it at once."""

    folder: Path

    def load(self, tomogram: Tomogram, norm_percentiles: Percentiles, *, run_name: str, tomo_type: str) -> np.ndarray:
        """The normalised tomogram; its entry is made first when absent or damaged.

        Returns
        -------
        (Z, Y, X) float32 memory map, clipped to the percentiles and scaled to 0..1 (raw values without percentiles).
            It is private to the process: what is written to it never reaches the file.
        """
        return self._entry(tomogram, norm_percentiles, run_name, tomo_type).whole()

    def lazily(self, tomogram: Tomogram, norm_percentiles: Percentiles, *, run_name: str, tomo_type: str) -> LazyArray:
        """As :meth:`load` gives it, but read, and normalised where there is no entry yet, when it is first cut."""
        return LazyArray(tomogram.shape_zyx, self._entry(tomogram, norm_percentiles, run_name, tomo_type))

    def _entry(self, tomogram: Tomogram, norm_percentiles: Percentiles, run_name: str, tomo_type: str) -> "_Entry":
        before = tomogram.rescaled_from_zyx_angstrom
        resampled = [] if before is None else [[before, tomogram.voxel_spacing_angstrom]]
        source = hash_of([str(tomogram.path.resolve()), norm_percentiles, *resampled])[:8]
        content = hash_of([FORMAT, file_states(tomogram.path)])[:16]
        path = self.folder / run_name / f"{tomo_type}-{source}-{content}.npy"
        return _Entry(path, tomogram, norm_percentiles)


@dataclass(frozen=True)
class _Entry:
    """One file of the cache, made from its tomogram where it is missing or damaged."""

    path: Path
    tomogram: Tomogram
    norm_percentiles: Percentiles

    def __call__(self, *, region: Region) -> np.ndarray:
        return self.whole()[region]

    def whole(self) -> np.ndarray:
        shape = self.tomogram.shape_zyx
        entry = _open(self.path, shape)
        if entry is None:
            with _one_at_a_time(self.path.parent):
                if _open(self.path, shape, quiet=True) is None:
                    self._make()
            entry = _open(self.path, shape)
        return entry

    def _make(self) -> None:
        image = self.tomogram.read()
        limits = self.norm_percentiles
        image = in_float32_range(image) if limits is None else clip_to_percentiles(image, *limits)
        with atomic_path(self.path) as temporary:
            np.save(temporary, image)
        _remove_older(self.path)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Processes that need the same entry: one makes it, the others wait for it."""
    with ExitStack() as stack:
        with suppress(OSError, NotImplementedError):  # where nothing can be locked, each makes its own
            stack.enter_context(locked(folder / ".lock", shared=True))
        yield


def _open(path: Path, shape_zyx: tuple[int, int, int], *, quiet: bool = False) -> np.ndarray | None:
    """The entry; None when there is none, or it is not whole, which is said unless ``quiet``."""
    try:
        image = open_npy(path)
        if image.shape == shape_zyx and image.dtype == np.float32:
            return image
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); choose another --cache_dir") from error
    except (OSError, ValueError) as error:
        raise_scarcity(error)
    if not quiet:
        warnings.warn(f"{path} is damaged and made again", stacklevel=4)
    return None


def _remove_older(path: Path) -> None:
    """Other entries of the same run, type and source."""
    pattern = re.compile(re.escape(path.stem[:-16]) + r"[0-9a-f]{16}\.npy")
    for other in path.parent.iterdir():
        if other != path and pattern.fullmatch(other.name):
            with suppress(OSError):  # gone already, or held open where that prevents removal
                other.unlink()
