"""Tables as people write them: CSV, TSV, the challenge's submission, napari's points.

The challenge's columns experiment and particle_type mean angstrom; napari's axis-0, axis-1, axis-2 are voxels z, y, x;
columns named x_angstrom, x_nm or x_voxels say it; a plain x says no unit.
"""

import io
from pathlib import Path

import numpy as np
import pandas as pd

from data.picks import picks_table, write_submission
from data.text_files import read_text
from errors import InputError
from formats.export import Export
from formats.next_command import Command, shell_command
from formats.point_groups import ANGSTROM, PIXELS, UNSAID, PointGroup, split_groups

TOMOGRAM_COLUMNS = (
    "experiment",
    "tomogram",
    "tomo",
    "tomo_name",
    "tomogram_name",
    "tomo_id",
    "run",
    "run_name",
    "tomoname",
    "tomogram_id",
    "tilt_series",
    "tiltseries",
    "micrograph",
    "micrograph_name",
    "rlnmicrographname",
    "rlntomoname",
    "filename",
    "file_name",
    "image",
    "image_name",
)
PARTICLE_COLUMNS = (
    "particle_type",
    "particle",
    "class",
    "class_name",
    "label",
    "type",
    "object",
    "protein",
    "particle_name",
)
SCORE_COLUMNS = ("score", "confidence", "probability", "cc", "ccc")
# Column of x -> unit and factor; y and z are named alike.
UNITS = {"angstrom": (ANGSTROM, 1.0), "ang": (ANGSTROM, 1.0), "a": (ANGSTROM, 1.0), "nm": (ANGSTROM, 10.0)}
UNITS |= dict.fromkeys(("voxels", "voxel", "vox", "pixels", "pixel", "px"), (PIXELS, 1.0))
NAPARI = ("axis-2", "axis-1", "axis-0")
SUFFIXES = (".csv", ".tsv", ".txt")


def recognises(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def read(path: Path) -> list[PointGroup]:
    """InputError names the line of a value that is no number, or the columns where x, y, z are not found."""
    table = _table(path)
    columns, unit, factor = _coordinate_columns(path, table)
    points = np.stack([_numbers(path, table, column) for column in columns], axis=1) * factor
    tomogram, particle, score = (_first(table, names) for names in (TOMOGRAM_COLUMNS, PARTICLE_COLUMNS, SCORE_COLUMNS))
    nothing = [None] * len(table)
    return split_groups(
        path,
        points,
        unit,
        tomogram_names=nothing if tomogram is None else list(table[tomogram]),
        particle_names=nothing if particle is None else list(table[particle]),
        scores=None if score is None else pd.to_numeric(table[score], errors="coerce").to_numpy(dtype=np.float64),
    )


def _table(path: Path) -> pd.DataFrame:
    text = read_text(path)
    head = text.partition("\n")[0]
    separator = next((mark for mark in ("\t", ";", ",") if mark in head), r"\s+")
    try:
        # Names such as 001 or NA are names.
        words = {"sep": separator, "dtype": str, "keep_default_na": False, "skipinitialspace": True}
        table = pd.read_csv(io.StringIO(text), **words)
        if not isinstance(table.index, pd.RangeIndex) and (table.iloc[:, -1].str.strip() == "").all():
            # Lines that end with a separator: without more, pandas takes the first column for names of the rows.
            table = pd.read_csv(io.StringIO(text), **words, index_col=False, usecols=range(table.shape[1]))
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path}: not a readable table ({str(error).strip()}); export it again") from error
    if isinstance(table.index, pd.MultiIndex):  # pandas takes the first values for names of the rows
        raise InputError(f"{path}: lines have more values than the header has names; write decimals with a point")
    table.columns = [str(name).strip().lower() for name in table.columns]
    if table.columns.has_duplicates:
        twice = table.columns[table.columns.duplicated()][0]
        raise InputError(f"{path}: several columns are named {twice!r}, capitals apart; remove or rename all but one")
    return table.map(str.strip)


def _coordinate_columns(path: Path, table: pd.DataFrame) -> tuple[tuple[str, ...], str, float]:
    there = set(table.columns)
    if set(NAPARI) <= there:
        return NAPARI, PIXELS, 1.0
    if {"x", "y", "z"} <= there:
        is_challenge = {"experiment", "particle_type"} <= there
        return ("x", "y", "z"), ANGSTROM if is_challenge else UNSAID, 1.0
    for name, (unit, factor) in UNITS.items():
        if {f"{axis}_{name}" for axis in "xyz"} <= there:
            return tuple(f"{axis}_{name}" for axis in "xyz"), unit, factor
    raise InputError(f"{path}: no columns x, y, z; there are: {', '.join(table.columns)}; rename them")


def _first(table: pd.DataFrame, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in table.columns), None)


def _numbers(path: Path, table: pd.DataFrame, column: str) -> np.ndarray:
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        line = int(np.flatnonzero(~np.isfinite(values))[0]) + 2  # the header is line 1
        raise InputError(f"{path}, line {line}: {column} is no finite number; mend or remove the line")
    return values


def write(folder: Path, export: Export) -> list[Command]:
    """``picks.csv``: the challenge's submission with score, confidence, uncertainty and size behind it."""
    tables = [table for tomogram in export.tomograms if len(table := export.table(tomogram))]
    nothing = picks_table("", "", np.empty((0, 3)))
    write_submission(folder / "picks.csv", pd.concat(tables, ignore_index=True) if tables else nothing)
    code = f"import pandas; print(pandas.read_csv({str(folder.absolute() / 'picks.csv')!r}))"
    return [shell_command("python", "-c", code)]


def read_name_map(path: Path) -> dict[str, str]:
    """Name in the picks -> name meant, of a CSV with a header and two columns."""
    table = _table(path)
    if table.shape[1] != 2:
        raise InputError(f"{path}: {table.shape[1]} columns; needed are two: name in the picks, name meant")
    return dict(table.itertuples(index=False, name=None))
