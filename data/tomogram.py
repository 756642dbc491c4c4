"""One tomogram on disk, zarr or MRC, read lazily: shape and voxel size first, voxels on demand."""

import itertools
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import mrcfile
import numpy as np
import zarr

from errors import InputError

MRC_SUFFIXES = (".mrc", ".rec", ".map", ".st", ".mrc.gz", ".mrc.bz2")
TOMOGRAM_SUFFIXES = (".zarr", *MRC_SUFFIXES)
ANGSTROM_PER_UNIT = {"angstrom": 1.0, "nanometer": 10.0, "micrometer": 1e4}
GIVE_SPACING = "give it with --voxel_spacing (angstrom)"

Region = tuple[slice, slice, slice]


class _Volume(Protocol):
    """Where the voxels come from; ``spacing_zyx`` is in angstrom, None when the file does not know it."""

    shape_zyx: tuple[int, ...]
    spacing_zyx: tuple[float, ...] | None

    def read(self, region: Region) -> np.ndarray: ...


@dataclass(frozen=True)
class Tomogram:
    """A tomogram whose header has been read but not its voxels; small to pickle, safe to read from threads."""

    path: Path
    shape_zyx: tuple[int, int, int]
    voxel_spacing_angstrom: float
    _volume: _Volume

    def read(self, region: Region | None = None) -> np.ndarray:
        """Read the tomogram or a box of it; only the chunks (or pages) that the box touches.

        Parameters
        ----------
        region : three slices z, y, x without step, clipped to the volume; None for all of it.

        Returns
        -------
        np.ndarray : float32, C-contiguous, (Z, Y, X).

        Raises
        ------
        InputError : a corrupt chunk (its file is named), or NaN or inf among the voxels read.
        """
        bounds = [s.indices(n) for s, n in zip(region or (slice(None),) * 3, self.shape_zyx, strict=True)]
        if any(step != 1 for _, _, step in bounds):
            raise ValueError("a region has no steps")
        box = tuple(slice(start, max(start, stop)) for start, stop, _ in bounds)
        with np.errstate(over="ignore"):  # float64 beyond float32 becomes inf, which is reported below
            voxels = np.ascontiguousarray(self._volume.read(box), dtype=np.float32)
        finite = np.isfinite(voxels)
        if not finite.all():
            first = np.argwhere(~finite)[0] + [s.start for s in box]
            raise InputError(
                f"{self.path}: {np.count_nonzero(~finite)} voxels are NaN or infinite, the first at "
                f"z, y, x = {', '.join(map(str, first))}; reconstruct or repair the tomogram"
            )
        return voxels


def open_tomogram(path: str | Path, *, voxel_spacing_angstrom: float | None = None, level: int = 0) -> Tomogram:
    """Open a tomogram without reading its voxels.

    The voxel size comes from, in this order: the argument, the file (NGFF metadata or MRC header, where 0,
    1 and unequal MRC axes mean unknown), the ``VoxelSpacing{s}`` folder the file lies in (level 0 only).

    Parameters
    ----------
    path : a zarr array or multiscale group (v2 or v3), or an MRC file.
    voxel_spacing_angstrom : overrides the file; it is the size of the voxels of the level that is read.
    level : of a multiscale group. Voxel j of a level binned by s lies at (j + 0.5) * s - 0.5 of level 0.

    Raises
    ------
    InputError : nothing there, unreadable, not a 3D volume, axes other than z, y, x, or a voxel size that is
        unknown, not positive, or not the same along the three axes.
    """
    path = Path(path)
    if voxel_spacing_angstrom is not None:
        check_voxel_spacing(voxel_spacing_angstrom)
    if not path.exists():
        raise InputError(f"{path}: no such tomogram; check the path")
    volume = _open_mrc(path, level) if path.name.lower().endswith(MRC_SUFFIXES) else _open_zarr(path, level)
    if len(volume.shape_zyx) != 3 or 0 in volume.shape_zyx:
        shape = " x ".join(map(str, volume.shape_zyx))
        raise InputError(f"{path}: shape {shape} is not that of a 3D volume; give a reconstructed tomogram")
    spacing = voxel_spacing_angstrom or _spacing_from_file(path, volume.spacing_zyx)
    if spacing is None and level == 0:
        spacing = spacing_of_folder(path)
    if spacing is None:
        raise InputError(f"{path}: the voxel size is not in the file; {GIVE_SPACING}")
    return Tomogram(path, tuple(volume.shape_zyx), float(spacing), volume)


