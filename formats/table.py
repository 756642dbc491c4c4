"""Tables as people write them: CSV, TSV, the challenge's submission, napari's points.

Columns named x_angstrom, X [nm] or x_voxels say their unit, and go before plain ones beside them; napari's last three
of axis-0, axis-1, ... are voxels z, y, x, those before them times or channels; with the challenge's columns experiment
and particle_type a plain x means angstrom; else it says no unit. Lines that begin with # are left out.
"""

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd

from data.picks import picks_table, write_submission
from data.text_files import read_text
from errors import InputError, raise_scarcity
from formats.export import Export
from formats.next_command import Command
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
UNITS = dict.fromkeys(("angstrom", "angstroms", "ang", "a", "å"), (ANGSTROM, 1.0)) | {"nm": (ANGSTROM, 10.0)}
UNITS |= dict.fromkeys(("voxels", "voxel", "vox", "pixels", "pixel", "px"), (PIXELS, 1.0))
NAPARI = ("axis-2", "axis-1", "axis-0")
# The numbers of a table's lines in its file, and the names of its columns as written, kept with it.
LINES, HEADER = "lines", "header"
SHAPES = "shape-type"
NAPARI_AXIS = r"axis-(\d+)"
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
    lines = _without_comments(read_text(path).split("\n"))
    head = next((line for line in lines if line), "")
    separator = next((mark for mark in ("\t", ";", ",") if mark in head), r"\s+")
    text = "\n".join(lines)
    try:
        # Names such as 001 or NA are names.
        words = {"sep": separator, "dtype": str, "keep_default_na": False, "skipinitialspace": True}
        table = pd.read_csv(io.StringIO(text), **words)
        if not isinstance(table.index, pd.RangeIndex) and (table.iloc[:, -1].str.strip() == "").all():
            # Lines that end with a separator: without more, pandas takes the first column for names of the rows.
            table = pd.read_csv(io.StringIO(text), **words, index_col=False, usecols=range(table.shape[1]))
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise_scarcity(error)
        mend = "it is a STAR file: give --picks_format star" if "\nloop_" in text else "export it again"
        raise InputError(f"{path}: not a readable table ({str(error).strip()}); {mend}") from error
    if isinstance(table.index, pd.MultiIndex):  # pandas takes the first values for names of the rows
        raise InputError(f"{path}: lines have more values than the header has names; write decimals with a point")
    written = [str(name).strip() for name in table.columns]
    table.columns = [_plain_name(name) for name in written]
    if table.columns.has_duplicates:
        twice = table.columns[table.columns.duplicated()][0]
        raise InputError(f"{path}: several columns are named {twice!r}, capitals apart; remove or rename all but one")
    table = table.map(str.strip)
    if separator == ";":
        # As Excel writes where the decimal sign is a comma.
        table = table.replace(r"^([+-]?\d+),(\d+(?:[eE][+-]?\d+)?)$", r"\1.\2", regex=True)
    is_filled = (table != "").any(axis=1).to_numpy()
    numbers = [number for number, line in enumerate(lines, start=1) if line][1:]
    table = table[is_filled].reset_index(drop=True)
    table.attrs[HEADER] = written
    table.attrs[LINES] = [number for number, kept in zip(numbers, is_filled, strict=False) if kept]
    return table


def _without_comments(lines: list[str]) -> list[str]:
    """The lines, those of comments empty; where the columns' names are a comment, as numpy writes them, they stay."""
    kept = ["" if line.lstrip().startswith("#") else line.strip(" \r") for line in lines]
    first = next((number for number, line in enumerate(kept) if line), 0)
    if first and re.fullmatch(r"[\d\s,;.eE+-]+", kept[first]):
        kept[first - 1] = lines[first - 1].strip().lstrip("#").strip(" \r")
    return kept


def _plain_name(column: str) -> str:
    """``x_nm`` of ``X [nm]`` or ``x (nm)``."""
    return re.sub(r"[\s\[\](){}/_]+", "_", column.strip().lower()).strip("_")


def _coordinate_columns(path: Path, table: pd.DataFrame) -> tuple[tuple[str, ...], str, float]:
    there = set(table.columns)
    for name, (unit, factor) in UNITS.items():
        if {f"{axis}_{name}" for axis in "xyz"} <= there:
            return tuple(f"{axis}_{name}" for axis in "xyz"), unit, factor
    if SHAPES in there:
        raise InputError(f"{path}: shapes of napari, not points; save the points layer")
    if set(NAPARI) <= there:
        return _napari_columns(path, table), PIXELS, 1.0
    if {"x", "y", "z"} <= there:
        is_challenge = {"experiment", "particle_type"} <= there
        return ("x", "y", "z"), ANGSTROM if is_challenge else UNSAID, 1.0
    there = ", ".join(table.columns)
    raise InputError(f"{path}: no columns x, y, z; there are: {there}; the first line must name them, as x_angstrom")


def _napari_columns(path: Path, table: pd.DataFrame) -> tuple[str, ...]:
    """x, y, z: the last three axes, from the last; InputError for points at several times or channels."""
    numbers = sorted(int(found[1]) for name in table.columns if (found := re.fullmatch(NAPARI_AXIS, name)))
    axes = [f"axis-{number}" for number in numbers]
    if moving := [axis for axis in axes[:-3] if table[axis].nunique() > 1]:
        raise InputError(f"{path}: points have several values of {moving[0]}, which is no z, y or x; keep those of one")
    return tuple(axes[:-4:-1])


def _first(table: pd.DataFrame, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in table.columns), None)


def _numbers(path: Path, table: pd.DataFrame, column: str) -> np.ndarray:
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        line = table.attrs[LINES][int(np.flatnonzero(~np.isfinite(values))[0])]
        raise InputError(f"{path}, line {line}: {column} is no finite number; mend or remove the line")
    return values


def write(folder: Path, export: Export) -> list[Command]:
    """``picks.csv``: the challenge's submission with score, confidence, uncertainty and size behind it."""
    tables = [table for tomogram in export.tomograms if len(table := export.table(tomogram))]
    nothing = picks_table("", "", np.empty((0, 3)))
    write_submission(folder / "picks.csv", pd.concat(tables, ignore_index=True) if tables else nothing)
    return [Command(f"pandas.read_csv({str(folder.absolute() / 'picks.csv')!r})", "Python with pandas")]


def read_name_map(path: Path) -> dict[str, str]:
    """Name in the picks -> name meant, of a CSV of two columns; its first line may be a header, which does no harm."""
    table = _table(path)
    if table.shape[1] != 2:
        raise InputError(f"{path}: {table.shape[1]} columns; needed are two: name in the picks, name meant")
    return dict([table.attrs[HEADER], *table.itertuples(index=False, name=None)])
