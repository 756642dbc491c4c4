"""One tomogram on disk, zarr or MRC, read lazily: shape and voxel size first, voxels on demand."""

import itertools
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import zarr

from data.lazy_array import Region
from data.mrc_header import MrcHeader, is_compressed, read_header, read_planes
from data.ngff import ANGSTROM_PER_UNIT, image_of, multiscale_of
from data.other_tomograms import how_to_convert
from data.portal_metadata import spacing_of_metadata
from data.resampling import ResampledVolume, must_resample
from data.voxel_spacing import CONTRADICTION, ROUNDING, Spacing, check_voxel_spacing, decide_spacing, spacing_of_folder
from data.zarr_chunks import LEAST_CHUNKS_SHARE, check_size, check_whole, count_chunk_files
from errors import InputError, raise_scarcity

MRC_SUFFIXES = tuple(
    name + packed
    for name in (".mrc", ".rec", ".map", ".st", ".ali", ".ccp4", ".mrcs")
    for packed in ("", ".gz", ".bz2")
)
TOMOGRAM_SUFFIXES = (".zarr", *MRC_SUFFIXES)
# A smaller scale without unit is rather in nanometres or in voxels of another level: nobody knows.
LEAST_WITHOUT_UNIT = 2.0
# IMOD stores bytes unsigned unless it says otherwise (bio3d.colorado.edu/imod/doc/mrc_format.txt).
IMOD_STAMP, IMOD_STAMP_AT, IMOD_FLAGS_AT, SIGNED_BYTES = 1146047817, 152, 156, 1


class _Volume(Protocol):
    """Where the voxels come from; ``spacing_zyx`` is in angstrom, None when the file does not know it."""

    shape_zyx: tuple[int, ...]
    spacing_zyx: tuple[float, ...] | None

    def read(self, region: Region) -> np.ndarray: ...


@dataclass(frozen=True)
class Tomogram:
    """A tomogram whose header has been read but not its voxels; small to pickle, safe to read from threads.

    ``rescaled_from_zyx_angstrom`` is the voxel size in the file where it is resampled in reading, else None.
    """

    path: Path
    shape_zyx: tuple[int, int, int]
    voxel_spacing_angstrom: float
    _volume: _Volume
    rescaled_from_zyx_angstrom: tuple[float, float, float] | None = None

    @property
    def file_grid(self) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
        """Shape (Z, Y, X) and voxel size z, y, x in angstrom as they are in the file, before any resampling."""
        if isinstance(self._volume, ResampledVolume):
            return self._volume.source.shape_zyx, self._volume.source_spacing_zyx
        return self.shape_zyx, (self.voxel_spacing_angstrom,) * 3

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


def open_tomogram(
    path: str | Path,
    *,
    voxel_spacing_angstrom: float | None = None,
    level: int = 0,
    rescale_to_angstrom: float | None = None,
) -> Tomogram:
    """Open a tomogram without reading its voxels.

    The voxel size comes from, in this order: the argument, the file (NGFF metadata or MRC header), and, for level 0,
    the portal's metadata beside it and the ``VoxelSpacing{s}`` folder that it lies in; see data.voxel_spacing.

    Parameters
    ----------
    path : a zarr array or multiscale group (v2 or v3), or an MRC file.
    voxel_spacing_angstrom : overrides the file; it is the size of the voxels of the level that is read.
    level : of a multiscale group. Voxel j of a level binned by s lies at (j + 0.5) * s - 0.5 of level 0.
    rescale_to_angstrom : resample to cubes of this size in reading, where the voxels have another size or are no cubes;
        see data.resampling. Shape and voxel size are those of the new grid.

    Raises
    ------
    InputError : nothing there, unreadable, not a 3D volume, axes other than z, y, x, or a voxel size that is
        unknown, said differently by two of its sources, not positive, or, where it is not resampled, not the same
        along the axes.
    """
    path = Path(path)
    if rescale_to_angstrom is not None:
        check_voxel_spacing(rescale_to_angstrom, "--rescale")
    volume, spacing_zyx = _open(
        path,
        voxel_spacing_angstrom=voxel_spacing_angstrom,
        level=level,
        may_be_anisotropic=rescale_to_angstrom is not None,
    )
    native = Tomogram(path, tuple(volume.shape_zyx), spacing_zyx[0], volume)
    if rescale_to_angstrom is None or not must_resample(spacing_zyx, rescale_to_angstrom):
        return native
    resampled = ResampledVolume(native, spacing_zyx, float(rescale_to_angstrom))
    return Tomogram(path, resampled.shape_zyx, resampled.spacing_angstrom, resampled, spacing_zyx)


