"""The header of an MRC file, and whether the file holds what it promises, before anything is allocated."""

import bz2
import gzip
import io
import math
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from mrcfile.mrcinterpreter import MrcInterpreter
from mrcfile.utils import data_dtype_from_header, data_shape_from_header

from data.files import check_regular
from errors import InputError, raise_scarcity

OPENERS = {".gz": gzip.open, ".bz2": bz2.open}
HEADER_BYTES, EXTENDED_BYTES_AT = 1024, 92
READ_BYTES = 2**22
# Some programs write a little behind the voxels.
MOST_READS_BEHIND = 4
# 4096 cubed: no microscope's tomogram is larger.
LARGEST_VOXELS = 2**36
# Grey values do not compress to less; what does holds nothing but one value. Of small files it does not matter.
MOST_COMPRESSION, SMALL_BYTES = 200, 2**28


@dataclass(frozen=True)
class MrcHeader:
    """What a header says.

    Attributes
    ----------
    fields : of the header by their names in mrcfile, in the file's byte order
    shape : (Z, Y, X), or another where it is no single volume
    dtype : of the voxels
    spacing_zyx : angstrom
    offset : bytes before the voxels
    """

    fields: np.recarray
    shape: tuple[int, ...]
    dtype: np.dtype
    spacing_zyx: tuple[float, float, float]
    offset: int

    @property
    def voxel_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def is_compressed(path: Path) -> bool:
    return path.suffix.lower() in OPENERS


def open_stream(path: Path) -> BinaryIO:
    """The file's bytes, decompressed while they are read."""
    return OPENERS.get(path.suffix.lower(), open)(path, "rb")


def read_header(path: Path) -> MrcHeader:
    """The header of a plain or compressed file; of the file not more than that is read.

    InputError: not an MRC file, or one that cannot hold the voxels that its header promises.
    """
    check_regular(path)
    try:
        with open_stream(path) as file:
            raw = bytearray(file.read(HEADER_BYTES))
        header = _parsed(raw)
        if header.offset < HEADER_BYTES:
            raise ValueError("its extended header has a negative size")
        if math.prod(header.shape) > LARGEST_VOXELS:
            raise ValueError(f"{' x '.join(map(str, header.shape))} voxels are more than any tomogram has")
        there, promised = path.stat().st_size, header.offset + header.voxel_bytes
        if not is_compressed(path) and there < promised:
            raise ValueError("the file is shorter than its header says")
        if is_compressed(path) and promised > SMALL_BYTES and promised > MOST_COMPRESSION * there:
            raise ValueError(f"its {there} bytes cannot hold the {promised} that its header promises")
    except (ValueError, ArithmeticError, OSError, EOFError, zlib.error) as error:
        raise_scarcity(error)
        raise InputError(f"{path}: not a readable MRC file ({error}); copy or export it again") from error
    return header


def _parsed(raw: bytearray) -> MrcHeader:
    if len(raw) < HEADER_BYTES:
        raise ValueError("the file is shorter than a header")
    extended = bytes(raw[EXTENDED_BYTES_AT : EXTENDED_BYTES_AT + 4])
    raw[EXTENDED_BYTES_AT : EXTENDED_BYTES_AT + 4] = bytes(4)  # else room is made for it
    # Permissive, since many programs write slightly wrong headers; what matters is checked by who uses it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mrc = MrcInterpreter(io.BytesIO(raw), permissive=True, header_only=True)
        fields = mrc.header.copy()
        spacing = tuple(float(mrc.voxel_size[axis]) for axis in "zyx")
    dtype, shape = data_dtype_from_header(fields), tuple(data_shape_from_header(fields))
    if min(shape) < 0:
        raise ValueError(f"a side of {min(shape)} voxels")
    extended_bytes = int(np.frombuffer(extended, fields.nx.dtype)[0])
    return MrcHeader(fields, shape, dtype, spacing, HEADER_BYTES + extended_bytes)


def read_planes(path: Path, header: MrcHeader, first: int, last: int) -> np.ndarray:
    """Planes ``first`` to below ``last`` (last-first, Y, X) of a compressed file in its own type.

    The file is read to its end, so that its checksum counts. ValueError where it ends before the voxels or far behind
    them, else what the archive raises when it is damaged.
    """
    planes = np.empty((last - first, *header.shape[1:]), header.dtype)
    plane_bytes = header.voxel_bytes // max(1, header.shape[0])
    with open_stream(path) as file:
        _skip(file, header.offset + first * plane_bytes)
        view, done = memoryview(planes.reshape(-1).view(np.uint8)), 0
        while done < planes.nbytes:
            read = file.readinto(view[done : done + READ_BYTES])
            if not read:
                raise ValueError("the file is shorter than its header says")
            done += read
        _skip(file, header.voxel_bytes - last * plane_bytes)
        # The checksum stands behind the last byte: in a damaged archive that may be far behind the voxels.
        for _ in range(MOST_READS_BEHIND):
            if not file.read(READ_BYTES):
                return planes
    raise ValueError("the file is longer than its header says")


def _skip(file: BinaryIO, count: int) -> None:
    while count > 0:
        read = len(file.read(min(count, READ_BYTES)))
        if not read:
            raise ValueError("the file is shorter than its header says")
        count -= read
