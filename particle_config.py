"""The particle table: add a particle by adding a row here, and nothing else.

Radii and score weights are those of the CZII CryoET Object Identification challenge.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from errors import InputError

BACKGROUND_LABEL = 0


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


PARTICLES: tuple[Particle, ...] = (
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


def find_particle(name: str, particles: Iterable[Particle] = PARTICLES) -> Particle | None:
    """The particle of that name or alias (case and ``-``/``_``/blank ignored); None when no row knows it."""
    wanted = normalised_name(name)
    for particle in particles:
        if wanted in {normalised_name(known) for known in (particle.name, *particle.aliases)}:
            return particle
    return None


def table_as_dicts(particles: Iterable[Particle] = PARTICLES) -> list[dict]:
    """The table as plain values, to be saved in a checkpoint."""
    return [{**asdict(particle), "aliases": list(particle.aliases)} for particle in particles]


def table_from_dicts(rows: Iterable[Mapping]) -> tuple[Particle, ...]:
    """The inverse of :func:`table_as_dicts`."""
    return tuple(Particle(**{**row, "aliases": tuple(row["aliases"])}) for row in rows)


def check_table(particles: Iterable[Particle]) -> None:
    """Labels must be 1..N in order, names and aliases unique, radii positive; InputError otherwise."""
    particles = tuple(particles)
    if [particle.label for particle in particles] != list(range(1, len(particles) + 1)):
        raise InputError("particle_config.py: labels must be 1, 2, 3, ... in the order of the rows")
    spellings = [normalised_name(n) for p in particles for n in {p.name, *p.aliases}]
    repeated = {spelling for spelling in spellings if spellings.count(spelling) > 1}
    if repeated:
        raise InputError(f"particle_config.py: the name or alias {sorted(repeated)[0]!r} stands in two rows")
    for particle in particles:
        if particle.radius_angstrom <= 0:
            raise InputError(f"particle_config.py: radius of {particle.name} must be above 0 angstrom")


check_table(PARTICLES)
