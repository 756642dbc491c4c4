"""STAR files of RELION 3, 4, 5 and WarpTools.

RELION 5: rlnCenteredCoordinate(X,Y,Z)Angst, angstrom from the middle of the volume; extraction computes pixel =
centred / pixel size + size / 2 with pixels counted from 0 (relion: tomography/particle_set.cpp, tomogram_set.cpp),
a true half. The size is rlnTomoSize(X,Y,Z) times rlnTomoTiltSeriesPixelSize of a tomograms.star, else the tomogram's.
RELION 4: rlnCoordinate(X,Y,Z) with rlnTomoName, in pixels of the unbinned tilt series.
RELION 3: rlnCoordinate(X,Y,Z) in pixels of the tomogram that rlnMicrographName names, of the size that rlnMagnification
and rlnDetectorPixelSize say where they are.
WarpTools: the same columns, the name ends in .tomostar; counted from 0, pixels as of --coords_angpix.
Refined files: position = coordinate - A * rlnOrigin(X,Y,Z)Angst, A the matrix of rlnTomoSubtomogram(Rot,Tilt,Psi)
where there (relion: ParticleSet::getPosition), in scipy's words the inverse of the intrinsic ZYZ rotation.

RELION's own Python picker takes size / 2 - 1 for the middle in one place (relion issue 1137); what counts is the
program that extracts.
"""

import re
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import starfile
from scipy.spatial.transform import Rotation

from data.files import atomic_path
from data.number_ranges import SCALE, VOXEL_SIZE, NumberRange
from data.picks import Picks
from data.text_files import read_text
from errors import InputError, raise_scarcity
from formats.export import Export, PickedTomogram, TiltSeries, box_size, scores_of
from formats.next_command import ARTIAX, Command, quoted, shell_command
from formats.point_groups import CENTRED_ANGSTROM, PIXELS, UNBINNED_PIXELS, PointGroup, split_groups
from formats.tomogram_names import safe_name, series_name
from particle_config import Particle

TOMOGRAM, MICROGRAPH, OPTICS_GROUP = "rlnTomoName", "rlnMicrographName", "rlnOpticsGroup"
CENTRED = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
COORDINATES = [f"rlnCoordinate{axis}" for axis in "XYZ"]
ORIGINS_ANGSTROM = [f"rlnOrigin{axis}Angst" for axis in "XYZ"]
ORIGINS_PIXELS = [f"rlnOrigin{axis}" for axis in "XYZ"]
SUBTOMOGRAM_ANGLES = [f"rlnTomoSubtomogram{angle}" for angle in ("Rot", "Tilt", "Psi")]
SIZES = [f"rlnTomoSize{axis}" for axis in "XYZ"]
PIXEL_SIZE, BINNING = "rlnTomoTiltSeriesPixelSize", "rlnTomoTomogramBinning"
# Of a side of the unbinned volume.
VOLUME_PIXELS = NumberRange(1, 1e6)
# Pixel sizes of one tilt series in two files differ by no more than this fraction.
SAME_PIXEL = 0.02
# Instead of a tomograms.star: none, not even the one beside the particles.
NO_STAR = Path("none")
FIGURE_OF_MERIT = "rlnAutopickFigureOfMerit"
SCORES = (FIGURE_OF_MERIT, "rlnLCCmax")
OPTICS_GROUP_NAME, IMPORT_FILE = "rlnOpticsGroupName", "rlnTomoImportParticleFile"
# What extraction wants in the table of optics groups (relion: ParticleSet::read).
OPTICS = ["rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast", PIXEL_SIZE]
# RELION 3: pixel size = detector pixel in micrometres * 10000 / magnification.
MAGNIFICATION, DETECTOR_PIXEL = "rlnMagnification", "rlnDetectorPixelSize"
TOMOSTAR = ".tomostar"
NAMES = [TOMOGRAM, MICROGRAPH, "rlnTomoParticleName", OPTICS_GROUP_NAME, "rlnImageName", IMPORT_FILE]
SUFFIXES = (".star",)


