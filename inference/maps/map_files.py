"""One probability map in one file: a zarr group in a zip archive, which any zarr reader opens.

``probability`` holds the maps of the particles as int16 steps of 1 / 4095; ``deviation``, where there is a variance,
its square root in the same steps, background first. The archive's checksums tell a damaged file.
"""

from pathlib import Path

import torch
import zarr
from torch import Tensor
from zarr.codecs import BloscCodec

from inference.predictor import Prediction

# Steps of a probability, twelve bits: wrong by at most 0.00012, and half the bytes of a half-precision float.
LEVELS = 4095
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
    with zarr.storage.ZipStore(path, mode="w") as store:
        group = zarr.create_group(store, attributes={"levels": LEVELS, "stride": prediction.stride})
        _write_maps(group, "probability", prediction.probability[1:])
        _fill_background(prediction.probability)
        if prediction.variance is not None:
            _write_maps(group, "deviation", prediction.variance.sqrt_())
            prediction.variance.square_()


def _write_maps(group: zarr.Group, name: str, maps: Tensor) -> None:
    """Store (C, Z, Y, X) values from 0 to 1, and round them in place."""
    chunks = (1, min(CHUNK_DEPTH, maps.shape[1]), *maps.shape[2:])
    codec = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")
    array = group.create_array(name, shape=tuple(maps.shape), chunks=chunks, dtype="int16", compressors=codec)
    for index, one in enumerate(maps):
        if one.isnan().any():
            raise ValueError(f"{name}: not a number; a map like that cannot be stored")
        levels = (one * LEVELS).round_().clamp_(0, LEVELS).to(torch.int16)
        array[index] = levels.cpu().numpy()
        one.copy_(levels).div_(LEVELS)


def read_map(path: Path, device: torch.device) -> Prediction:
    """The map of a file, on that device; whatever zarr or the archive raises when it is damaged."""
    store = zarr.storage.ZipStore(path, mode="r")
    group = zarr.open_group(store, mode="r")  # opens the archive; a store that is not open cannot be closed
    with store:
        probability = _read_maps(group["probability"], device, background=1)
        _fill_background(probability)
        variance = _read_maps(group["deviation"], device).square_() if "deviation" in group else None
        return Prediction(probability, variance, int(group.attrs["stride"]))


def _read_maps(array: zarr.Array, device: torch.device, background: int = 0) -> Tensor:
    """(background + C, Z, Y, X), the first ``background`` maps empty."""
    maps = torch.empty((background + array.shape[0], *array.shape[1:]), device=device)
    for index in range(array.shape[0]):
        maps[background + index].copy_(torch.from_numpy(array[index])).div_(LEVELS)
    return maps


def _fill_background(probability: Tensor) -> None:
    torch.sum(probability[1:], dim=0, out=probability[0])
    probability[0].neg_().add_(1).clamp_(min=0)
