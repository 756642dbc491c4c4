"""A table of particles in a file of its own: one's own list of rows, or the configuration of a copick project.

    [{"name": "proteasome", "radius_angstrom": 75},
     {"name": "nucleosome", "radius_angstrom": 50, "score_weight": 2, "color": "#4363d8", "aliases": ["ncp"]}]

What a row may hold is in KEYS. Of a copick configuration the ``pickable_objects`` count, but for those whose
``is_particle`` is false (https://copick.github.io/copick/, "Configuration").
"""

import colorsys
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from errors import InputError, raise_scarcity

KEYS = ("name", "radius_angstrom", "label", "score_weight", "loss_weight", "color", "aliases")
NEEDED = ("name", "radius_angstrom")
# Names of files, columns and folders are made of them.
NAME = re.compile(r"[^\W_][\w.+-]*")
LONGEST_NAME = 50  # bytes: names of files hold that of a tomogram as well
# What stands beside particles in the names of checkpoints and in tables.
TAKEN_NAMES = ("fscore", "all", "background")
MOST_PARTICLES = 255  # labels of a uint8 mask
# Of what is found in tomograms, from small proteins to large viruses; of weights.
LEAST_RADIUS_ANGSTROM, LARGEST_RADIUS_ANGSTROM, LARGEST_WEIGHT = 1, 10_000, 1_000_000
# Hues that follow each other by this share of the circle stay apart, however many there are.
GOLDEN_RATIO = 0.618034


def read_particle_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, by label from 1 on, as keyword arguments of particle_config.Particle.

    Raises
    ------
    InputError : no such file, no JSON, or rows as :func:`checked_rows` refuses them.
    """
    try:
        if not path.is_file():
            raise FileNotFoundError
        content = json.loads(path.read_bytes())
    except FileNotFoundError:  # also for a pipe or a device
        raise InputError(f"{path}: no such file of particles; mend the path or unset the variable") from None
    except (OSError, ValueError, RecursionError) as error:
        raise_scarcity(error)
        raise InputError(f"{path} cannot be read as JSON ({error}); mend the file") from None
    return checked_rows(content, str(path))


def checked_rows(content: object, source: str) -> list[dict[str, Any]]:
    """The rows of such a file's content, by label from 1 on, as keyword arguments of particle_config.Particle.

    InputError, which names the ``source``: no rows, or a row with a value that is missing, wrong or unknown.
    """
    of_copick = isinstance(content, dict) and isinstance(content.get("pickable_objects"), list)
    if not of_copick and not isinstance(content, list):
        raise InputError(
            f"{source} holds neither a list of particles nor the pickable_objects of a copick configuration"
        )
    found = content["pickable_objects"] if of_copick else content
    given = [row if isinstance(row, dict) else {"name": row} for row in found]
    rows = rows_of_copick(given) if of_copick else given
    if not 1 <= len(rows) <= MOST_PARTICLES:
        raise InputError(f"{source} holds {len(rows)} particles; give 1 to {MOST_PARTICLES}")
    for number, row in enumerate(rows, start=1):
        _check_row(f"{source}, particle {number}", row)
    rows = _by_label(source, rows, gaps=of_copick)
    return [_arguments(row, label) for label, row in enumerate(rows, start=1)]


def is_particle_name(name: str) -> bool:
    """Whether files, columns and folders can be named after it."""
    return bool(NAME.fullmatch(name)) and len(name.encode()) <= LONGEST_NAME and name.lower() not in TAKEN_NAMES


def rows_of_copick(objects: Sequence[Mapping]) -> list[dict[str, Any]]:
    """Rows of our own, not checked, of a copick project's objects; those that are not particles are left out."""
    rows = []
    for one in objects:
        metadata = one.get("metadata") if isinstance(one.get("metadata"), dict) else {}
        row = {"name": one.get("name"), "radius_angstrom": one.get("radius"), "label": one.get("label")}
        row |= {"score_weight": metadata.get("score_weight"), "color": one.get("color")}
        if one.get("is_particle", True):
            rows.append({key: value for key, value in row.items() if value is not None})
    return rows


