"""One probability map in one file: a zarr group in a zip archive, which any zarr reader opens.

``probability`` holds the maps of the particles as int16 steps of 1 / 4095; ``deviation``, where there is a variance,
its square root in the same steps, background first. The archive's checksums tell a damaged file.
"""

import itertools
import math
import zipfile
from collections.abc import Sequence, Set
from pathlib import Path

import torch
import zarr
from torch import Tensor
from zarr.codecs import BloscCodec

from inference.predictor import Prediction

# Steps of a probability, twelve bits: wrong by at most 0.00012, and half the bytes of a half-precision float.
LEVELS = 4095
# Particles, and Z, Y, X of the tomogram.
Shape = tuple[int, int, int, int]
# Compressed at a time; a codec takes 2 GB at most.
CHUNK_DEPTH = 32


@torch.inference_mode()
def write_map(path: Path, prediction: Prediction) -> None:
    """Write a map, and round its tensors in place to what :func:`read_map` will give.

    The background is not written: it is what the rounded particles leave to 1, and 0 where they exceed it.

    Raises
    ------
    ValueError : a probability that is not a number
    """
    attributes = {"levels": LEVELS, "stride": prediction.stride, "deviation": prediction.variance is not None}
    with zarr.storage.ZipStore(path, mode="w") as store:
        group = zarr.create_group(store, attributes=attributes)
        _write_maps(group, "probability", prediction.probability[1:])
        _fill_background(prediction.probability)
        if prediction.variance is not None:
            _write_maps(group, "deviation", prediction.variance.sqrt_())
            prediction.variance.square_()


def _write_maps(group: zarr.Group, name: str, maps: Tensor) -> None:
    """Store (C, Z, Y, X) values from 0 to 1, and round them in place."""
    chunks = _chunks(maps.shape)
    codec = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")
    # Empty chunks too, so that none can be missing without a word.
    storage = {"compressors": codec, "config": {"write_empty_chunks": True}}
    array = group.create_array(name, shape=tuple(maps.shape), chunks=chunks, dtype="int16", **storage)
    for index, one in enumerate(maps):
        if one.isnan().any():
            raise ValueError(f"{name}: not a number; a map like that cannot be stored")
        levels = (one * LEVELS).round_().clamp_(0, LEVELS).to(torch.int16)
        array[index] = levels.cpu().numpy()
        one.copy_(levels).div_(LEVELS)


def _chunks(shape: Sequence[int]) -> tuple[int, ...]:
    return (1, min(CHUNK_DEPTH, shape[1]), *shape[2:])


def read_map(path: Path, device: torch.device, shape: Shape | None = None) -> Prediction:
    """The map of a file, on that device.

    Parameters
    ----------
    shape : particles and Z, Y, X of the tomogram; None: not known

    Raises
    ------
    ValueError : chunks are missing, or it is the map of another tomogram or other particles; before it is read
    Exception : whatever zarr or the archive raises when it is damaged
    """
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    store = zarr.storage.ZipStore(path, mode="r")
    group = zarr.open_group(store, mode="r")  # opens the archive; a store that is not open cannot be closed
    with store:
        stride, has_deviation = int(group.attrs["stride"]), "deviation" in group
        # Files of earlier versions do not say whether they have it, and leave out chunks that are empty.
        said = group.attrs.get("deviation")
        if stride < 1 or group.attrs["levels"] != LEVELS or said not in (None, has_deviation):
            raise ValueError("other attributes")
        expected = None if shape is None else (shape[0], *(-(-side // stride) for side in shape[1:]))
        names = None if said is None else names
        _check(group["probability"], names, expected)
        if has_deviation:
            particles, *sides = group["probability"].shape
            _check(group["deviation"], names, (particles + 1, *sides))
        probability = _read_maps(group["probability"], device, background=1)
        _fill_background(probability)
        variance = _read_maps(group["deviation"], device).square_() if has_deviation else None
        return Prediction(probability, variance, stride)


def _check(array: zarr.Array, names: Set[str] | None, shape: Sequence[int] | None) -> None:
    """ValueError unless an array is as :func:`_write_maps` writes one, with all its chunks in the archive."""
    if array.ndim != 4 or array.dtype != "int16" or array.chunks != _chunks(array.shape):
        raise ValueError(f"{array.name}: not an array of maps")
    if shape is not None and array.shape != tuple(shape):
        raise ValueError(f"{array.name}: shape {array.shape}, not {tuple(shape)}")
    if names is None:
        return
    counts = [-(-side // chunk) for side, chunk in zip(array.shape, array.chunks, strict=True)]
    if math.prod(counts) > len(names):
        raise ValueError(f"{array.name}: chunks are missing")
    for index in itertools.product(*map(range, counts)):
        if f"{array.path}/{array.metadata.encode_chunk_key(index)}" not in names:
            raise ValueError(f"{array.name}: chunk {index} is missing")


def _read_maps(array: zarr.Array, device: torch.device, background: int = 0) -> Tensor:
    """(background + C, Z, Y, X), the first ``background`` maps empty."""
    maps = torch.empty((background + array.shape[0], *array.shape[1:]), device=device)
    for index in range(array.shape[0]):
        maps[background + index].copy_(torch.from_numpy(array[index])).div_(LEVELS)
    return maps


def _fill_background(probability: Tensor) -> None:
    torch.sum(probability[1:], dim=0, out=probability[0])
    probability[0].neg_().add_(1).clamp_(min=0)
