"""Chunks of a zarr array: written one by one; how many files there are, and whether each is whole before it is read."""

import bz2
import functools
import itertools
import lzma
import math
import operator
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import zarr

from data.files import files_below
from data.mrc_header import LARGEST_VOXELS
from errors import InputError

# A chunk is decompressed at once.
LARGEST_CHUNK_BYTES = 2**32
# Empty chunks may be left out of a zarr, but not nearly all.
LEAST_CHUNKS_SHARE = 0.01
CHUNK_NAME = re.compile(r"(?:c[./])?(\d{1,9}(?:[./]\d{1,9})*)")
# Codecs that tell nothing of the size before they have decompressed all; the factory takes as much as is asked for. A
# smaller file cannot grow beyond memory (deflate: at most 1032 times).
DECOMPRESSORS = {
    "gzip": functools.partial(zlib.decompressobj, 31),
    **{"zlib": zlib.decompressobj, "bz2": bz2.BZ2Decompressor, "lzma": lzma.LZMADecompressor},
}
SMALL_BYTES = {"gzip": 2**20, "zlib": 2**20}
ZSTD_MAGIC = bytes.fromhex("28b52ffd")
# A chunk of Blosc begins with four bytes, its size decompressed, the size of its blocks, and its own size
# (github.com/Blosc/c-blosc: README_CHUNK_FORMAT.rst).
BLOSC_HEADER = struct.Struct("<4x3I")


def write_chunks(array: zarr.Array, volume: np.ndarray, before: tuple[int, ...] = ()) -> None:
    """Write (Z, Y, X) to ``array[*before]``, a chunk at a time.

    Given many chunks zarr writes them in threads, which write on when one of them fails, also into a folder that has
    been removed meanwhile.
    """
    sides = array.chunks[len(before) :]
    for corner in itertools.product(*(range(0, n, side) for n, side in zip(volume.shape, sides, strict=True))):
        chunk = tuple(slice(start, start + side) for start, side in zip(corner, sides, strict=True))
        array[(*before, *chunk)] = volume[chunk]


def check_size(path: Path, array: zarr.Array) -> None:
    """InputError for an array, or a chunk, of no size or one that no tomogram has."""
    if math.prod(array.shape) > LARGEST_VOXELS or not 0 < _chunk_bytes(array) <= LARGEST_CHUNK_BYTES:
        shape, chunks = (" x ".join(map(str, sides)) for sides in (array.shape, array.chunks))
        raise InputError(f"{path}: {shape} voxels in chunks of {chunks} cannot be read; rewrite the tomogram")


def count_chunk_files(array: zarr.Array, folder: Path) -> tuple[int, int, int]:
    """How many files of chunks (or shards, which hold many) there are, make up the whole, and lie outside of it."""
    grid = [-(-n // c) for n, c in zip(array.shape, array.shards or array.chunks, strict=True)]
    names = (CHUNK_NAME.fullmatch(file.relative_to(folder).as_posix()) for file in files_below(folder))
    places = [[int(number) for number in re.split("[./]", name[1])] for name in names if name]
    there = sum(len(place) == len(grid) and all(map(operator.lt, place, grid)) for place in places)
    return there, math.prod(grid), len(places) - there


def check_whole(array: zarr.Array, file: Path) -> None:
    """ValueError for a chunk of Blosc that is longer or shorter than it was written, and for one that grows too large.

    numcodecs decompresses a chunk of Blosc that was cut off into whatever memory holds, without an error, and others
    as far as they go, however much memory that takes.
    """
    if array.shards is not None or not array.compressors or not file.is_file():  # no file: an empty chunk
        return
    codec = type(array.compressors[-1]).__name__.lower().removesuffix("codec")
    if codec == "blosc":
        return _check_blosc(array, file)
    # Filters may make numbers wider.
    most = _chunk_bytes(array) * (1 if not array.filters else 8)
    said = SIZES_SAID[codec](file) if codec in SIZES_SAID else None
    if codec in DECOMPRESSORS and file.stat().st_size > SMALL_BYTES.get(codec, 0):
        said = len(DECOMPRESSORS[codec]().decompress(file.read_bytes(), most + 1))
    if said is not None and said > most:
        raise ValueError(f"it holds more than its {most} bytes of voxels")


def _said_by_lz4(file: Path) -> int:
    """The size decompressed that a chunk begins with, as numcodecs writes it."""
    return int.from_bytes(_first_bytes(file, 4), "little")


def _said_by_zstd(file: Path) -> int | None:
    """The size decompressed that the header of a frame may give (RFC 8878, 3.1.1.1)."""
    head = _first_bytes(file, 18)
    if len(head) < 6 or head[:4] != ZSTD_MAGIC:
        return None
    flag, is_single = head[4] >> 6, head[4] >> 5 & 1
    start, length = 5 + (not is_single) + (0, 1, 2, 4)[head[4] & 3], (is_single, 2, 4, 8)[flag]
    if length == 0:
        return None
    return int.from_bytes(head[start : start + length], "little") + 256 * (length == 2)


def _first_bytes(file: Path, count: int) -> bytes:
    with file.open("rb") as opened:
        return opened.read(count)


def _check_blosc(array: zarr.Array, file: Path) -> None:
    head = _first_bytes(file, BLOSC_HEADER.size)
    if len(head) < BLOSC_HEADER.size:
        raise ValueError("it is cut off")
    unpacked, _, packed = BLOSC_HEADER.unpack(head)
    if packed != file.stat().st_size:
        raise ValueError(f"{file.stat().st_size} bytes, {packed} when it was written")
    if not array.filters and unpacked != _chunk_bytes(array):
        raise ValueError(f"{unpacked} bytes of voxels, not {_chunk_bytes(array)}")


SIZES_SAID = {"lz4": _said_by_lz4, "zstd": _said_by_zstd}


def _chunk_bytes(array: zarr.Array) -> int:
    return math.prod(array.chunks) * array.dtype.itemsize
