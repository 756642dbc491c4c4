"""Particle positions in files and tables: the only place where xyz (files) meets zyx (arrays).

Everything is in angstrom unless a name ends in ``_voxels``. Voxel i lies at i * spacing.
"""

import csv
import io
import json
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from data.files import atomic_path, check_complete, entries
from data.number_ranges import COORDINATE
from data.text_files import is_finite_number, read_json, read_text
from errors import InputError, raise_scarcity
from particle_config import PARTICLES, TABLE_SOURCE, Particle, find_particle

if TYPE_CHECKING:
    from data.czi import Run

TABLE_COLUMNS = ("experiment", "particle_type", "x", "y", "z")
# What a table of our own picks has besides; a value may be missing in those that are not the score.
PICK_COLUMNS = ("score", "uncertainty", "size_voxels", "confidence")
POINT_TYPES = ("point", "orientedPoint", "instancePoint")


@dataclass(frozen=True)
class Picks:
    """The points of one picks file.

    ``coordinates_zyx_angstrom`` is (N, 3); the others are (N,) or None; of those that are not the score a value that
    is not known is NaN.
    """

    particle_name: str
    run_name: str
    coordinates_zyx_angstrom: np.ndarray
    scores: np.ndarray | None = None
    uncertainties: np.ndarray | None = None
    sizes_voxels: np.ndarray | None = None
    confidences: np.ndarray | None = None


def _as_coordinates(values: object) -> np.ndarray:
    """(N, 3) float64; anything empty becomes (0, 3)."""
    array = np.asarray(values, dtype=np.float64)
    return array.reshape(0, 3) if array.size == 0 else array.reshape(-1, 3)


def _location_zyx(point: object, where: str) -> tuple[float, float, float]:
    location = point.get("location") if isinstance(point, dict) else None
    values = [location.get(axis) for axis in "zyx"] if isinstance(location, dict) else [None]
    if not all(value in COORDINATE for value in values):
        raise InputError(f"{where}: needs a location x, y, z, each {COORDINATE}; mend or remove the point")
    return tuple(float(v) for v in values)


def _centre_zyx(point: object, where: str) -> tuple[float, float, float]:
    """Location plus the shift in the fourth column of ``transformation_`` (x, y, z in angstrom), as copick has it."""
    z, y, x = _location_zyx(point, where)
    transformation = point.get("transformation_")
    if transformation is None:
        return z, y, x
    try:
        shift_xyz = np.asarray(transformation, dtype=np.float64)[:3, 3]
    except (TypeError, ValueError, IndexError, OverflowError):
        shift_xyz = np.full(1, np.nan)
    if shift_xyz.shape != (3,) or not all(shift in COORDINATE for shift in shift_xyz.tolist()):
        raise InputError(f"{where}: transformation_ is not a matrix of 4 x 4 numbers; mend it or leave it out")
    return z + float(shift_xyz[2]), y + float(shift_xyz[1]), x + float(shift_xyz[0])


# --- Picks JSON (copick) ------------------------------------------------------------------------------
def read_picks(path: str | Path) -> Picks:
    """Read one copick picks file; the particle's name is the one written inside it, not mapped to the table.

    A particle lies at ``location`` plus the shift of its ``transformation_``, its fourth column (copick's convention).
    ``scores`` is None unless every point has one, the other fields of ours unless some point has one.
    InputError, with the file named, for anything unreadable, a unit other than angstrom, or a location or shift that
    is missing or not finite.
    """
    path = Path(path)
    content = read_json(path, what="picks file", advice="restore it or remove it")
    if not isinstance(content, dict) or not isinstance(content.get("pickable_object_name"), str):
        raise InputError(f"{path}: no pickable_object_name inside, so it is not a picks file; remove it")
    if content.get("unit", "angstrom") != "angstrom":
        raise InputError(f"{path}: unit is {content['unit']!r}; convert the points to angstrom")
    points = content.get("points") or []
    if not isinstance(points, list):
        raise InputError(f"{path}: points is not a list; restore the file")
    coordinates = [_centre_zyx(point, f"{path}, point {i}") for i, point in enumerate(points)]

    def known(field: str) -> np.ndarray | None:
        """Values of a field that some points may not have: NaN."""
        values = [point.get(field) for point in points]
        for index, value in enumerate(values):
            if value is not None and not is_finite_number(value):
                raise InputError(f"{path}, point {index}: {field} is no finite number; mend it or leave it out")
        return np.array(values, dtype=np.float64) if any(v is not None for v in values) else None

    scores = known("score")

    return Picks(
        particle_name=content["pickable_object_name"],
        run_name=str(content.get("run_name") or ""),
        coordinates_zyx_angstrom=_as_coordinates(coordinates),
        scores=None if scores is None or np.isnan(scores).any() else scores,
        uncertainties=known("uncertainty"),
        sizes_voxels=known("size_voxels"),
        confidences=known("confidence"),
    )


