"""Points as a file of another program holds them, and how they become angstrom of a tomogram."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.number_ranges import COORDINATE, VOXEL_SIZE
from errors import InputError

# The units a reader may name; see PointGroup.
ANGSTROM, CENTRED_ANGSTROM, MAP_ANGSTROM = "angstrom", "centred angstrom", "angstrom of the map"
PIXELS, UNBINNED_PIXELS, CENTRED_PIXELS = "pixels", "unbinned pixels", "centred pixels"
UNSAID = "a unit that the file does not say"
IN_PIXELS = (PIXELS, UNBINNED_PIXELS, UNSAID)
# How far the volume that was picked may differ from the tomogram, as a fraction.
PICKED_ON_TOLERANCE = 0.02
# The same for the volume that centred coordinates refer to, whose sides are often rounded when it is binned.
VOLUME_TOLERANCE = 0.05


@dataclass(frozen=True)
class PointGroup:
    """The points of one tomogram and one particle in one file.

    Attributes
    ----------
    path : the file.
    coordinates_xyz : (N, 3) in ``unit``; pixel 0 is the first voxel, pixel i lies at i times the pixel size.
    unit : ``angstrom`` from the centre of the first voxel; ``centred angstrom`` from the middle n / 2 of the volume;
        ``angstrom of the map``, which counts the origin in the MRC header; ``pixels`` of ``pixel_size_angstrom``, else
        of the tomogram; ``unbinned pixels``, the same but never of the tomogram; ``centred pixels`` from voxel n // 2.
    tomogram_name, particle_name : as written, None where the file has none.
    scores : (N,), or None.
    pixel_size_angstrom : of the pixels, where the file knows it.
    shifts_xyz_angstrom : (N, 3) to be added once the coordinates are angstrom, or None.
    volume_size_xyz_angstrom : of the volume that the centred coordinates refer to; None: the tomogram.
    picked_shape_xyz, picked_spacing_angstrom : voxels, and their size, of the volume on which the points were set,
        where the file knows them: pixels are of the tomogram only if it is as large.
    tomogram_spacing_angstrom : of the tomogram's voxels, where the file or one beside it says so.
    sizes_path : the file that says the sizes of the volume and of the tomogram's voxels.
    """

    path: Path
    coordinates_xyz: np.ndarray
    unit: str
    tomogram_name: str | None = None
    particle_name: str | None = None
    scores: np.ndarray | None = None
    pixel_size_angstrom: float | None = None
    shifts_xyz_angstrom: np.ndarray | None = None
    volume_size_xyz_angstrom: tuple[float, float, float] | None = None
    picked_shape_xyz: tuple[int, int, int] | None = None
    picked_spacing_angstrom: float | None = None
    tomogram_spacing_angstrom: float | None = None
    sizes_path: Path | None = None

    def __post_init__(self) -> None:
        """InputError for numbers that no tomogram has, of whatever format."""
        for points in (self.coordinates_xyz, self.shifts_xyz_angstrom):
            if points is not None:
                self._check_points(np.asarray(points, dtype=np.float64).reshape(-1, 3))
        for size in (self.pixel_size_angstrom, self.picked_spacing_angstrom, self.tomogram_spacing_angstrom):
            if size is not None and size not in VOXEL_SIZE:
                raise InputError(f"{self.path}: a pixel of {size:g} angstrom; it must be {VOXEL_SIZE}; mend the file")

    def _check_points(self, points: np.ndarray) -> None:
        wrong = ~((points >= COORDINATE.low) & (points <= COORDINATE.high)).all(axis=1)
        if wrong.any():
            raise InputError(
                f"{self.path}: point {int(np.flatnonzero(wrong)[0]) + 1} has a coordinate that is not {COORDINATE}; "
                "mend or remove it"
            )


def coordinates_zyx_angstrom(
    group: PointGroup,
    *,
    shape_zyx: tuple[int, int, int],
    voxel_spacing_angstrom: float,
    pixel_size_angstrom: float | None = None,
    map_origin_xyz_angstrom: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> np.ndarray:
    """(N, 3) zyx in angstrom; voxel i of the tomogram lies at i * voxel_spacing_angstrom.

    Parameters
    ----------
    pixel_size_angstrom : of the coordinates' pixels; overrides what the file says.
    map_origin_xyz_angstrom : origin in the tomogram's MRC header, for ``angstrom of the map``.

    Raises
    ------
    InputError : the coordinates are in pixels of a size that nobody knows, or from the middle of a volume of another
        size than the tomogram.
    """
    points = np.asarray(group.coordinates_xyz, dtype=np.float64).reshape(-1, 3)
    size_xyz = np.array(shape_zyx[::-1], dtype=np.float64)
    pixel = pixel_size_angstrom or group.pixel_size_angstrom
    if group.unit == CENTRED_ANGSTROM:
        whole = group.volume_size_xyz_angstrom
        if whole is not None:
            _check_volume(group, size_xyz * voxel_spacing_angstrom)
        points = points + (size_xyz * voxel_spacing_angstrom if whole is None else np.asarray(whole)) / 2
    elif group.unit == MAP_ANGSTROM:
        points = points - np.asarray(map_origin_xyz_angstrom)
    elif group.unit == CENTRED_PIXELS:
        points = points * (pixel or voxel_spacing_angstrom) + size_xyz // 2 * voxel_spacing_angstrom
    elif group.unit in IN_PIXELS:
        if pixel is None and group.unit != PIXELS:
            raise InputError(
                f"{group.path}: coordinates in {group.unit}; give the size of their pixels with --coords_angpix "
                "(1 where they are angstrom), or with --binning how much the tomogram is binned against them"
            )
        if pixel is None:
            _check_picked_on(group, shape_zyx[::-1], voxel_spacing_angstrom)
        points = points * (pixel or voxel_spacing_angstrom)
    if group.shifts_xyz_angstrom is not None:
        points = points + group.shifts_xyz_angstrom
    return points[:, ::-1].copy()


def check_spacing(group: PointGroup, tomogram: Path, spacing_angstrom: float) -> None:
    """InputError where the tomogram's voxels are of another size than the picks' files say."""
    said = group.tomogram_spacing_angstrom
    if said is not None and abs(said / spacing_angstrom - 1) > PICKED_ON_TOLERANCE:
        raise InputError(
            f"{group.sizes_path} says {said:g} angstrom per voxel, {tomogram} {spacing_angstrom:g}; "
            "say which is right with --voxel_spacing (angstrom), which decides"
        )


def _check_volume(group: PointGroup, size_xyz_angstrom: np.ndarray) -> None:
    """InputError where centred coordinates are from the middle of a volume that is no such tomogram."""
    whole = np.asarray(group.volume_size_xyz_angstrom)
    if (np.abs(whole / size_xyz_angstrom - 1) > VOLUME_TOLERANCE).any():
        there, here = (" x ".join(f"{side:.0f}" for side in sides) for sides in (whole, size_xyz_angstrom))
        raise InputError(
            f"{group.sizes_path}: the volume of {group.tomogram_name} is {there} angstrom (x, y, z), its tomogram "
            f"{here}; if the voxel size is wrong, give --voxel_spacing; if the picks count from the middle of this "
            "tomogram, --tomograms_star none"
        )


def _check_picked_on(group: PointGroup, shape_xyz: tuple[int, ...], spacing: float) -> None:
    """InputError where the points were set on a volume of other voxels, such as a binned one."""
    if group.picked_shape_xyz is not None:
        shapes = group.picked_shape_xyz, shape_xyz
        # A voxel more or less is rounding.
        is_other = any(abs(a - b) > max(1, PICKED_ON_TOLERANCE * b) for a, b in zip(*shapes, strict=True))
        there, here = (" x ".join(map(str, shape)) + " voxels (x, y, z)" for shape in shapes)
    else:
        there, here = (f"voxels of {size or spacing:g} angstrom" for size in (group.picked_spacing_angstrom, spacing))
        is_other = abs((group.picked_spacing_angstrom or spacing) / spacing - 1) > PICKED_ON_TOLERANCE
    if is_other:
        raise InputError(
            f"{group.path}: picked on a volume of {there}, but the tomogram has {here}; give the voxel size of the "
            "picked volume with --coords_angpix, or the tomogram that was picked"
        )


def split_groups(
    path: Path,
    coordinates_xyz: np.ndarray,
    unit: str,
    *,
    tomogram_names: list[str | None],
    particle_names: list[str | None],
    scores: np.ndarray | None = None,
    shifts_xyz_angstrom: np.ndarray | None = None,
    pixel_sizes_angstrom: list[float | None] | None = None,
    volume_sizes_xyz_angstrom: dict[str, tuple[float, float, float]] | None = None,
    tomogram_spacings_angstrom: dict[str, float] | None = None,
    picked_spacing_angstrom: float | None = None,
    sizes_path: Path | None = None,
) -> list[PointGroup]:
    """One group for each pair of tomogram and particle (and pixel size), in the order of their first rows."""
    pixels = pixel_sizes_angstrom or [None] * len(coordinates_xyz)
    rows: dict[tuple, list[int]] = {}
    for index, key in enumerate(zip(tomogram_names, particle_names, pixels, strict=True)):
        rows.setdefault(key, []).append(index)
    return [
        PointGroup(
            path,
            coordinates_xyz[chosen],
            unit,
            tomogram_name=tomogram,
            particle_name=particle,
            scores=None if scores is None else scores[chosen],
            pixel_size_angstrom=pixel,
            shifts_xyz_angstrom=None if shifts_xyz_angstrom is None else shifts_xyz_angstrom[chosen],
            volume_size_xyz_angstrom=(volume_sizes_xyz_angstrom or {}).get(tomogram),
            tomogram_spacing_angstrom=(tomogram_spacings_angstrom or {}).get(tomogram),
            picked_spacing_angstrom=picked_spacing_angstrom,
            sizes_path=sizes_path,
        )
        for (tomogram, particle, pixel), chosen in rows.items()
    ]
