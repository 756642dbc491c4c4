"""Volumes as files that other programs lay over the tomogram: MRC, and OME-Zarr 0.4 in zarr version 2."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import zarr
from numcodecs import Blosc

from data.zarr_chunks import write_chunks

CHUNK_VOXELS = 128
# Lines of text in the header of an MRC file, of which mrcfile writes one.
MRC_LINES, MRC_LINE_LENGTH = 9, 80


@dataclass(frozen=True)
class VolumeGrid:
    """Where the voxels of a volume lie.

    Attributes
    ----------
    shape_zyx : voxels
    voxel_size_angstrom : of cubes
    origin_zyx_angstrom : the centre of the first voxel, in the coordinates that the tomogram is shown in
    """

    shape_zyx: tuple[int, int, int]
    voxel_size_angstrom: float
    origin_zyx_angstrom: tuple[float, float, float]


def write_mrc(path: Path, volume: np.ndarray, grid: VolumeGrid, *, text: str) -> None:
    """Write a volume as an MRC file (MRC2014) with voxel size and origin.

    Parameters
    ----------
    volume : (Z, Y, X); its type decides the mode: float32 is 2, int8 is 0, int16 is 1
    text : for the header, as much of it as fits
    """
    with mrcfile.new(path) as file:
        file.set_data(volume)
        file.voxel_size = grid.voxel_size_angstrom
        for axis, value in zip("zyx", grid.origin_zyx_angstrom, strict=True):
            file.header.origin[axis] = value
        ascii_text = text.encode("ascii", "replace").decode()
        for line in textwrap.wrap(ascii_text, MRC_LINE_LENGTH)[:MRC_LINES]:
            file.add_label(line)


def write_ome_zarr(
    path: Path,
    volumes: Iterable[np.ndarray],
    grid: VolumeGrid,
    *,
    dtype: str,
    channels: int | None = None,
    attributes: Mapping[str, Any],
) -> None:
    """Write volumes as an OME-Zarr image of one level, with scale and translation in angstrom (NGFF 0.4).

    Parameters
    ----------
    volumes : (Z, Y, X) each, taken one by one
    channels : how many volumes there are, along a channel axis before z, y, x; None: one, without such an axis
    attributes : of the group, besides ``multiscales``
    """
    before = () if channels is None else (channels,)
    group = zarr.create_group(path, zarr_format=2)
    array = group.create_array(
        "0",
        shape=(*before, *grid.shape_zyx),
        chunks=(*(1 for _ in before), *(min(CHUNK_VOXELS, side) for side in grid.shape_zyx)),
        dtype=dtype,
        compressors=Blosc(cname="zstd", clevel=5, shuffle=Blosc.BITSHUFFLE),
        fill_value=0,
        chunk_key_encoding={"name": "v2", "separator": "/"},  # as NGFF asks for
        config={"write_empty_chunks": True},  # a file that is missing can be told from one that holds zeros
    )
    for index, volume in enumerate(volumes):
        write_chunks(array, volume, () if channels is None else (index,))
    axes = [{"name": axis, "type": "space", "unit": "angstrom"} for axis in "zyx"]
    transformations = [
        {"type": "scale", "scale": [1.0 for _ in before] + [grid.voxel_size_angstrom] * 3},
        {"type": "translation", "translation": [0.0 for _ in before] + list(grid.origin_zyx_angstrom)},
    ]
    image = {
        "version": "0.4",
        "name": path.name.removesuffix(".zarr"),
        "axes": [*({"name": "c", "type": "channel"} for _ in before), *axes],
        "datasets": [{"path": "0", "coordinateTransformations": transformations}],
    }
    group.attrs.update({"multiscales": [image], **attributes})


def channel_attributes(names: Sequence[str], colours: Sequence[str], *, depth: int) -> dict[str, Any]:
    """``omero`` of an image whose channels are probabilities: names, colours (``#rrggbb``), shown from 0 to 1."""
    window = {"start": 0.0, "end": 1.0, "min": 0.0, "max": 1.0}
    channels = [
        {"label": name, "color": colour.lstrip("#").upper(), "active": True, "window": window}
        for name, colour in zip(names, colours, strict=True)
    ]
    return {"omero": {"version": "0.4", "channels": channels, "rdefs": {"model": "color", "defaultZ": depth // 2}}}


def label_attributes(labels: Mapping[int, str], colours: Mapping[int, str]) -> dict[str, Any]:
    """``image-label`` of an image of label numbers: the name and the colour (``#rrggbb``) of each; 0 is clear.

    NGFF 0.4 wants a name for each label that has a colour.
    """
    named = {0: "background", **labels}
    rgba = {0: [0, 0, 0, 0]} | {label: [*bytes.fromhex(colour.lstrip("#")), 255] for label, colour in colours.items()}
    return {
        "image-label": {
            "version": "0.4",
            "colors": [{"label-value": label, "rgba": value} for label, value in rgba.items()],
            "properties": [{"label-value": label, "name": name} for label, name in named.items()],
        }
    }