# --- Voxel size ---------------------------------------------------------------------------------------
def check_voxel_spacing(voxel_spacing_angstrom: float) -> None:
    """InputError unless it is a finite number above 0."""
    if not (math.isfinite(voxel_spacing_angstrom) and voxel_spacing_angstrom > 0):
        raise InputError(f"voxel spacing {voxel_spacing_angstrom:g} must be above 0; {GIVE_SPACING}")


def spacing_of_folder(path: Path) -> float | None:
    """10.012 for a path that lies in a folder ``VoxelSpacing10.012``; None when there is none."""
    for folder in Path(path).absolute().parents:
        match = re.fullmatch(r"VoxelSpacing(\d+(?:\.\d+)?)", folder.name)
        if match and float(match[1]) > 0:
            return float(match[1])
    return None


def _spacing_from_file(path: Path, spacing_zyx: Sequence[float] | None) -> float | None:
    # 1.0 is what software writes that does not know: no tomogram has voxels of one angstrom.
    if spacing_zyx is None or not all(math.isfinite(s) and s > 0 for s in spacing_zyx):
        return None
    if np.allclose(spacing_zyx, 1.0, rtol=0, atol=1e-5):
        return None
    if not _equal(spacing_zyx):
        sizes = " x ".join(f"{s:g}" for s in spacing_zyx)
        raise InputError(
            f"{path}: voxels of {sizes} angstrom (z, y, x) are not cubes; resample the tomogram, "
            "or, when the metadata is wrong, give the size with --voxel_spacing (angstrom)"
        )
    return float(spacing_zyx[0])


def _equal(spacing_zyx: Sequence[float]) -> bool:
    # One in a thousand is header rounding: half a voxel over the longest axis.
    return max(spacing_zyx) <= min(spacing_zyx) * 1.001


# --- MRC ----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _MrcVolume:
    path: Path
    shape_zyx: tuple[int, ...]
    spacing_zyx: tuple[float, ...] | None
    dtype: np.dtype
    offset: int | None  # of the voxels in the file; None for a compressed file

    def read(self, region: Region) -> np.ndarray:
        if self.offset is not None:
            return np.memmap(self.path, self.dtype, "r", self.offset, self.shape_zyx)[region]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with mrcfile.open(self.path, permissive=True) as mrc:
                return mrc.data[region]


def _open_mrc(path: Path, level: int) -> _MrcVolume:
    if level != 0:
        raise InputError(f"{path}: an MRC file has no level {level}; use level 0")
    is_compressed = path.suffix.lower() in (".gz", ".bz2")
    try:
        # Permissive, since many programs write slightly wrong headers; what matters is checked here.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with (mrcfile.open if is_compressed else mrcfile.mmap)(path, permissive=True) as mrc:
                header, data = mrc.header.copy(), mrc.data
                if data is None:
                    raise ValueError("the file is shorter than its header says")
                spacing = tuple(float(mrc.voxel_size[axis]) for axis in "zyx")
                volume = _MrcVolume(path, data.shape, spacing, data.dtype, None if is_compressed else data.offset)
                del data
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: not a readable MRC file ({error}); copy or export it again") from error
    order = tuple(int(header[axis]) for axis in ("mapc", "mapr", "maps"))
    if order not in ((1, 2, 3), (0, 0, 0)):
        raise InputError(f"{path}: axis order {order} in the header; rewrite the file in the order x, y, z")
    _check_dtype(path, volume.dtype)
    known = spacing if _equal(spacing) else None
    return _MrcVolume(path, volume.shape_zyx, known, volume.dtype, volume.offset)


def _check_dtype(path: Path, dtype: np.dtype) -> None:
    if dtype.kind not in "fiu":
        raise InputError(f"{path}: voxels of type {dtype} are not grey values; give a reconstructed tomogram")