def write_picks(
    path: str | Path,
    *,
    particle_name: str,
    run_name: str,
    coordinates_zyx_angstrom: np.ndarray,
    rotations_xyz: np.ndarray | None = None,
    scores: np.ndarray | None = None,
    uncertainties: np.ndarray | None = None,
    sizes_voxels: np.ndarray | None = None,
    confidences: np.ndarray | None = None,
    user_id: str = "curation",
    session_id: str = "0",
    trust_orientation: bool = False,
) -> None:
    """Write one copick picks file (atomically), unless it is there with the same content.

    Parameters
    ----------
    coordinates_zyx_angstrom : (N, 3), angstrom; N = 0 is legal.
    rotations_xyz : (N, 3, 3) rotation matrices acting on xyz column vectors, identity when None.
    scores, uncertainties, sizes_voxels, confidences : (N,), or None to leave the field out; NaN is written as null.
    """
    coordinates = _as_coordinates(coordinates_zyx_angstrom)
    transformations = np.tile(np.eye(4), (len(coordinates), 1, 1))
    if rotations_xyz is not None and len(coordinates):
        transformations[:, :3, :3] = rotations_xyz
    points = [
        {
            "location": {"x": x, "y": y, "z": z},
            "transformation_": transformation,
            "instance_id": 0,
        }
        for (z, y, x), transformation in zip(coordinates.tolist(), transformations.tolist(), strict=True)
    ]
    for name, values in zip(PICK_COLUMNS, (scores, uncertainties, sizes_voxels, confidences), strict=True):
        if values is not None:
            for point, value in zip(points, np.asarray(values, dtype=np.float64).tolist(), strict=True):
                point[name] = None if math.isnan(value) else value
    content = {
        "pickable_object_name": particle_name,
        "user_id": user_id,
        "session_id": session_id,
        "run_name": run_name,
        "voxel_spacing": None,
        "unit": "angstrom",
        "points": points,
        "trust_orientation": trust_orientation,
    }
    text = json.dumps(content, allow_nan=False).encode()
    if Path(path).is_file() and Path(path).read_bytes() == text:
        return
    with atomic_path(path) as temporary:
        temporary.write_bytes(text)


def read_run_picks(picks_dir: str | Path, particles: Iterable[Particle] = PARTICLES) -> dict[str, np.ndarray]:
    """Every picks file of one run's folder, keyed by the table's particle names in the table's order.

    Returns
    -------
    dict : name -> (N, 3) zyx angstrom; only the particles that have a file. Points given twice are kept
        once, with a warning: the score does not allow them.

    Raises
    ------
    InputError : no folder, no files, a particle that the table does not know, or two files of one particle.
    """
    known, unknown = read_known_picks(picks_dir, particles)
    for path, name in unknown.items():
        raise InputError(
            f"{path}: particle {name!r} is not in the particle table {TABLE_SOURCE}; add it there, or set "
            "ETFINDER_PARTICLES to a table that has it, such as the particles.json of import_dataset.py"
        )
    return known


