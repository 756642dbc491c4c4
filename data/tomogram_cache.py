"""Normalised tomograms kept on disk, so that each is decompressed and normalised once.

An entry is ``{folder}/{run}/{type}-{source}-{content}.npy``, the normalised float32 array. ``source`` stands for the
path of the tomogram, the percentiles and resampling, ``content`` for the size and time of all its files: when the
tomogram changes, the entry is another one, and the old one is removed. Entries are memory-mapped: what is read of them
stays in the system's page cache, which serves all processes together.
"""

import re
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.content_hash import file_states, hash_of
from data.files import atomic_path
from data.normalization import clip_to_percentiles
from data.tomogram import Tomogram
from errors import InputError

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
        before = tomogram.rescaled_from_zyx_angstrom
        resampled = [] if before is None else [[before, tomogram.voxel_spacing_angstrom]]
        source = hash_of([str(tomogram.path.resolve()), norm_percentiles, *resampled])[:8]
        content = hash_of([FORMAT, file_states(tomogram.path)])[:16]
        path = self.folder / run_name / f"{tomo_type}-{source}-{content}.npy"
        entry = _open(path, tomogram.shape_zyx)
        if entry is None:
            voxels = tomogram.read()
            image = voxels if norm_percentiles is None else clip_to_percentiles(voxels, *norm_percentiles)
            with atomic_path(path) as temporary:
                np.save(temporary, image)
            _remove_older(path)
            entry = _open(path, tomogram.shape_zyx)
        return entry


def _open(path: Path, shape_zyx: tuple[int, int, int]) -> np.ndarray | None:
    """The entry; None when there is none, or it is not whole."""
    try:
        image = np.load(path, mmap_mode="c", allow_pickle=False)
        whole = path.stat().st_size == image.offset + image.nbytes
        if whole and image.shape == shape_zyx and image.dtype == np.float32:
            return image
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); choose another --cache_dir") from error
    except (OSError, ValueError, EOFError):
        pass
    warnings.warn(f"{path} is damaged and made again", stacklevel=4)
    return None


def _remove_older(path: Path) -> None:
    """Other entries of the same run, type and source."""
    pattern = re.compile(re.escape(path.stem[:-16]) + r"[0-9a-f]{16}\.npy")
    for other in path.parent.iterdir():
        if other != path and pattern.fullmatch(other.name):
            with suppress(OSError):  # gone already, or held open where that prevents removal
                other.unlink()
