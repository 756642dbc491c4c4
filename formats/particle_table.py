"""particles.json: the table of the particles that a data set holds, in the form that particle_file.py reads."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from data.files import atomic_path
from data.number_ranges import NumberRange
from errors import InputError
from particle_config import PARTICLES, Particle, find_particle, normalised_name, table_from_rows
from particle_file import LARGEST_RADIUS_ANGSTROM, LEAST_RADIUS_ANGSTROM, is_particle_name

PARTICLES_FILE = "particles.json"
RADIUS_ANGSTROM = NumberRange(LEAST_RADIUS_ANGSTROM, LARGEST_RADIUS_ANGSTROM)
# Told apart by most eyes, and none of the built-in table's colours.
COLOURS = ("#4363d8", "#bfef45", "#9a6324", "#469990", "#dcbeff", "#800000", "#808000", "#000075")


def table_name(name: str, table: Sequence[Particle] = ()) -> str:
    """The particle's name in that table or the built-in one, where they know it; else as written."""
    known = find_particle(name, table) or find_particle(name)
    if known is None and not is_particle_name(name.strip()):
        raise InputError(
            f"particle name {name!r} is taken, longer than 50 bytes, or not made of letters, digits and - _ . +; "
            "give another one with --name_map"
        )
    return name.strip() if known is None else known.name


def particle_table(
    names: Sequence[str],
    *,
    radii_angstrom: Mapping[str, float],
    given_rows: Mapping[str, Mapping] | None = None,
    existing: Sequence[Particle] = (),
    source: str,
) -> tuple[Particle, ...]:
    """The particles of a data set: those that are there, then built-in ones in their order, then the others.

    Values come from ``radii_angstrom`` (--radius), else ``given_rows`` (a copick config, named ``source`` in errors),
    else the built-in table.
    InputError names all particles without a radius, one that would change, two that differ in capitals alone, and a
    value that no table can have.
    """
    spellings: dict[str, str] = {}
    for name in sorted(set(names)):
        if (other := spellings.setdefault(normalised_name(name), name)) != name:
            raise InputError(f"particles {other} and {name} have the same name; make them one with --name_map")
    rows = [_row_of(particle) for particle in existing]
    order = {particle.name: particle.label for particle in PARTICLES}
    for name in sorted(set(names), key=lambda name: (order.get(name, len(order) + 1), name)):
        old = find_particle(name, existing)
        if old is None:
            row = {"color": COLOURS[len(rows) % len(COLOURS)], **_new_row(name, radii_angstrom, given_rows or {})}
            rows.append({**row, "label": len(rows) + 1})
        elif name in radii_angstrom and old.radius_angstrom != radii_angstrom[name]:
            raise InputError(f"{name} has radius {old.radius_angstrom:g} in {PARTICLES_FILE}; change it there")
    if nameless := [row["name"] for row in rows if not row.get("radius_angstrom")]:
        flags = " ".join(f"{name}=ANGSTROM" for name in nameless)
        raise InputError(f"radius of {', '.join(nameless)} is not known; give --radius {flags}")
    # What the challenge does not score is scored where there is nothing else.
    is_scored = any(row.get("score_weight", 1.0) for row in rows)
    return table_from_rows([row if is_scored else {**row, "score_weight": 1.0} for row in rows], source)


def _new_row(name: str, radii: Mapping[str, float], given: Mapping[str, Mapping]) -> dict:
    built_in = find_particle(name)
    row = {} if built_in is None else _row_of(built_in)
    row |= {**given.get(name, {}), "name": name}
    return row | ({"radius_angstrom": radii[name]} if name in radii else {})


def _row_of(particle: Particle) -> dict:
    """As particle_file.py reads it; what is not said there is left out."""
    row = {"name": particle.name, "radius_angstrom": particle.radius_angstrom, "score_weight": particle.score_weight}
    row |= {"label": particle.label, "color": particle.colour}
    if particle.loss_weight != Particle.loss_weight:
        row["loss_weight"] = particle.loss_weight
    return {**row, "aliases": list(particle.aliases)} if particle.aliases else row


def write_table(path: Path, particles: Sequence[Particle]) -> None:
    with atomic_path(path) as temporary:
        rows = [_row_of(particle) for particle in particles]
        temporary.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def parse_radii(words: Sequence[str], table: Sequence[Particle] = ()) -> dict[str, float]:
    """NAME=ANGSTROM of the command line, by the names of the table; InputError for anything else."""
    radii = {}
    for word in words:
        name, _, value = word.rpartition("=")
        try:
            radius = RADIUS_ANGSTROM(value)
        except argparse.ArgumentTypeError as error:
            raise InputError(f"--radius {word}: write it as NAME=ANGSTROM; ANGSTROM {error}") from error
        if not name:
            raise InputError(f"--radius {word}: write it as NAME=ANGSTROM")
        radii[table_name(name, table)] = radius
    return radii
