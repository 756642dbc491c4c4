"""thresholds.json: hyperparameters of detection, one entry per tomogram or search that they were found on.

    {"fold_0": {"hyperparameters": {"peak_local_max_gpu": {"ribosome": {"peak_threshold": 0.4, ...}, ...}}, ...}, ...}

What else an entry holds says where the values come from. Who uses several entries takes the mean of their values. All
lengths are in radii of the particles, so an entry says which radii it was found with (``radii_angstrom``).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.files import atomic_path
from data.number_ranges import NumberRange
from data.text_files import read_json
from errors import InputError
from particle_config import Particle

# Of the values that are no hyperparameters.
OF_ANY_SIGN = NumberRange(-1e9, 1e9)
# Method -> particle name -> keyword -> value.
Hyperparameters = Mapping[str, Mapping[str, Mapping[str, float]]]


def write_thresholds(path: Path, entries: Mapping[str, Mapping[str, Any]], particles: Sequence[Particle]) -> None:
    """Write the file at once or not at all; every entry has ``hyperparameters``, and gets the particles' radii."""
    radii = {particle.name: particle.radius_angstrom for particle in particles}
    entries = {name: {**entry, "radii_angstrom": radii} for name, entry in entries.items()}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(entries, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_thresholds(
    path: Path,
    *,
    method: str,
    ranges: Mapping[str, NumberRange],
    particles: Sequence[Particle],
    optional: Sequence[str] = (),
    conditions: Mapping[str, Any] | None = None,
) -> list[dict[str, dict[str, dict[str, float]]]]:
    """The hyperparameters of a method from every entry that has them: method -> particle name -> keyword -> value.

    Parameters
    ----------
    ranges : of the method's keywords, each of which is asked for
    particles : of each the values are asked for
    optional : keywords that a particle may have as well; of any sign
    conditions : the optional values of entries that were found under others (``calibrated_with``) are left out; None:
        all are kept

    Raises
    ------
    InputError
        Not such a file, no entry for the method, a particle or keyword too few or unknown, a radius that is not the
        particle's, or a value out of range.
    """
    entries = read_json(path, advice="give a thresholds.json")
    if not isinstance(entries, dict) or not entries:
        raise InputError(f"{path} holds no hyperparameters; give a thresholds.json as a search or training writes it")
    tables = {name: _table(path, name, entry) for name, entry in entries.items()}
    found = {name: table[method] for name, table in tables.items() if method in table}
    if not found:
        there = ", ".join(sorted({known for table in tables.values() for known in table})) or "none"
        raise InputError(f"{path} holds no hyperparameters of method {method}, only of: {there}")
    names = [particle.name for particle in particles]
    for name, values in found.items():
        where = f"{path}, {name}, {method}"
        _check_keys(where, values, "particle", names)
        if (radii := entries[name].get("radii_angstrom")) is not None:  # files of earlier versions have none
            _check_radii(f"{path}, {name}", radii, particles)
        for particle in names:
            _check_keys(f"{where}, {particle}", values[particle], "hyperparameter", list(ranges), optional)
            _check_values(f"{where}, {particle}", values[particle], ranges)

    def kept(name: str, values: Mapping[str, float]) -> dict[str, float]:
        others = conditions is not None and entries[name].get("calibrated_with") != conditions
        return {keyword: value for keyword, value in values.items() if not (others and keyword in optional)}

    return [{method: {particle: kept(name, values[particle]) for particle in names}} for name, values in found.items()]


def _table(path: Path, name: str, entry: object) -> dict:
    table = entry.get("hyperparameters") if isinstance(entry, dict) else None
    if not isinstance(table, dict):
        raise InputError(f'{path}: entry {name!r} has no "hyperparameters"; each entry needs them')
    return table


def _check_keys(where: str, values: object, what: str, expected: Sequence[str], optional: Sequence[str] = ()) -> None:
    if not isinstance(values, dict):
        raise InputError(f"{where}: not a table of {what}s")
    if unknown := sorted(set(values) - {*expected, *optional}):
        raise InputError(f"{where}: unknown {what} {unknown[0]!r}; there are: {', '.join(expected)}")
    if missing := [name for name in expected if name not in values]:
        raise InputError(f"{where}: {what} {missing[0]!r} is missing; add it")


def _check_radii(where: str, radii: object, particles: Sequence[Particle]) -> None:
    _check_keys(where, radii, "particle", [particle.name for particle in particles])
    for particle in particles:
        if radii[particle.name] != particle.radius_angstrom:
            raise InputError(
                f"{where}: found with a radius of {radii[particle.name]} A for {particle.name}, which has "
                f"{particle.radius_angstrom:g} A in the table of the networks; search again"
            )


def _check_values(where: str, values: Mapping[str, object], ranges: Mapping[str, NumberRange]) -> None:
    for keyword, value in values.items():
        if value not in (allowed := ranges.get(keyword, OF_ANY_SIGN)):
            raise InputError(f"{where}: {keyword} is {value!r}; it must be {allowed}")
