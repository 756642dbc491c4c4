"""The rows of particles.json: name, radius, label, weight and colour of the particles that a data set holds."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from data.files import atomic_path
from errors import InputError
from particle_config import PARTICLES, find_particle, normalised_name
from particle_file import NAME, TAKEN_NAMES

# Told apart by most eyes, and none of the built-in table's colours.
COLOURS = ("#4363d8", "#bfef45", "#9a6324", "#469990", "#dcbeff", "#800000", "#808000", "#000075")


def table_name(name: str) -> str:
    """The particle's name in the built-in table, where that knows it; else as written."""
    known = find_particle(name)
    if known is None and not (NAME.fullmatch(name.strip()) and name.strip().lower() not in TAKEN_NAMES):
        raise InputError(
            f"particle name {name!r} is taken, or not made of letters, digits and - _ . +; "
            "give another one with --name_map"
        )
    return name.strip() if known is None else known.name


def particle_rows(
    names: Sequence[str],
    *,
    radii_angstrom: Mapping[str, float],
    given_rows: Mapping[str, Mapping] | None = None,
    existing_rows: Sequence[Mapping] = (),
) -> list[dict]:
    """A row for each name, labels 1, 2, ...: those that are there, then built-in ones in their order, then the others.

    Values come from ``radii_angstrom`` (--radius), else ``given_rows`` (a copick config), else the built-in table.
    InputError names all particles without a radius, a radius that is not above 0, and one that would change.
    """
    rows = [dict(row) for row in existing_rows]
    order = {particle.name: particle.label for particle in PARTICLES}
    for name in sorted(set(names), key=lambda name: (order.get(name, len(order) + 1), name)):
        row = _row(name, radii_angstrom, given_rows or {})
        old = next((one for one in rows if normalised_name(one["name"]) == normalised_name(name)), None)
        if old is None:
            rows.append({**row, "label": len(rows) + 1, "color": row["color"] or COLOURS[len(rows) % len(COLOURS)]})
        elif name in radii_angstrom and old["radius_angstrom"] != radii_angstrom[name]:
            raise InputError(f"{name} has radius {old['radius_angstrom']:g} in particles.json; change it there")
    nameless = [row["name"] for row in rows if row["radius_angstrom"] is None]
    if nameless:
        flags = " ".join(f"{name}=ANGSTROM" for name in nameless)
        raise InputError(f"radius of {', '.join(nameless)} is not known; give --radius {flags}")
    return rows


def _row(name: str, radii: Mapping[str, float], given: Mapping[str, Mapping]) -> dict:
    built_in = find_particle(name)
    row = {"name": name, "radius_angstrom": None, "label": 0, "score_weight": 1.0, "color": None}
    if built_in is not None:
        row |= {"radius_angstrom": built_in.radius_angstrom, "score_weight": built_in.score_weight}
        row["color"] = built_in.colour
    row |= {key: value for key, value in given.get(name, {}).items() if key != "name"}
    return row | ({"radius_angstrom": radii[name]} if name in radii else {})


def read_rows(path: Path) -> list[dict]:
    """The rows of an earlier import; none where there is no file."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        return [
            {"label": label, "score_weight": 1.0, "color": COLOURS[label % len(COLOURS)], **row}
            | {"name": str(row["name"]), "radius_angstrom": float(row["radius_angstrom"])}
            for label, row in enumerate(rows, start=1)
        ]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: not readable ({error}); restore it or remove it") from error


def write_rows(path: Path, rows: Sequence[Mapping]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def parse_radii(words: Sequence[str]) -> dict[str, float]:
    """NAME=ANGSTROM of the command line; InputError for anything else."""
    radii = {}
    for word in words:
        name, _, value = word.rpartition("=")
        try:
            radius = float(value)
        except ValueError:
            radius = 0.0
        if not name or not 0 < radius < float("inf"):
            raise InputError(f"--radius {word}: write it as NAME=ANGSTROM with a number above 0")
        radii[table_name(name)] = radius
    return radii