def recognises(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def read(path: Path, *, tomograms_star: Path | None = None) -> list[PointGroup]:
    """The particles of a STAR file; sizes from ``tomograms_star``, else from one beside it; NO_STAR: neither.

    InputError for a file without coordinates, with a coordinate that is no number, or with another pixel size.
    """
    blocks = _blocks(path)
    with_points = {name: b for name, b in blocks.items() if {CENTRED[0], COORDINATES[0]} & set(b.columns)}
    if not with_points:
        raise InputError(f"{path}: no block has {CENTRED[0]} or {COORDINATES[0]}; give the particles' STAR file")
    optics = next((b for b in blocks.values() if PIXEL_SIZE in b.columns and OPTICS_GROUP in b.columns), None)
    beside = path.with_name("tomograms.star")
    sizes_star = tomograms_star or (beside if beside.is_file() else NO_STAR)
    series = {} if sizes_star == NO_STAR else read_tilt_series(sizes_star)
    # Without names inside, several blocks are named after their tomograms.
    return [
        group
        for name, block in with_points.items()
        for group in _of_block(
            path, block, optics, series, named=name if len(with_points) > 1 else None, sizes_star=sizes_star
        )
    ]


def _of_block(
    path: Path,
    particles: pd.DataFrame,
    optics: pd.DataFrame | None,
    series: dict[str, TiltSeries],
    *,
    named: str | None,
    sizes_star: Path,
) -> list[PointGroup]:
    names = [one or named for one in _names(particles)]
    # Particles may be of rec_TS_1.mrc, the tilt series is TS_1.
    by_name = {series_name(name): found for name, found in series.items()}
    others = {name for name in names if name is not None} - set(series)
    series = series | {name: by_name[series_name(name)] for name in others if series_name(name) in by_name}
    is_centred = set(CENTRED) <= set(particles.columns)
    points = _numbers(path, particles, CENTRED if is_centred else COORDINATES)
    pixels, picked_pixel = [None] * len(points), None
    if TOMOGRAM in particles.columns and not _is_warp(particles):
        unit, pixels = UNBINNED_PIXELS, _pixel_sizes(path, particles, optics, series, names, sizes_star)
    else:
        unit = PIXELS
        picked_pixel = None if _is_warp(particles) else _relion3_pixel_size(path, particles)
    if is_centred:
        unit, pixels = CENTRED_ANGSTROM, [None] * len(points)
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
        volume_sizes_xyz_angstrom={n: one.size_xyz_angstrom for n, one in series.items() if one.size_xyz_angstrom},
        tomogram_spacings_angstrom={n: one.tomogram_spacing_angstrom for n, one in series.items()},
        picked_spacing_angstrom=picked_pixel,
        sizes_path=sizes_star,
    )


def _blocks(path: Path) -> dict[str, pd.DataFrame]:
    text = read_text(path)
    names = re.findall(r"^[ \t]*data_(\S*)", text, flags=re.MULTILINE)
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        # Of which the reader would take the last without a word.
        raise InputError(f"{path}: several blocks are named data_{repeated[0]}; make them one, or rename them")
    # starfile reads files alone and stumbles over a byte order mark: it is given a clean copy.
    with tempfile.TemporaryDirectory() as folder:
        clean = Path(folder) / "clean.star"
        clean.write_text(text, encoding="utf-8")
        try:
            found = starfile.read(clean, always_dict=True, parse_as_string=NAMES)
        except Exception as error:  # it has no exceptions of its own
            raise_scarcity(error)
            raise InputError(f"{path}: not a readable STAR file ({error}); export it again") from error
    # A block of one row may come as plain values.
    blocks = {name: b if isinstance(b, pd.DataFrame) else pd.DataFrame([b]) for name, b in found.items()}
    for block in blocks.values():
        _check_columns(path, list(block.columns))
    return blocks


def _check_columns(path: Path, columns: list[str]) -> None:
    """InputError for a column that is there twice, or columns of which others are missing: they would not count."""
    if repeated := sorted({name for name in columns if columns.count(name) > 1}):
        raise InputError(f"{path}: column {repeated[0]} is there twice; export the file again")
    for group in (CENTRED, COORDINATES, ORIGINS_ANGSTROM, ORIGINS_PIXELS, SUBTOMOGRAM_ANGLES, SIZES):
        missing = [name for name in group if name not in columns]
        if missing and len(missing) < len(group):
            raise InputError(f"{path}: column {missing[0]} is missing; export the file again")


def _numbers(path: Path, table: pd.DataFrame, columns: list[str], allowed: NumberRange | None = None) -> np.ndarray:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise InputError(f"{path}: column {missing[0]} is missing; export the file again")
    try:
        numbers = table[columns].to_numpy(dtype=np.float64).reshape(-1, len(columns))
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: {columns[0]} holds a value that is no number ({error})") from error
    if allowed is not None and (wrong := [number for number in numbers.ravel().tolist() if number not in allowed]):
        raise InputError(f"{path}: {columns[0]} is {wrong[0]:g}; it must be {allowed}")
    return numbers