def read_known_picks(
    picks_dir: str | Path, particles: Iterable[Particle]
) -> tuple[dict[str, np.ndarray], dict[Path, str]]:
    """As :func:`read_run_picks`, but files of particles that the table does not know are given back: file -> name."""
    picks_dir, particles = Path(picks_dir), tuple(particles)
    check_complete(picks_dir)
    files = [p for p in entries(picks_dir, "*.json") if not p.name.startswith(".")]
    if not files:
        run_name = picks_dir.parent.name
        raise InputError(
            f"run {run_name} has no picks: looked in {picks_dir}; put one JSON file per particle there "
            "(prepare_fullpublic_eval_annotations.py makes them from portal annotations) or leave the run out"
        )
    found: dict[str, tuple[Path, np.ndarray]] = {}
    unknown: dict[Path, str] = {}
    for path in files:
        picks = read_picks(path)
        particle = find_particle(picks.particle_name, particles)
        if particle is None:
            unknown[path] = picks.particle_name
            continue
        if particle.name in found:
            raise InputError(f"{path} and {found[particle.name][0]} both hold {particle.name}; keep one of them")
        found[particle.name] = (path, without_repeated_points(picks.coordinates_zyx_angstrom, str(path)))
    return {particle.name: found[particle.name][1] for particle in particles if particle.name in found}, unknown


def without_repeated_points(coordinates_zyx: np.ndarray, where: str) -> np.ndarray:
    """The rows in their order, exact repetitions dropped with a warning that names ``where``."""
    _, first = np.unique(coordinates_zyx, axis=0, return_index=True)
    repeated = len(coordinates_zyx) - len(first)
    if repeated:
        warnings.warn(f"{where}: {repeated} points are given more than once; each is kept once", stacklevel=2)
    return coordinates_zyx[np.sort(first)]


# --- Portal annotations (ndjson) ----------------------------------------------------------------------
def read_ndjson(path: str | Path) -> np.ndarray:
    """Points of a portal annotation, (N, 3) zyx in VOXELS OF THE FOLDER IT LIES IN; (0, 3) for an empty file.

    One JSON object per line; blank lines and a missing last newline are legal. InputError with file and
    line number for a corrupt line, a type other than a point, or a location that is not finite.
    """
    path = Path(path)
    text = read_text(path, what="annotation file", advice="fetch it again")
    coordinates = []
    for number, line in enumerate(text.split("\n"), start=1):  # not at other line ends, which texts in JSON may hold
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            point = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: not valid JSON ({error}); mend the line or fetch again") from error
        if isinstance(point, dict) and point.get("type", "point") not in POINT_TYPES:
            raise InputError(f"{where}: type {point['type']!r} is none of {', '.join(POINT_TYPES)}")
        coordinates.append(_location_zyx(point, where))
    return _as_coordinates(coordinates)


def write_ndjson(path: str | Path, coordinates_zyx_voxels: np.ndarray, rotations_xyz: np.ndarray | None = None) -> None:
    """The inverse of :func:`read_ndjson`: ``orientedPoint`` with rotations (N, 3, 3), else ``point``."""
    lines = []
    for index, (z, y, x) in enumerate(_as_coordinates(coordinates_zyx_voxels).tolist()):
        point = {"type": "point", "location": {"x": x, "y": y, "z": z}}
        if rotations_xyz is not None:
            point = {**point, "type": "orientedPoint", "xyz_rotation_matrix": rotations_xyz[index].tolist()}
        lines.append(json.dumps(point))
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")


def object_name_of_annotation(path: str | Path) -> str:
    """``ferritin_complex`` of ``ferritin_complex-1.0_point.ndjson``."""
    stem = Path(path).name.removesuffix(".ndjson")
    return re.sub(r"-\d+(\.\d+)*(_[a-z]+)?$", "", stem, flags=re.IGNORECASE)


# --- Tables -------------------------------------------------------------------------------------------
def picks_table(
    run_name: str,
    particle_name: str,
    coordinates_zyx_angstrom: np.ndarray,
    scores: np.ndarray | None = None,
    uncertainties: np.ndarray | None = None,
    sizes_voxels: np.ndarray | None = None,
    confidences: np.ndarray | None = None,
) -> pd.DataFrame:
    """One row per point: experiment, particle_type, x, y, z in angstrom, and those of PICK_COLUMNS that are given."""
    coordinates = _as_coordinates(coordinates_zyx_angstrom)
    table = pd.DataFrame(coordinates[:, ::-1].copy(), columns=["x", "y", "z"])
    table.insert(0, "experiment", pd.Series([run_name] * len(table), dtype=str))
    table.insert(1, "particle_type", pd.Series([particle_name] * len(table), dtype=str))
    for name, values in zip(PICK_COLUMNS, (scores, uncertainties, sizes_voxels, confidences), strict=True):
        if values is not None:
            table[name] = np.asarray(values, dtype=np.float64)
    return table