# --- zarr ---------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _ZarrVolume:
    array: zarr.Array
    folder: Path
    spacing_zyx: tuple[float, ...] | None

    @property
    def shape_zyx(self) -> tuple[int, ...]:
        """Without the leading channel and time axes of length 1."""
        return self.array.shape[-3:]

    def read(self, region: Region) -> np.ndarray:
        region = (*(0 for _ in self.array.shape[:-3]), *region)
        try:
            return np.asarray(self.array[region])
        except MemoryError:
            raise
        except Exception as error:  # every codec has its own exceptions
            file, reason = self._first_corrupt_chunk(region) or (self.folder, error)
            raise InputError(f"{file}: corrupt chunk ({reason}); copy the tomogram again") from error

    def _first_corrupt_chunk(self, region: tuple) -> tuple[Path, Exception] | None:
        chunk_shape = self.array.shards or self.array.chunks
        spans = [
            range(s.start // c, -(-s.stop // c)) if isinstance(s, slice) else range(s // c, s // c + 1)
            for s, c in zip(region, chunk_shape, strict=True)
        ]
        for index in itertools.product(*spans):
            try:
                self.array[tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunk_shape, strict=True))]
            except Exception as error:
                return self.folder / self.array.metadata.encode_chunk_key(index), error
        return None


def _open_zarr(path: Path, level: int) -> _ZarrVolume:
    try:
        node = zarr.open(path, mode="r")
        multiscale = _multiscale(dict(node.attrs))
        array, key = _array_of_level(node, multiscale, level)
        chunks_there, chunks_wanted = (array.nchunks_initialized, array.nchunks) if array is not None else (0, 0)
    except Exception as error:  # broken metadata fails in as many ways as there are keys
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: the zarr metadata is unreadable ({reason}); copy it again") from error
    if array is None:
        raise InputError(f"{path}: no array of level {level} ({key!r}) inside; copy the tomogram again")
    folder = path / key
    _check_dtype(path, array.dtype)
    _check_axes(path, array, multiscale)
    if chunks_there == 0 and 0 not in array.shape:
        raise InputError(f"{folder}: all of its {chunks_wanted} chunk files are missing; copy it again")
    if chunks_there < chunks_wanted:
        missing = chunks_wanted - chunks_there
        text = f"{folder}: {missing} of {chunks_wanted} chunk files are missing and read as {array.fill_value}"
        warnings.warn(text, stacklevel=3)
    return _ZarrVolume(array, folder, _ngff_spacing(path, multiscale, level))


def _array_of_level(node: zarr.Array | zarr.Group, multiscale: dict, level: int) -> tuple[zarr.Array | None, str]:
    if isinstance(node, zarr.Array):
        return (node, "") if level == 0 else (None, str(level))
    datasets = multiscale.get("datasets", [])
    key = datasets[level]["path"] if level < len(datasets) else str(level)
    found = node.get(key)
    return (found if isinstance(found, zarr.Array) else None), key


def _multiscale(attributes: dict) -> dict:
    """The first multiscales entry of NGFF 0.4 or 0.5 attributes; empty when there is none."""
    entries = attributes.get("ome", attributes).get("multiscales", [])
    return entries[0] if entries else {}


def _check_axes(path: Path, array: zarr.Array, multiscale: dict) -> None:
    """Axes, where named, must be z, y, x behind channel or time axes; those must have length 1."""
    axes = multiscale.get("axes") or getattr(array.metadata, "dimension_names", None) or ()
    names = [str(axis["name"] if isinstance(axis, dict) else axis).lower() for axis in axes if axis]
    if names and (names[-3:] != ["z", "y", "x"] or len(names) != array.ndim):
        raise InputError(f"{path}: the axes are {', '.join(names)}; rewrite the tomogram as z, y, x")
    if array.ndim < 3 or any(n != 1 for n in array.shape[:-3]):
        shape = " x ".join(map(str, array.shape))
        raise InputError(f"{path}: shape {shape} is not that of a 3D volume; give a reconstructed tomogram")


def _ngff_spacing(path: Path, multiscale: dict, level: int) -> tuple[float, ...] | None:
    """Angstrom along z, y, x; None when there is no scale or its unit is not a length."""
    try:
        datasets = multiscale.get("datasets", [])
        transforms = [datasets[level].get("coordinateTransformations", [])] if level < len(datasets) else []
        transforms.append(multiscale.get("coordinateTransformations", []))
        scales = [t["scale"][-3:] for group in transforms for t in group if t["type"] == "scale"]
        axes = multiscale.get("axes", [])[-3:] or ["z", "y", "x"]
        units = [(axis.get("unit") if isinstance(axis, dict) else None) or "angstrom" for axis in axes]
        if not scales or not set(units) <= set(ANGSTROM_PER_UNIT):
            return None
        product = np.prod(np.asarray(scales, dtype=np.float64), axis=0)
        return tuple(product * [ANGSTROM_PER_UNIT[unit] for unit in units])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: the NGFF scale is unreadable ({error}); copy it again") from error
