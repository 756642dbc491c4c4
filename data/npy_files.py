"""Arrays in .npy files of our own, memory-mapped; damaged ones are told before anything is allocated."""

import warnings
from pathlib import Path

import numpy as np
from numpy.lib import format as npy_format

from data.files import check_regular
from errors import raise_scarcity

READERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}


def open_npy(path: Path) -> np.memmap:
    """A C-ordered array of numbers, private to the process: what is written to it never reaches the file.

    Raises
    ------
    OSError : no such file, or not readable.
    ValueError : an archive (.npz), a damaged header, another order, or more or fewer bytes than the header promises.
    """
    check_regular(path)
    with path.open("rb") as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numpy tries damaged headers as if Python 2 had written them
                shape, is_fortran, dtype = READERS[npy_format.read_magic(file)](file)
        except Exception as error:  # headers are Python literals, which fail in many ways
            raise_scarcity(error)
            raise ValueError(f"its header is damaged: {error}") from error
        offset = file.tell()
    if is_fortran or dtype.hasobject or not all(isinstance(side, int) and side > 0 for side in shape):
        raise ValueError("its header is not that of a C-ordered array of numbers")
    promised = offset + dtype.itemsize * int(np.prod([1, *shape], dtype=object))
    if path.stat().st_size != promised:
        raise ValueError(f"{path.stat().st_size} bytes, its header promises {promised}")
    return np.memmap(path, dtype, "c", offset, shape)
