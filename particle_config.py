"""The particle table: add a particle by adding a row here, and nothing else.

Radii and score weights are those of the CZII CryoET Object Identification challenge. A file that the environment
variable ETFINDER_PARTICLES names replaces all rows: a list of rows with name and radius_angstrom, and label,
score_weight, colour, loss_weight and aliases where they are not the defaults (import_dataset.py writes one); or the
config.json of a copick project.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from errors import InputError

BACKGROUND_LABEL = 0
PARTICLES_VARIABLE = "ETFINDER_PARTICLES"
# Of rows that name none, in their order.
COLOURS = ("#e6194b", "#f58231", "#ffe119", "#3cb44b", "#42d4f4", "#f032e6", "#4363d8", "#9a6324", "#469990", "#808000")


@dataclass(frozen=True)
class Particle:
    """One particle type.

    Attributes
    ----------
    name : the name used in file names, tables and the submission.
    radius_angstrom : physical radius; the score accepts a pick within half of it.
    score_weight : weight of the particle's F4 in the final score (0 = trained, but not scored).
    label : value in the mask and channel of the network, 1 to the number of particles.
    colour : colour in every picture (hex).
    loss_weight : default weight of the class in the training loss (background 1).
    aliases : other names of the same object, as data portals and users write them.
    """

    name: str
    radius_angstrom: float
    score_weight: float
    label: int
    colour: str
    loss_weight: float = 12.0
    aliases: tuple[str, ...] = ()


CHALLENGE: tuple[Particle, ...] = (
    Particle("apo-ferritin", 60.0, 1.0, 1, "#e6194b", 20.0, ("ferritin_complex", "ferritin", "apoferritin")),
    # beta-amylase scores nothing but is trained all the same: it keeps its look-alikes apart.
    Particle("beta-amylase", 65.0, 0.0, 2, "#f58231", 20.0, ()),
    Particle("beta-galactosidase", 90.0, 2.0, 3, "#ffe119", 20.0, ("b-galactosidase",)),
    Particle("ribosome", 150.0, 1.0, 4, "#3cb44b", 8.0, ("cytosolic_ribosome", "80s_ribosome")),
    Particle("thyroglobulin", 130.0, 2.0, 5, "#42d4f4", 12.0, ("human_thyroglobulin",)),
    Particle(
        "virus-like-particle",
        135.0,
        1.0,
        6,
        "#f032e6",
        8.0,
        ("virus_like_capsid", "pp7_vlp", "pseudomonas_phage_pp7_vlp", "vlp"),
    ),
)


def normalised_name(name: str) -> str:
    """Lower case, with ``-`` and blanks as ``_``: the spelling in which names are compared."""
    return re.sub(r"[-_\s]+", "_", name.strip().lower())


def find_particle(name: str, particles: Iterable[Particle] | None = None) -> Particle | None:
    """The particle of that name or alias (case and ``-``/``_``/blank ignored); None when no row knows it."""
    wanted = normalised_name(name)
    for particle in PARTICLES if particles is None else particles:
        if wanted in {normalised_name(known) for known in (particle.name, *particle.aliases)}:
            return particle
    return None


def table_as_dicts(particles: Iterable[Particle] | None = None) -> list[dict]:
    """The table as plain values, to be saved in a checkpoint."""
    particles = PARTICLES if particles is None else particles
    return [{**asdict(particle), "aliases": list(particle.aliases)} for particle in particles]


def table_from_dicts(rows: Iterable[Mapping]) -> tuple[Particle, ...]:
    """The inverse of :func:`table_as_dicts`."""
    return tuple(Particle(**{**row, "aliases": tuple(row["aliases"])}) for row in rows)


def read_table(path: Path) -> tuple[Particle, ...]:
    """The rows of a file as ETFINDER_PARTICLES names it, by label; InputError for what cannot be used."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"{PARTICLES_VARIABLE}: {path} is no readable JSON ({error}); mend it or unset it") from None
    rows = _rows_of_copick(content) if isinstance(content, dict) else content
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: no list of particles, nor a copick config with pickable_objects")
    particles = sorted((_particle(path, row, place) for place, row in enumerate(rows)), key=lambda one: one.label)
    check_table(particles, str(path))
    return tuple(particles)


def _rows_of_copick(config: Mapping) -> list[dict]:
    objects = [one for one in config.get("pickable_objects") or [] if one.get("is_particle", True)]
    return [
        {
            "name": one.get("name"),
            "radius_angstrom": one.get("radius"),
            "score_weight": (one.get("metadata") or {}).get("score_weight", 1.0),
            **({"colour": f"#{bytes(one['color'][:3]).hex()}"} if one.get("color") else {}),
        }
        for one in sorted(objects, key=lambda one: one.get("label") or 0)  # whose labels may have gaps
    ]


def _particle(path: Path, row: Mapping, place: int) -> Particle:
    row = {"label": place + 1, "score_weight": 1.0, "colour": COLOURS[place % len(COLOURS)], **row}
    if "color" in row:
        row["colour"] = row.pop("color")
    where = f"{path}, particle {place + 1} ({row.get('name')})"
    if unknown := sorted(set(row) - {field.name for field in fields(Particle)}):
        raise InputError(f"{where}: {unknown[0]!r} is no property of a particle; remove it")
    wanted = {"name": str, "radius_angstrom": (int, float), "label": int, "score_weight": (int, float), "colour": str}
    for name, kind in {**wanted, "loss_weight": (int, float), "aliases": (list, tuple)}.items():
        value = row.get(name, getattr(Particle, name, None))
        if not isinstance(value, kind) or isinstance(value, bool) or value != value:
            raise InputError(f"{where}: {name} is {value!r}; give it, as particle_config.py explains")
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", row["colour"]):
        raise InputError(f"{where}: colour is {row['colour']!r}, not one like #3cb44b")
    return Particle(**{**row, "aliases": tuple(row.get("aliases", ()))})


def check_table(particles: Iterable[Particle], where: str = "particle_config.py") -> None:
    """Labels must be 1..N in order, names and aliases unique, radii positive; InputError otherwise."""
    particles = tuple(particles)
    if [particle.label for particle in particles] != list(range(1, len(particles) + 1)):
        raise InputError(f"{where}: labels must be 1, 2, 3, ... in the order of the rows")
    spellings = [normalised_name(n) for p in particles for n in {p.name, *p.aliases}]
    repeated = {spelling for spelling in spellings if spellings.count(spelling) > 1}
    if repeated:
        raise InputError(f"{where}: the name or alias {sorted(repeated)[0]!r} stands in two rows")
    for particle in particles:
        if particle.radius_angstrom <= 0:
            raise InputError(f"{where}: radius of {particle.name} must be above 0 angstrom")


def _table_in_use() -> tuple[Particle, ...]:
    """Read when a script starts, before anything could turn a mistake into one line and exit code 2: so here."""
    path = os.environ.get(PARTICLES_VARIABLE)
    try:
        return read_table(Path(path).expanduser()) if path else CHALLENGE
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None


check_table(CHALLENGE)
PARTICLES: tuple[Particle, ...] = _table_in_use()