def truth_table(runs: "Sequence[Run]", particles: Iterable[Particle] = PARTICLES) -> pd.DataFrame:
    """The picks of all runs in one table; rows in the order of the runs, then of the particle table."""
    particles = tuple(particles)
    return _joined([run_table(run.name, read_run_picks(run.picks_dir, particles)) for run in runs])


def run_table(run_name: str, coordinates_zyx_angstrom: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """The picks of one run, particle name -> (N, 3), in one table."""
    return _joined([picks_table(run_name, name, points) for name, points in coordinates_zyx_angstrom.items()])


def _joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else picks_table("", "", np.empty((0, 3)))


def read_picks_table(path: str | Path) -> pd.DataFrame:
    """Read a CSV of picks (a submission, a truth table); further columns are kept.

    InputError names the file, and the line for a value that is missing or not a finite number.
    """
    path = Path(path)
    text_columns = {"experiment": str, "particle_type": str}
    try:
        # Names such as "NA" or "007" are names: only the numeric columns are converted, below.
        text = io.StringIO(read_text(path, what="CSV table"))
        table = pd.read_csv(text, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise_scarcity(error)
        raise InputError(f"{path}: not a readable CSV table ({str(error).strip()})") from error
    table.columns = table.columns.str.strip()
    names = next(csv.reader([text.getvalue().partition("\n")[0]]), [])
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{path}: several columns are named {repeated[0]!r}; remove or rename all but one")
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the first values for names of the rows
        raise InputError(f"{path}: lines have more values than the header has names; write decimals with a point")
    missing = [column for column in TABLE_COLUMNS if column not in table.columns]
    if missing:
        raise InputError(f"{path}: column {missing[0]!r} is missing; needed are {', '.join(TABLE_COLUMNS)}")
    for column in table.columns:
        if column in text_columns:
            table[column] = table[column].str.strip()
            bad = table[column] == ""
        elif column in ("x", "y", "z", "score"):
            table[column] = pd.to_numeric(table[column], errors="coerce").astype(np.float64)
            bad = ~table[column].between(COORDINATE.low, COORDINATE.high)
        elif column in PICK_COLUMNS:
            table[column] = pd.to_numeric(table[column], errors="coerce").astype(np.float64)
            continue
        else:
            continue
        if bad.any():
            line = int(np.flatnonzero(bad)[0]) + 2  # the header is line 1
            raise InputError(f"{path}, line {line}: {column} is missing, no name or not {COORDINATE}")
    return table


def write_submission(path: str | Path, table: pd.DataFrame) -> None:
    """Write ``id,experiment,particle_type,x,y,z`` and what else the table knows of PICK_COLUMNS, ids from 0."""
    columns = [*TABLE_COLUMNS, *(name for name in PICK_COLUMNS if name in table.columns)]
    rows = table.loc[:, columns].reset_index(drop=True)
    with atomic_path(path) as temporary:
        rows.to_csv(temporary, index=True, index_label="id")


def table_coordinates_zyx(table: pd.DataFrame) -> np.ndarray:
    """(N, 3) zyx of a table's rows, in the table's unit (angstrom)."""
    return table.loc[:, ["z", "y", "x"]].to_numpy(dtype=np.float64).reshape(-1, 3)


def picks_of_table(run_name: str, table: pd.DataFrame) -> tuple[Picks, ...]:
    """The picks of one run's table of picks, one for each particle in it, in the order of their first rows."""
    found = []
    for name, rows in table.groupby("particle_type", sort=False):
        scores, uncertainties, sizes, confidences = (
            rows[column].to_numpy(dtype=np.float64) if column in rows else None for column in PICK_COLUMNS
        )
        found.append(Picks(str(name), run_name, table_coordinates_zyx(rows), scores, uncertainties, sizes, confidences))
    return tuple(found)