def in_plane_spacing(path: str | Path, *, voxel_spacing_angstrom: float | None = None) -> float:
    """The voxel size along y and x, angstrom; that along z may be another.

    InputError as :func:`open_tomogram`, and where y and x differ.
    """
    path = Path(path)
    options = {"voxel_spacing_angstrom": voxel_spacing_angstrom, "level": 0, "may_be_anisotropic": True}
    _, (z, y, x) = _open(path, **options)
    if max(y, x) > min(y, x) * (1 + ROUNDING):
        raise InputError(
            f"{path}: voxels of {z:g} x {y:g} x {x:g} angstrom (z, y, x) differ along y and x; "
            "give the size to resample to with --rescale (angstrom)"
        )
    return x


def _open(
    path: Path, *, voxel_spacing_angstrom: float | None, level: int, may_be_anisotropic: bool
) -> tuple[_Volume, Spacing]:
    """The volume as it is in the file, and its voxel size."""
    if voxel_spacing_angstrom is not None:
        check_voxel_spacing(voxel_spacing_angstrom)
    if path.is_symlink() and not path.exists():
        raise InputError(
            f"{path} is a link to {path.readlink()}, which is not there; move the tomogram back, or give "
            "import_dataset.py where it is now"
        )
    if not path.exists():
        raise InputError(f"{path}: no such tomogram; check the path")
    if path.is_file() and not path.name.lower().endswith(TOMOGRAM_SUFFIXES):
        raise InputError(f"{path}: {how_to_convert(path)}")
    volume = _open_mrc(path, level) if path.name.lower().endswith(MRC_SUFFIXES) else _open_zarr(path, level)
    if len(volume.shape_zyx) != 3 or 0 in volume.shape_zyx:
        shape = " x ".join(map(str, volume.shape_zyx))
        raise InputError(f"{path}: shape {shape} is not that of a 3D volume; give a reconstructed tomogram")
    spacing_zyx = decide_spacing(
        path,
        given_angstrom=voxel_spacing_angstrom,
        file_zyx_angstrom=volume.spacing_zyx,
        metadata_angstrom=spacing_of_metadata(path) if level == 0 else None,
        folder_angstrom=spacing_of_folder(path) if level == 0 else None,
        may_be_anisotropic=may_be_anisotropic,
    )
    return volume, spacing_zyx


# --- MRC ----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _MrcVolume:
    path: Path
    header: MrcHeader
    spacing_zyx: tuple[float, ...] | None
    dtype: np.dtype

    @property
    def shape_zyx(self) -> tuple[int, ...]:
        return self.header.shape

    def read(self, region: Region) -> np.ndarray:
        try:
            if not is_compressed(self.path):
                return np.memmap(self.path, self.dtype, "r", self.header.offset, self.header.shape)[region]
            planes = read_planes(self.path, self.header, region[0].start, region[0].stop)
            return planes.view(self.dtype)[(slice(None), *region[1:])]
        except (ValueError, OSError, EOFError, zlib.error) as error:
            raise_scarcity(error)
            raise InputError(f"{self.path}: not a readable MRC file ({error}); copy or export it again") from error


def _open_mrc(path: Path, level: int) -> _MrcVolume:
    if level != 0:
        raise InputError(f"{path}: an MRC file has no level {level}; use level 0")
    header = read_header(path)
    unsigned = header.dtype == np.int8 and _bytes_are_unsigned(path, header.fields)
    dtype, spacing = np.dtype(np.uint8) if unsigned else header.dtype, header.spacing_zyx
    order = tuple(int(header.fields[axis]) for axis in ("mapc", "mapr", "maps"))
    if order not in ((1, 2, 3), (0, 0, 0)):
        raise InputError(f"{path}: axis order {order} in the header; rewrite the file in the order x, y, z")
    _check_dtype(path, dtype)
    # A volume written as a stack of one section each does not know its size along z; nor is what differs by a little.
    unequal = max(spacing) > min(spacing) * (1 + ROUNDING)
    is_stack = int(header.fields.mz) == 1 and header.shape[0] > 1
    known = None if is_stack or (unequal and max(spacing) <= min(spacing) * (1 + CONTRADICTION)) else spacing
    volume = _MrcVolume(path, header, known, dtype)
    if is_compressed(path) and len(header.shape) == 3:
        volume.read((slice(0, 0),) * 3)  # a damaged archive is told now
    return volume