def _names(particles: pd.DataFrame) -> list[str | None]:
    column = next((name for name in (TOMOGRAM, MICROGRAPH) if name in particles.columns), None)
    return [None] * len(particles) if column is None else [str(name) for name in particles[column]]


def _is_warp(particles: pd.DataFrame) -> bool:
    return all(str(name).endswith(TOMOSTAR) for name in _names(particles))


def _shifts(path: Path, particles: pd.DataFrame) -> np.ndarray | None:
    if not set(ORIGINS_ANGSTROM) <= set(particles.columns) or particles.empty:
        return None
    origins = _numbers(path, particles, ORIGINS_ANGSTROM)
    if set(SUBTOMOGRAM_ANGLES) <= set(particles.columns):
        angles = _numbers(path, particles, SUBTOMOGRAM_ANGLES)
        origins = Rotation.from_euler("ZYZ", angles, degrees=True).inv().apply(origins)
    return -origins


def _pixel_sizes(
    path: Path,
    particles: pd.DataFrame,
    optics: pd.DataFrame | None,
    series: dict[str, TiltSeries],
    names: list[str | None],
    sizes_star: Path,
) -> list[float | None]:
    """Of the unbinned tilt series: from the particle or its optics group, else from tomograms.star."""
    beside = [series[name].pixel_size_angstrom if name in series else None for name in names]
    if PIXEL_SIZE in particles.columns:
        own = _numbers(path, particles, [PIXEL_SIZE])[:, 0].tolist()
    elif optics is not None and OPTICS_GROUP in particles.columns:
        sizes = dict(zip(optics[OPTICS_GROUP], _numbers(path, optics, [PIXEL_SIZE])[:, 0].tolist(), strict=True))
        own = [sizes.get(group) for group in particles[OPTICS_GROUP]]
    else:
        return beside
    for name, one, other in zip(names, own, beside, strict=True):
        if one is not None and other is not None and abs(one / other - 1) > SAME_PIXEL:
            raise InputError(
                f"{path} says {one:g} angstrom per pixel of {name}, {sizes_star} {other:g}; mend the wrong one, or go "
                "by the first alone with --tomograms_star none"
            )
    return [one or other for one, other in zip(own, beside, strict=True)]


def _relion3_pixel_size(path: Path, particles: pd.DataFrame) -> float | None:
    """Angstrom; None where it is not there or not the same for all particles."""
    if not {MAGNIFICATION, DETECTOR_PIXEL} <= set(particles.columns) or particles.empty:
        return None
    magnification, detector_pixel = _numbers(path, particles, [MAGNIFICATION, DETECTOR_PIXEL]).T
    sizes = set(detector_pixel * 1e4 / np.where(magnification > 0, magnification, np.inf))
    return float(sizes.pop()) or None if len(sizes) == 1 else None


def read_tilt_series(path: Path) -> dict[str, TiltSeries]:
    """The tilt series of a tomograms.star by name. InputError where it has no names or no pixel sizes."""
    table = next((b for b in _blocks(path).values() if {TOMOGRAM, PIXEL_SIZE} <= set(b.columns)), None)
    if table is None:
        raise InputError(f"{path}: no {TOMOGRAM} and {PIXEL_SIZE} inside; give the tomograms.star of the project")
    names = [str(name) for name in table[TOMOGRAM]]
    pixels = _numbers(path, table, [PIXEL_SIZE], VOXEL_SIZE)[:, 0].tolist()
    sizes = [None] * len(names)
    if set(SIZES) <= set(table.columns):
        sizes = [tuple(row) for row in _numbers(path, table, SIZES, VOLUME_PIXELS).tolist()]
    optics = [{} for _ in names]
    if set(OPTICS) <= set(table.columns):
        columns = [*OPTICS, *([OPTICS_GROUP_NAME] if OPTICS_GROUP_NAME in table.columns else [])]
        # RELION makes a group of each tomogram that names none.
        rows = table[columns].to_dict("records")
        optics = [{OPTICS_GROUP_NAME: name, **row} for name, row in zip(names, rows, strict=True)]
    binnings = (
        _numbers(path, table, [BINNING], SCALE)[:, 0].tolist() if BINNING in table.columns else [None] * len(names)
    )
    return {row[0]: TiltSeries(*row) for row in zip(names, pixels, sizes, optics, binnings, strict=True)}