def _check_row(where: str, row: Mapping[str, Any]) -> None:
    name = row.get("name")
    if not (isinstance(name, str) and is_particle_name(name)):
        raise InputError(
            f'{where}: name is {name!r}; give a "name" of letters, digits and - _ . +, up to {LONGEST_NAME} bytes, '
            f"that is none of {', '.join(TAKEN_NAMES)}"
        )
    where = f"{where} ({name})"
    if missing := [key for key in NEEDED if key not in row]:
        raise InputError(f"{where}: {missing[0]} is missing; add it (a copick configuration calls it radius)")
    if unknown := sorted(set(row) - set(KEYS)):
        raise InputError(f"{where}: unknown key {unknown[0]!r}; there are: {', '.join(KEYS)}")
    radius, bounds = row["radius_angstrom"], (LEAST_RADIUS_ANGSTROM, LARGEST_RADIUS_ANGSTROM)
    if not (_is_number(radius) and bounds[0] <= radius <= bounds[1]):
        raise InputError(f"{where}: radius_angstrom is {radius!r}; give a number from {bounds[0]} to {bounds[1]}")
    for key in ("score_weight", "loss_weight"):
        if key in row and not (_is_number(row[key]) and 0 <= row[key] <= LARGEST_WEIGHT):
            raise InputError(f"{where}: {key} is {row[key]!r}; give a number from 0 to {LARGEST_WEIGHT}")
    if "label" in row and not (type(row["label"]) is int and row["label"] > 0):
        raise InputError(f"{where}: label is {row['label']!r}; give a whole number from 1 up (0 is the background)")
    if "color" in row and _hex(row["color"]) is None:
        raise InputError(f"{where}: color is {row['color']!r}; give #rrggbb or three numbers from 0 to 255")
    aliases = row.get("aliases", [])
    if not (isinstance(aliases, list) and all(isinstance(one, str) and one.strip() for one in aliases)):
        raise InputError(f"{where}: aliases is {aliases!r}; give a list of names")


def _by_label(source: str, rows: Sequence[Mapping], *, gaps: bool) -> list[Mapping]:
    """In the order of their labels, or as they stand where none has one.

    A copick project also numbers what is no particle: its labels may have gaps, and count by their order alone.
    """
    labels = [row["label"] for row in rows if "label" in row]
    if not labels:
        return list(rows)
    if len(labels) < len(rows):
        raise InputError(f"{source}: some particles have a label and others none; give all of them one, or none")
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        names = " and ".join(row["name"] for row in rows if row["label"] == repeated[0])
        raise InputError(f"{source}: {names} have the same label {repeated[0]}; give every particle its own")
    if not gaps and max(labels) > len(rows):
        raise InputError(f"{source}: the labels must be 1 to {len(rows)}, but one is {max(labels)}; leave no gaps")
    return sorted(rows, key=lambda row: row["label"])


def _arguments(row: Mapping[str, Any], label: int) -> dict[str, Any]:
    return {
        "name": row["name"],
        "radius_angstrom": float(row["radius_angstrom"]),
        "score_weight": float(row.get("score_weight", 1.0)),
        "label": label,
        "colour": _hex(row["color"]) if "color" in row else _distinct_colour(label),
        "aliases": tuple(row.get("aliases", ())),
        **({"loss_weight": float(row["loss_weight"])} if "loss_weight" in row else {}),
    }


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def _hex(colour: object) -> str | None:
    """``#rrggbb`` of such a text or of red, green, blue (and opacity) from 0 to 255; None for anything else."""
    if isinstance(colour, str):
        return colour.lower() if re.fullmatch(r"#[0-9a-fA-F]{6}", colour) else None
    if isinstance(colour, list) and len(colour) in (3, 4) and all(_is_number(v) and 0 <= v <= 255 for v in colour):
        return "#" + "".join(f"{round(value):02x}" for value in colour[:3])
    return None


def _distinct_colour(label: int) -> str:
    return _hex([255 * value for value in colorsys.hsv_to_rgb(label * GOLDEN_RATIO % 1, 0.75, 0.9)])
