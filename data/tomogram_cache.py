"""Normalised tomograms kept on disk, so that each is decompressed and normalised once.

An entry is ``{folder}/{run}/{type}-{source}-{content}.npy``, the normalised float32 array, with a checksum behind its
voxels. ``source`` stands for the path of the tomogram and the percentiles, ``content`` for the size and time of all its
files: when the tomogram changes, the entry is another one, and the old one is removed.
"""

import hashlib
import json
import re
import warnings
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.content_hash import file_states
from data.files import atomic_path
from data.lazy_tomogram import LazyTomogram, open_lazily, slabs
from data.normalization import clip_to_percentiles
from data.tomogram import Tomogram
from errors import InputError

# Part of every entry's name: count up when the same tomogram would be normalised to other values.
FORMAT = 1
CHECKSUM_BYTES = 4

Percentiles = tuple[float, float] | None


def normalise(tomogram: Tomogram, norm_percentiles: Percentiles) -> np.ndarray:
    """The whole tomogram as a float32 array, clipped to its percentiles; raw values without percentiles."""
    voxels = tomogram.read()
    return voxels if norm_percentiles is None else clip_to_percentiles(voxels, *norm_percentiles)


@dataclass(frozen=True)
class TomogramCache:
    """Normalised tomograms below ``folder``; several processes may use it at once."""

    folder: Path

    def load(
        self, tomogram: Tomogram, norm_percentiles: Percentiles, *, run_name: str, tomo_type: str, in_memory: bool
    ) -> np.ndarray:
        """The normalised tomogram; from its entry, which is made first when absent or damaged.

        Parameters
        ----------
        in_memory : False gives a read-only memory map, and at no time is the whole tomogram in memory

        Returns
        -------
        (Z, Y, X) float32
        """
        path = self.entry_path(tomogram, norm_percentiles, run_name=run_name, tomo_type=tomo_type)
        entry = _read(path, tomogram.shape_zyx, in_memory)
        if entry is not None:
            return entry
        prepare = normalise if in_memory else open_lazily
        image = prepare(tomogram, norm_percentiles)
        with atomic_path(path) as temporary:
            _write(temporary, image)
        _remove_older(path)
        return image if in_memory else np.load(path, mmap_mode="r", allow_pickle=False)

    def entry_path(self, tomogram: Tomogram, norm_percentiles: Percentiles, *, run_name: str, tomo_type: str) -> Path:
        source = _digest([str(tomogram.path.resolve()), norm_percentiles], 8)
        content = _digest([FORMAT, file_states(tomogram.path)], 16)
        return self.folder / run_name / f"{tomo_type}-{source}-{content}.npy"


def _digest(value: object, length: int) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:length]


def _read(path: Path, shape_zyx: tuple[int, int, int], in_memory: bool) -> np.ndarray | None:
    """The entry; None when there is none, or none that can be trusted."""
    if not path.exists():
        return None
    try:
        image = np.load(path, mmap_mode=None if in_memory else "r", allow_pickle=False)
        with path.open("rb") as file:
            file.seek(path.stat().st_size - CHECKSUM_BYTES)
            checksum = int.from_bytes(file.read(), "little")
        if image.shape == shape_zyx and image.dtype == np.float32 and zlib.crc32(image) == checksum:
            return image
    except FileNotFoundError:  # another process has just replaced it by that of a newer tomogram
        return None
    except PermissionError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); choose another --cache_dir") from error
    except (OSError, ValueError, EOFError):
        pass
    warnings.warn(f"{path} is damaged and made again", stacklevel=4)
    return None


def _write(path: Path, image: np.ndarray | LazyTomogram) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": tuple(image.shape)}
    checksum = 0
    # Written, not memory-mapped: a full disk must be an error, and it kills the process that fills a map.
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for region in slabs(image.shape):
            voxels = np.ascontiguousarray(image[region], dtype="<f4")
            checksum = zlib.crc32(voxels, checksum)
            file.write(voxels.data)
        file.write(checksum.to_bytes(CHECKSUM_BYTES, "little"))


def _remove_older(path: Path) -> None:
    """Other entries of the same run, type and source."""
    pattern = re.compile(re.escape(path.stem[:-16]) + r"[0-9a-f]{16}\.npy")
    for other in path.parent.iterdir():
        if other != path and pattern.fullmatch(other.name):
            with suppress(OSError):  # gone already, or held open where that prevents removal
                other.unlink()