# --- Writing ------------------------------------------------------------------------------------------
def write_relion5(folder: Path, export: Export) -> list[Command]:
    """``{particle}.star``; for RELION's import ``{particle}_import.star``, which lists files of single tomograms.

    rlnCenteredCoordinateXAngst = x - rlnTomoSizeX / 2 * rlnTomoTiltSeriesPixelSize with a tomograms.star, else
    (i - n / 2) * voxel size, a true half; binning does not enter. The table of optics groups is written where a
    tomograms.star tells voltage and the like: without one RELION's extraction makes it itself, but does not fill in an
    incomplete one (relion: ParticleSet::read). Its import reads the first table of a file alone
    (relion: import_coordinates.cpp), so that files to be imported have no other.
    """
    _warn_of_odd_sizes(export)
    for particle, found in export.found():
        stem = safe_name(particle.name)
        imports = folder / f"{stem}_import"
        listed, tables = [], []
        for tomogram, picks in found:
            table = _centred_table(tomogram, picks, export.series[tomogram.name])
            path = imports / f"{safe_name(tomogram.name)}.star"
            _write(path, {"particles": table})
            listed.append((export.series[tomogram.name].name, str(path.absolute())))
            tables.append(table)
        _write(folder / f"{stem}_import.star", {"": pd.DataFrame(listed, columns=[TOMOGRAM, IMPORT_FILE])})
        _write(folder / f"{stem}.star", _with_optics(tables, [export.series[t.name] for t, _ in found]))
    return _relion5_commands(folder, export)


def _centred_table(tomogram: PickedTomogram, picks: Picks, series: TiltSeries) -> pd.DataFrame:
    centred = picks.coordinates_zyx_angstrom[:, ::-1] - _volume_xyz_angstrom(tomogram, series) / 2
    return _particle_table(TOMOGRAM, series.name, CENTRED, centred, picks)


def _volume_xyz_angstrom(tomogram: PickedTomogram, series: TiltSeries) -> np.ndarray:
    return tomogram.extent_xyz_angstrom if series.size_xyz_angstrom is None else np.array(series.size_xyz_angstrom)


def _particle_table(name_column: str, name: str, columns: list[str], points: np.ndarray, picks: Picks) -> pd.DataFrame:
    table = pd.DataFrame(points, columns=columns)
    table.insert(0, name_column, name)
    return table if picks.scores is None else table.assign(**{FIGURE_OF_MERIT: scores_of(picks)})


def _with_optics(tables: list[pd.DataFrame], series: list[TiltSeries]) -> dict[str, pd.DataFrame]:
    if not all(one.optics for one in series):
        return {"particles": pd.concat(tables, ignore_index=True)}
    groups: dict[str, dict] = {}
    for one in series:
        name = str(one.optics[OPTICS_GROUP_NAME])
        groups.setdefault(name, {OPTICS_GROUP: len(groups) + 1, **one.optics})
    numbered = [
        table.assign(**{OPTICS_GROUP: groups[str(one.optics[OPTICS_GROUP_NAME])][OPTICS_GROUP]})
        for table, one in zip(tables, series, strict=True)
    ]
    return {"optics": pd.DataFrame(list(groups.values())), "particles": pd.concat(numbered, ignore_index=True)}


def _warn_of_odd_sizes(export: Export) -> None:
    for tomogram in export.tomograms:
        size = export.series[tomogram.name].size_xyz_pixels or tomogram.size_xyz
        if any(n % 2 for n in size):
            words = " x ".join(f"{n:g}" for n in size)
            warnings.warn(
                f"{tomogram.name} is {words} voxels: for odd sizes some versions of RELION take the middle "
                "half a pixel off (RELION pull request 1353)",
                stacklevel=2,
            )
            return


def _relion5_commands(folder: Path, export: Export) -> list[Command]:
    """Flags as in relion: apps/import_coordinates.cpp, programs/subtomo.cpp and pipeline_jobs.cpp."""
    particle = export.example_particle()
    if particle is None:
        return []
    stem = safe_name(particle.name)
    tomogram = export.of_particle(particle)[0][0]
    pixel = export.series[tomogram.name].pixel_size_angstrom
    shown = _artiax_command(folder, export, particle)
    if export.tomograms_star is None or pixel is None:
        imported = folder.absolute() / f"{stem}_import.star"
        return [shell_command("relion_tomo_import_coordinates", "--i", imported, "--o", f"Import/{stem}/"), *shown]
    binning = max(1, round(tomogram.voxel_size_angstrom / pixel))
    box = box_size(particle.radius_angstrom, pixel * binning)
    words = ["relion_tomo_subtomo", "--p", folder.absolute() / f"{stem}.star", "--t", export.tomograms_star.absolute()]
    words += ["--o", f"Extract/{stem}/", "--b", box, "--bin", binning, "--stack2d", "--float16", "--j", 4]
    return [shell_command(*words), *shown]


