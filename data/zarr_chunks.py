"""Chunk files of a zarr array: their sizes and number, and whether each is whole, before they are decompressed."""

import math
import operator
import re
import struct
from pathlib import Path

import zarr

from data.files import files_below
from data.mrc_header import LARGEST_VOXELS
from errors import InputError

# A chunk is decompressed at once.
LARGEST_CHUNK_BYTES = 2**32
# Empty chunks may be left out of a zarr, but not nearly all.
LEAST_CHUNKS_SHARE = 0.01
CHUNK_NAME = re.compile(r"(?:c[./])?(\d{1,9}(?:[./]\d{1,9})*)")
# A chunk of Blosc begins with four bytes, its size decompressed, the size of its blocks, and its own size
# (github.com/Blosc/c-blosc: README_CHUNK_FORMAT.rst).
BLOSC_HEADER = struct.Struct("<4x3I")


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
    """ValueError for a chunk of Blosc that is longer or shorter than it was written.

    numcodecs decompresses a chunk that was cut off into whatever memory holds, without an error.
    """
    compressors = array.compressors
    if array.shards is not None or not compressors or "blosc" not in type(compressors[-1]).__name__.lower():
        return
    if not file.is_file():  # an empty chunk
        return
    with file.open("rb") as opened:
        head = opened.read(BLOSC_HEADER.size)
    if len(head) < BLOSC_HEADER.size:
        raise ValueError("it is cut off")
    unpacked, _, packed = BLOSC_HEADER.unpack(head)
    if packed != file.stat().st_size:
        raise ValueError(f"{file.stat().st_size} bytes, {packed} when it was written")
    if not array.filters and unpacked != _chunk_bytes(array):
        raise ValueError(f"{unpacked} bytes of voxels, not {_chunk_bytes(array)}")


def _chunk_bytes(array: zarr.Array) -> int:
    return math.prod(array.chunks) * array.dtype.itemsize
