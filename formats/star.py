"""STAR files of RELION 3, 4, 5 and WarpTools.

RELION 5: rlnCenteredCoordinate(X,Y,Z)Angst, angstrom from the middle of the volume; extraction computes pixel =
centred / pixel size + size / 2 with pixels counted from 0 (relion: tomography/particle_set.cpp, tomogram_set.cpp),
a true half. The size is rlnTomoSize(X,Y,Z) times rlnTomoTiltSeriesPixelSize of a tomograms.star, else the tomogram's.
RELION 4: rlnCoordinate(X,Y,Z) with rlnTomoName, in pixels of the unbinned tilt series.
RELION 3: rlnCoordinate(X,Y,Z) in pixels of the tomogram that rlnMicrographName names.
WarpTools: the same columns, the name ends in .tomostar; counted from 0, pixels as of --coords_angpix.
Refined files: position = coordinate - A * rlnOrigin(X,Y,Z)Angst, A the matrix of rlnTomoSubtomogram(Rot,Tilt,Psi)
where there (relion: ParticleSet::getPosition), in scipy's words the inverse of the intrinsic ZYZ rotation.
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import starfile
from scipy.spatial.transform import Rotation

from errors import InputError
from formats.point_groups import CENTRED_ANGSTROM, PIXELS, UNBINNED_PIXELS, PointGroup, read_text, split_groups
from formats.tomogram_names import series_name

TOMOGRAM, MICROGRAPH, OPTICS_GROUP = "rlnTomoName", "rlnMicrographName", "rlnOpticsGroup"
CENTRED = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
COORDINATES = [f"rlnCoordinate{axis}" for axis in "XYZ"]
ORIGINS_ANGSTROM = [f"rlnOrigin{axis}Angst" for axis in "XYZ"]
ORIGINS_PIXELS = [f"rlnOrigin{axis}" for axis in "XYZ"]
SUBTOMOGRAM_ANGLES = [f"rlnTomoSubtomogram{angle}" for angle in ("Rot", "Tilt", "Psi")]
SIZES = [f"rlnTomoSize{axis}" for axis in "XYZ"]
PIXEL_SIZE = "rlnTomoTiltSeriesPixelSize"
SCORES = ("rlnAutopickFigureOfMerit", "rlnLCCmax")
NAMES = [TOMOGRAM, MICROGRAPH, "rlnTomoParticleName", "rlnOpticsGroupName", "rlnImageName"]
SUFFIXES = (".star",)


def recognises(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def read(path: Path, *, tomograms_star: Path | None = None) -> list[PointGroup]:
    """The particles of a STAR file; sizes of volumes from ``tomograms_star``, else from one beside the file.

    InputError for a file without coordinates, or with a coordinate that is no number.
    """
    blocks = _blocks(path)
    with_points = {name: b for name, b in blocks.items() if {CENTRED[0], COORDINATES[0]} & set(b.columns)}
    if not with_points:
        raise InputError(f"{path}: no block has {CENTRED[0]} or {COORDINATES[0]}; give the particles' STAR file")
    optics = next((b for b in blocks.values() if PIXEL_SIZE in b.columns and OPTICS_GROUP in b.columns), None)
    beside = path.with_name("tomograms.star")
    sizes_star = tomograms_star or (beside if beside.is_file() else None)
    series = _tilt_series(sizes_star) if sizes_star else {}
    # Without names inside, several blocks are named after their tomograms.
    return [
        group
        for name, block in with_points.items()
        for group in _of_block(path, block, optics, series, named=name if len(with_points) > 1 else None)
    ]


def _of_block(
    path: Path, particles: pd.DataFrame, optics: pd.DataFrame | None, series: dict, *, named: str | None
) -> list[PointGroup]:
    names = [one or named for one in _names(particles)]
    # Particles may be of rec_TS_1.mrc, the tilt series is TS_1.
    by_name = {series_name(name): found for name, found in series.items()}
    others = {name for name in names if name is not None} - set(series)
    series = series | {name: by_name[series_name(name)] for name in others if series_name(name) in by_name}
    is_centred = set(CENTRED) <= set(particles.columns)
    points = _numbers(path, particles, CENTRED if is_centred else COORDINATES)
    pixels = [None] * len(points)
    if is_centred:
        unit = CENTRED_ANGSTROM
    elif TOMOGRAM in particles.columns and not _is_warp(particles):
        unit, pixels = UNBINNED_PIXELS, _pixel_sizes(path, particles, optics, series, names)
    else:
        unit = PIXELS
    if set(ORIGINS_PIXELS) <= set(particles.columns) and not is_centred:
        points = points - _numbers(path, particles, ORIGINS_PIXELS)
    score = next((column for column in SCORES if column in particles.columns), None)
    return split_groups(
        path,
        points,
        unit,
        tomogram_names=names,
        particle_names=[None] * len(points),
        scores=None if score is None else _numbers(path, particles, [score])[:, 0],
        shifts_xyz_angstrom=_shifts(path, particles),
        pixel_sizes_angstrom=pixels,
        volume_sizes_xyz_angstrom={name: size for name, (size, _) in series.items() if size is not None},
    )


def _blocks(path: Path) -> dict[str, pd.DataFrame]:
    text = read_text(path)
    # starfile reads files alone and stumbles over a byte order mark: it is given a clean copy.
    with tempfile.TemporaryDirectory() as folder:
        clean = Path(folder) / "clean.star"
        clean.write_text(text, encoding="utf-8")
        try:
            found = starfile.read(clean, always_dict=True, parse_as_string=NAMES)
        except Exception as error:  # it has no exceptions of its own
            raise InputError(f"{path}: not a readable STAR file ({error}); export it again") from error
    # A block of one row may come as plain values.
    return {name: b if isinstance(b, pd.DataFrame) else pd.DataFrame([b]) for name, b in found.items()}


def _numbers(path: Path, table: pd.DataFrame, columns: list[str]) -> np.ndarray:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise InputError(f"{path}: column {missing[0]} is missing; export the file again")
    try:
        return table[columns].to_numpy(dtype=np.float64).reshape(-1, len(columns))
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {columns[0]} holds a value that is no number ({error})") from error


def _names(particles: pd.DataFrame) -> list[str | None]:
    column = next((name for name in (TOMOGRAM, MICROGRAPH) if name in particles.columns), None)
    return [None] * len(particles) if column is None else [str(name) for name in particles[column]]


def _is_warp(particles: pd.DataFrame) -> bool:
    return all(str(name).endswith(".tomostar") for name in _names(particles))


def _shifts(path: Path, particles: pd.DataFrame) -> np.ndarray | None:
    if not set(ORIGINS_ANGSTROM) <= set(particles.columns) or particles.empty:
        return None
    origins = _numbers(path, particles, ORIGINS_ANGSTROM)
    if set(SUBTOMOGRAM_ANGLES) <= set(particles.columns):
        angles = _numbers(path, particles, SUBTOMOGRAM_ANGLES)
        origins = Rotation.from_euler("ZYZ", angles, degrees=True).inv().apply(origins)
    return -origins


def _pixel_sizes(path, particles, optics, series, names) -> list[float | None]:
    """Of the unbinned tilt series: from the particle's optics group, else from tomograms.star."""
    if PIXEL_SIZE in particles.columns:
        return _numbers(path, particles, [PIXEL_SIZE])[:, 0].tolist()
    if optics is not None and OPTICS_GROUP in particles.columns:
        sizes = dict(zip(optics[OPTICS_GROUP], optics[PIXEL_SIZE].astype(float), strict=True))
        return [sizes.get(group) for group in particles[OPTICS_GROUP]]
    return [series.get(name, (None, None))[1] for name in names]


def _tilt_series(path: Path) -> dict[str, tuple[tuple[float, float, float] | None, float | None]]:
    """Name -> size of the volume (x, y, z in angstrom) and unbinned pixel size, of a tomograms.star."""
    table = next((b for b in _blocks(path).values() if {TOMOGRAM, PIXEL_SIZE} <= set(b.columns)), None)
    if table is None:
        raise InputError(f"{path}: no {TOMOGRAM} and {PIXEL_SIZE} inside; give the tomograms.star of the project")
    pixels = _numbers(path, table, [PIXEL_SIZE])[:, 0]
    if not set(SIZES) <= set(table.columns):
        return {str(name): (None, pixel) for name, pixel in zip(table[TOMOGRAM], pixels, strict=True)}
    sizes = _numbers(path, table, SIZES) * pixels[:, None]
    return {str(n): (tuple(s), p) for n, s, p in zip(table[TOMOGRAM], sizes.tolist(), pixels, strict=True)}