def _artiax_command(folder: Path, export: Export, particle: Particle) -> list[Command]:
    """ArtiaX wants the size of the tomogram and what stands before its number (ArtiaX: RELION5ParticleData.py)."""
    tomogram, _ = export.of_particle(particle)[0]
    series, voxel_size = export.series[tomogram.name], tomogram.voxel_size_angstrom
    numbered = re.fullmatch(r"(.*\D)\d+", series.name)
    if numbered is None:
        return []
    size = ",".join(f"{n:g}" for n in _volume_xyz_angstrom(tomogram, series) / voxel_size)
    path = folder.absolute() / f"{safe_name(particle.name)}_import" / f"{safe_name(tomogram.name)}.star"
    words = f"open {quoted(path)} format relion5 voldim {size} voxelsize {voxel_size:g} prefix {numbered[1]}"
    return [Command(words, ARTIAX)]


def write_relion3(folder: Path, export: Export) -> list[Command]:
    """``{particle}.star``: pixels of the tomogram whose file rlnMicrographName is; micrographs.star lists these files.

    Flags of the command as in relion: src/preprocessing.cpp of version 3.1.
    """
    particle = export.example_particle()
    for one, found in export.found():
        tables = [
            _particle_table(MICROGRAPH, str(tomogram.path), COORDINATES, tomogram.voxels_xyz(picks), picks).assign(
                **{MAGNIFICATION: 10000.0, DETECTOR_PIXEL: tomogram.voxel_size_angstrom}
            )
            for tomogram, picks in found
        ]
        _write(folder / f"{safe_name(one.name)}.star", {"": pd.concat(tables, ignore_index=True)})
    if particle is None:
        return []
    files = pd.DataFrame({MICROGRAPH: [str(tomogram.path) for tomogram in export.tomograms]})
    _write(folder / "micrographs.star", {"": files})
    stem, tomogram = safe_name(particle.name), export.of_particle(particle)[0][0]
    words = ["relion_preprocess", "--i", folder.absolute() / "micrographs.star"]
    words += ["--reextract_data_star", folder.absolute() / f"{stem}.star", "--extract"]
    words += ["--extract_size", box_size(particle.radius_angstrom, tomogram.voxel_size_angstrom)]
    words += ["--part_dir", f"Extract/{stem}/", "--part_star", f"Extract/{stem}/particles.star"]
    return [shell_command(*words, tomogram=tomogram)]


def write_warp(folder: Path, export: Export) -> list[Command]:
    """``{particle}.star`` for WarpTools and M: rlnCoordinateX = i, counted from 0 at the centre of the first voxel.

    rlnMicrographName is ``{tilt series}.tomostar`` and must match exactly; centred columns are not read (warp issues
    224, 288, 315). All tomograms of a file are in pixels of one size, which --coords_angpix says. Flags as in
    warp: Commands/Tiltseries/ExportParticlesTiltseries.cs.
    """
    example, commands = export.example_particle(), []
    for particle, found in export.found():
        pixel = found[0][0].voxel_size_angstrom
        tables = [
            _particle_table(
                MICROGRAPH,
                export.series[tomogram.name].name + TOMOSTAR,
                COORDINATES,
                picks.coordinates_zyx_angstrom[:, ::-1] / pixel,
                picks,
            )
            for tomogram, picks in found
        ]
        path = folder.absolute() / f"{safe_name(particle.name)}.star"
        _write(path, {"": pd.concat(tables, ignore_index=True)})
        if particle == example:
            commands = [_warp_command(path, particle, pixel)]
    return commands


def _warp_command(path: Path, particle: Particle, pixel: float) -> Command:
    words = ["WarpTools", "ts_export_particles", "--settings", "warp_tiltseries.settings", "--input_star", path]
    words += ["--coords_angpix", f"{pixel:g}", "--output_star", f"relion/{path.name}", "--output_angpix", f"{pixel:g}"]
    words += ["--box", box_size(particle.radius_angstrom, pixel), "--diameter", round(2 * particle.radius_angstrom)]
    return shell_command(*words, "--2d")


def _write(path: Path, blocks: dict[str, pd.DataFrame]) -> None:
    with atomic_path(path) as temporary:
        starfile.write(blocks, temporary)
