"""The particle table: add a particle by adding a row here, and nothing else.

Radii and score weights are those of the CZII CryoET Object Identification challenge. The environment variable
ETFINDER_PARTICLES names a file whose rows take the place of these, see particle_file.py.
"""

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from errors import InputError
from particle_file import checked_rows, read_particle_rows

BACKGROUND_LABEL = 0
VARIABLE = "ETFINDER_PARTICLES"


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


CHALLENGE_PARTICLES: tuple[Particle, ...] = (
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


def table_from_dicts(rows: Iterable[Mapping]) -> tuple[Particle, ...]:
    """The inverse of :func:`table_as_dicts`; InputError for a row with a field too few or unknown."""
    known, table = {field.name for field in fields(Particle)}, []
    for row in rows:
        if unknown := sorted(set(row) - known):
            raise InputError(f"a particle is described by {unknown[0]!r}, which only a later version knows; use that")
        try:
            table.append(Particle(**{**row, "aliases": tuple(row["aliases"])}))
        except (KeyError, TypeError) as error:
            raise InputError(f"a particle is not described whole ({error})") from None
    return tuple(table)


def check_table(particles: Iterable[Particle], source: str = "particle_config.py") -> None:
    """Labels must be 1..N in order, names and aliases unique, radii positive, not all score weights 0.

    InputError otherwise, which names the ``source`` of the table.
    """
    particles = tuple(particles)
    if [particle.label for particle in particles] != list(range(1, len(particles) + 1)):
        raise InputError(f"{source}: labels must be 1, 2, 3, ... in the order of the rows")
    spellings = [normalised_name(spelling) for p in particles for spelling in _spellings(p)]
    repeated = {spelling for spelling in spellings if spellings.count(spelling) > 1}
    if repeated:
        raise InputError(f"{source}: the name or alias {sorted(repeated)[0]!r} stands in two rows; rename one of them")
    for particle in particles:
        if particle.radius_angstrom <= 0:
            raise InputError(f"{source}: radius of {particle.name} must be above 0 angstrom")
    if not any(particle.score_weight > 0 for particle in particles):
        raise InputError(f"{source}: every score_weight is 0, so nothing would be scored; give one above 0")


def _spellings(particle: Particle) -> set[str]:
    """Of one row; it may name itself again by an alias."""
    return {normalised_name(name) for name in (particle.name, *particle.aliases)}


def given_table(variable: str | None) -> tuple[Particle, ...] | None:
    """The table of the file that the environment variable names; None where it is not set, InputError where wrong."""
    if not variable:
        return None
    try:
        return read_table(Path(variable).expanduser())
    except InputError as error:
        raise InputError(f"{VARIABLE}: {error}") from None


def read_table(path: Path) -> tuple[Particle, ...]:
    """The table of a file as ETFINDER_PARTICLES names it; InputError where there is none or it is wrong."""
    return _table(read_particle_rows(path), str(path))


def table_from_rows(rows: Iterable[Mapping], source: str) -> tuple[Particle, ...]:
    """The table of rows as such a file holds them; InputError, which names the ``source``, where one is wrong."""
    return _table(checked_rows(list(rows), source), source)


def _table(arguments: Iterable[Mapping], source: str) -> tuple[Particle, ...]:
    particles = tuple(Particle(**one) for one in arguments)
    check_table(particles, source)
    return particles


def _given_or_exit() -> tuple[Particle, ...] | None:
    """Read when a script begins, before there is anything that could catch an error."""
    try:
        return given_table(os.environ.get(VARIABLE))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


# What the user gave by the variable, or None; the table in effect, and where to mend it.
GIVEN_PARTICLES = _given_or_exit()
PARTICLES: tuple[Particle, ...] = GIVEN_PARTICLES or CHALLENGE_PARTICLES
TABLE_SOURCE = os.environ[VARIABLE] if GIVEN_PARTICLES else "particle_config.py"


def find_particle(name: str, particles: Iterable[Particle] = PARTICLES) -> Particle | None:
    """The particle of that name or alias (case and ``-``/``_``/blank ignored); None when no row knows it."""
    wanted = normalised_name(name)
    return next((particle for particle in particles if wanted in _spellings(particle)), None)


def table_as_dicts(particles: Iterable[Particle] = PARTICLES) -> list[dict]:
    """The table as plain values, to be saved in a checkpoint."""
    return [{**asdict(particle), "aliases": list(particle.aliases)} for particle in particles]


check_table(CHALLENGE_PARTICLES)