def _bytes_are_unsigned(path: Path, header: np.recarray) -> bool:
    """Whether mode 0 means 0 to 255: IMOD's stamp without its flag, or a maximum that signed bytes cannot have."""
    raw = header.tobytes()
    stamp, flags = (int(np.frombuffer(raw, header.nx.dtype, 1, at)[0]) for at in (IMOD_STAMP_AT, IMOD_FLAGS_AT))
    low, high = float(header.dmin), float(header.dmax)
    range_is_known = low < high
    if stamp != IMOD_STAMP:
        return range_is_known and high > 127
    unsigned = not flags & SIGNED_BYTES
    if range_is_known and (low < 0 if unsigned else high > 127):
        raise InputError(
            f"{path}: IMOD's stamp says {'unsigned' if unsigned else 'signed'} bytes, the range in the header is "
            f"{low:g} to {high:g}; convert the tomogram to floating point (mode 2) from its source"
        )
    return unsigned


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
            for index in self._chunks_of(region):
                check_whole(self.array, self._file_of(index))
            return np.asarray(self.array[region])
        except Exception as error:  # every codec has its own exceptions
            raise_scarcity(error)
            file, reason = self._first_corrupt_chunk(region) or (self.folder, error)
            raise InputError(f"{file}: corrupt chunk ({reason}); copy the tomogram again") from error

    def _chunks_of(self, region: tuple) -> Iterator[tuple[int, ...]]:
        """Indices of the chunks, or shards, that a region touches."""
        spans = [
            range(s.start // c, -(-s.stop // c)) if isinstance(s, slice) else range(s // c, s // c + 1)
            for s, c in zip(region, self.array.shards or self.array.chunks, strict=True)
        ]
        return itertools.product(*spans)

    def _file_of(self, index: tuple[int, ...]) -> Path:
        return self.folder / self.array.metadata.encode_chunk_key(index)

    def _first_corrupt_chunk(self, region: tuple) -> tuple[Path, Exception] | None:
        sides = self.array.shards or self.array.chunks
        for index in self._chunks_of(region):
            try:
                check_whole(self.array, self._file_of(index))
                self.array[tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, sides, strict=True))]
            except Exception as error:
                raise_scarcity(error)
                return self._file_of(index), error
        return None


def _open_zarr(path: Path, level: int) -> _ZarrVolume:
    try:
        node, series = image_of(zarr.open(path, mode="r"))
        multiscale = multiscale_of(dict(node.attrs))
        array, key = _array_of_level(node, multiscale, level)
    except Exception as error:  # broken metadata fails in as many ways as there are keys
        raise_scarcity(error)
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: the zarr metadata is unreadable ({reason}); copy it again") from error
    if array is None:
        raise InputError(f"{path}: no array of level {level} ({key!r}) inside; copy the tomogram again")
    folder = path / series / key
    _check_dtype(path, array.dtype)
    _check_axes(path, array, multiscale)
    check_size(path, array)
    chunks_there, chunks_wanted, strays = count_chunk_files(array, folder)
    if strays:
        raise InputError(f"{folder}: has {strays} chunk files outside of the shape in its metadata; copy it again")
    if chunks_there == 0 and 0 not in array.shape:
        raise InputError(f"{folder}: all of its {chunks_wanted} chunk files are missing; copy it again")
    if chunks_there < LEAST_CHUNKS_SHARE * chunks_wanted:
        raise InputError(f"{folder}: only {chunks_there} of {chunks_wanted} chunk files are there; copy it again")
    if chunks_there < chunks_wanted:
        missing = chunks_wanted - chunks_there
        text = f"{folder}: {missing} of {chunks_wanted} chunk files are missing and read as {array.fill_value}"
        warnings.warn(text, stacklevel=4)
    return _ZarrVolume(array, folder, _ngff_spacing(path, multiscale, level))


def _array_of_level(node: zarr.Array | zarr.Group, multiscale: dict, level: int) -> tuple[zarr.Array | None, str]:
    if isinstance(node, zarr.Array):
        return (node, "") if level == 0 else (None, str(level))
    datasets = multiscale.get("datasets", [])
    key = datasets[level]["path"] if level < len(datasets) else str(level)
    found = node.get(key)
    return (found if isinstance(found, zarr.Array) else None), key


def _check_axes(path: Path, array: zarr.Array, multiscale: dict) -> None:
    """Axes, where named, must be z, y, x behind channel or time axes; those must have length 1."""
    axes = multiscale.get("axes") or getattr(array.metadata, "dimension_names", None) or ()
    try:
        names = [str(axis["name"] if isinstance(axis, dict) else axis).lower() for axis in axes if axis]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: the names of its axes are unreadable ({error!r}); copy it again") from error
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
        written = [axis.get("unit") if isinstance(axis, dict) else None for axis in axes]
        units = [(unit or "angstrom").lower() for unit in written]
        product = np.prod(np.asarray(scales, dtype=np.float64), axis=0)
        nothing_says_it = not all(written) and spacing_of_folder(path) is None
        if not scales or (nothing_says_it and max(product) < LEAST_WITHOUT_UNIT):
            return None
        if nothing_says_it:
            # Without the path, so that it is said once for all tomograms of a data set.
            text = "the scale of a zarr tomogram has no unit: it is angstrom, unless --voxel_spacing says otherwise"
            warnings.warn(text, stacklevel=5)
        if unknown := [unit for unit in units if unit not in ANGSTROM_PER_UNIT]:
            warnings.warn(f"{path}: the unit {unknown[0]!r} of its scale is no known length", stacklevel=5)
            return None
        return tuple(product * [ANGSTROM_PER_UNIT[unit] for unit in units])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: the NGFF scale is unreadable ({error}); copy it again") from error
