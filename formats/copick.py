"""Picks JSON of copick: angstrom, one file for each run, object, user and session (see data/picks.py)."""

from pathlib import Path

from data.picks import read_picks
from formats.point_groups import ANGSTROM, PointGroup

SUFFIXES = (".json",)


def recognises(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES) and not path.name.endswith("_info.json")


def read(path: Path) -> list[PointGroup]:
    """InputError for a file that is no picks file, or a unit other than angstrom."""
    picks = read_picks(path)
    name = picks.run_name or (path.parents[1].name if path.parent.name == "Picks" else None)
    return [
        PointGroup(path, picks.coordinates_zyx_angstrom[:, ::-1], ANGSTROM, name, picks.particle_name, picks.scores)
    ]
