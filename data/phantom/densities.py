"""Densities of the phantom's objects as clouds of weighted points, procedural and with the right symmetry.

A cloud can be turned and moved to any position without interpolation; it becomes voxels only once, in
:mod:`data.phantom.scene`. Weights are volumes in cubic angstrom times contrast against ice (protein = 1).
"""

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from particle_config import Particle, normalised_name

# Pseudo-atoms this far apart blend into one smooth density at the resolution of a tomogram.
POINT_SPACING_ANGSTROM = 7.0
RNA_CONTRAST = 1.4  # phosphorus-rich and denser than protein
GOLD_CONTRAST = 6.0
GOLD_RADIUS_ANGSTROM = 50.0
# A bilayer about 40 angstrom thick: two dense head-group sheets; the tails scatter about as ice does.
MEMBRANE_LEAFLET_OFFSET_ANGSTROM = 16.0
MEMBRANE_LEAFLET_THICKNESS_ANGSTROM = 9.0

# Contrast at (N, 3) zyx positions in angstrom, 0 outside the molecule.
Shape = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class PointDensity:
    """``offsets_zyx_angstrom`` (N, 3) from the centre, ``weights`` (N,) in cubic angstrom x contrast."""

    offsets_zyx_angstrom: np.ndarray
    weights: np.ndarray

    @property
    def radius_angstrom(self) -> float:
        """Distance of the outermost point from the centre."""
        return float(np.linalg.norm(self.offsets_zyx_angstrom, axis=1).max(initial=0.0))


def density_of(particle: Particle) -> PointDensity:
    """The particle's own procedure, or for a row without one a reproducible asymmetric cluster of blobs."""
    shape = SHAPES.get(normalised_name(particle.name))
    if shape is None:
        return blob_cluster(particle.name, particle.radius_angstrom)
    group, contrast_at = shape
    return _sampled(contrast_at, particle.radius_angstrom, group)


def symmetry_rotations_zyx(group: str) -> np.ndarray:
    """(order, 3, 3) matrices on zyx vectors of a point group: ``C1``, ``C2``, ``D2``, ``O`` or ``I``."""
    return Rotation.create_group(group).as_matrix()


def symmetry_axes_zyx(group: str, fold: int) -> np.ndarray:
    """Unit vectors (N, 3) along the ``fold``-fold axes of the group, both ends of each axis."""
    vectors = Rotation.create_group(group).as_rotvec()
    angles = np.linalg.norm(vectors, axis=1)
    chosen = np.isclose(angles, 2 * math.pi / fold)
    axes = vectors[chosen] / angles[chosen, None]
    axes = np.concatenate([axes, -axes])
    return np.unique(axes.round(9), axis=0)


def blob_cluster(name: str, radius_angstrom: float) -> PointDensity:
    """An asymmetric protein-like cluster that depends on the name and the radius alone."""
    rng = np.random.default_rng(zlib.crc32(normalised_name(name).encode()))
    count = int(rng.integers(5, 10))
    radii = radius_angstrom * rng.uniform(0.25, 0.45, count)
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    # Squeezed along one random axis, so that clusters are elongated more often than round.
    directions[:, rng.integers(3)] *= rng.uniform(0.3, 1.0)
    centres = directions * (0.97 * radius_angstrom - radii)[:, None]
    blobs = [(tuple(centre), radius, 1.0) for centre, radius in zip(centres, radii, strict=True)]
    # A core holds the outer blobs together.
    blobs.append(((0.0, 0.0, 0.0), 0.45 * radius_angstrom, 1.0))
    return _sampled(_union(blobs), radius_angstrom, "C1")


def gold_bead() -> PointDensity:
    """A solid sphere of 100 angstrom diameter, far denser than anything biological."""
    return _sampled(lambda p: GOLD_CONTRAST * (_norm(p) < GOLD_RADIUS_ANGSTROM), GOLD_RADIUS_ANGSTROM, "C1")


def vesicle(semi_axes_zyx_angstrom: np.ndarray) -> PointDensity:
    """A closed bilayer: the two leaflets of an ellipsoid, evenly covered by points."""
    mean_radius = float(np.prod(semi_axes_zyx_angstrom) ** (1 / 3))
    count = round(4 * math.pi * mean_radius**2 / POINT_SPACING_ANGSTROM**2)
    i = np.arange(count) + 0.5
    # Fibonacci sphere: the golden angle spreads points evenly without any pattern at the poles.
    cos_polar, azimuth = 1 - 2 * i / count, math.pi * (1 + math.sqrt(5)) * i
    sin_polar = np.sqrt(1 - cos_polar**2)
    unit = np.stack([cos_polar, sin_polar * np.sin(azimuth), sin_polar * np.cos(azimuth)], axis=1)
    normals = unit / semi_axes_zyx_angstrom
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    middle = unit * semi_axes_zyx_angstrom
    # Points of a stretched sphere stand for unequal areas.
    area = np.prod(semi_axes_zyx_angstrom) * np.linalg.norm(unit / semi_axes_zyx_angstrom, axis=1)
    area *= 4 * math.pi / count
    step = MEMBRANE_LEAFLET_OFFSET_ANGSTROM * normals
    weights = area * MEMBRANE_LEAFLET_THICKNESS_ANGSTROM
    return PointDensity(np.concatenate([middle + step, middle - step]), np.concatenate([weights, weights]))


# --- Sampling -----------------------------------------------------------------------------------------
def _sampled(contrast_at: Shape, radius_angstrom: float, group: str) -> PointDensity:
    """Fill the union of a shape's symmetry mates with points: exactly symmetric, centred, in the radius."""
    rotations = symmetry_rotations_zyx(group)
    count = round((2 * radius_angstrom / POINT_SPACING_ANGSTROM) ** 3 / len(rotations))
    points = radius_angstrom * (2 * _evenly_spread(count) - 1)
    # Any region of the group's order in size will do as its share: the mates of its points fill the rest.
    contrast = np.max([contrast_at(points @ rotation.T) for rotation in rotations], axis=0)
    weights = contrast * (_norm(points) <= radius_angstrom)
    points, weights = points[weights > 0], weights[weights > 0]
    points = np.einsum("gij,nj->gni", rotations, points).reshape(-1, 3)
    weights = np.tile(weights, len(rotations)) * ((2 * radius_angstrom) ** 3 / (count * len(rotations)))
    points -= np.average(points, axis=0, weights=weights)
    # Centring can push an asymmetric molecule's tip past the radius of the table.
    points *= min(1.0, radius_angstrom / _norm(points).max())
    return PointDensity(points, weights)


def _evenly_spread(count: int) -> np.ndarray:
    """(count, 3) points in the unit cube: Roberts' additive recurrence, evener than random, no lattice."""
    plastic = 1.2207440846057596  # the real root of x^4 = x + 1
    steps = plastic ** -np.arange(1.0, 4.0)
    return (0.5 + np.arange(1, count + 1)[:, None] * steps) % 1.0


def _norm(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points, axis=1)


def _union(blobs: list[tuple]) -> Shape:
    """Contrast of the densest blob at each point; a blob is (centre, radius or semi-axes, contrast), zyx."""

    def contrast_at(points: np.ndarray) -> np.ndarray:
        inside = [c * (_norm((points - np.asarray(o)) / np.asarray(r)) < 1) for o, r, c in blobs]
        return np.max(inside, axis=0)

    return contrast_at


# --- The six molecules --------------------------------------------------------------------------------
def _apo_ferritin(points: np.ndarray) -> np.ndarray:
    """Hollow cage, 120 angstrom outside and 80 inside, with pores on its 4-fold and 3-fold axes."""
    distance = _norm(points)
    unit = points / np.maximum(distance, 1e-9)[:, None]
    four = (unit @ symmetry_axes_zyx("O", 4).T).max(axis=1)
    three = (unit @ symmetry_axes_zyx("O", 3).T).max(axis=1)
    # 24 subunits: the cage is thickest on the 2-fold axes, between the pores.
    outer = 60.0 - 5.0 * (np.maximum(four, three) > math.cos(math.radians(20)))
    pore = np.maximum(four, three) > math.cos(math.radians(8))
    return (distance > 40.0) & (distance < outer) & ~pore


def _virus_like_particle(points: np.ndarray) -> np.ndarray:
    """Hollow T = 3 shell of about 270 angstrom; 12 five-fold and 20 six-fold capsomers bulge from it."""
    distance = _norm(points)
    unit = points / np.maximum(distance, 1e-9)[:, None]
    capsomers = np.concatenate([symmetry_axes_zyx("I", 5), symmetry_axes_zyx("I", 3)])
    near = (unit @ capsomers.T).max(axis=1) > math.cos(math.radians(14))
    # A capsid one protein thick, with gaps between its subunits: less dense than a solid protein.
    return 0.7 * ((distance > 116.0) & (distance < np.where(near, 135.0, 128.0)))


_BETA_AMYLASE = _union([((29.0, 20.0, 9.0), 25.0, 1.0)])
_BETA_GALACTOSIDASE = _union([((43.0, 24.0, 12.0), (41.0, 31.0, 27.0), 1.0)])
# C2 about x: a compact middle, then two arms that leave it loosely and bend back.
_THYROGLOBULIN = _union(
    [
        ((8.0, 26.0, 8.0), (36.0, 36.0, 30.0), 1.0),
        ((24.0, 60.0, 18.0), (27.0, 32.0, 30.0), 1.0),
        ((0.0, 94.0, 24.0), (25.0, 29.0, 22.0), 1.0),
        ((-34.0, 54.0, -8.0), (24.0, 30.0, 23.0), 1.0),
        ((-14.0, 112.0, 4.0), (14.0, 14.0, 20.0), 1.0),
    ]
)
_RIBOSOME = _union(
    [
        # large subunit: RNA core under a protein coat, central protuberance, L1 stalk, P stalk
        ((-35.0, 0.0, 0.0), (73.0, 108.0, 97.0), 1.0),
        ((-37.0, 0.0, 0.0), (55.0, 86.0, 75.0), RNA_CONTRAST),
        ((-20.0, 0.0, 101.0), (33.0, 31.0, 31.0), 1.0),
        ((0.0, -114.0, 44.0), (20.0, 33.0, 20.0), RNA_CONTRAST),
        ((2.0, 119.0, 15.0), (14.0, 31.0, 15.0), 1.0),
        # small subunit across a cleft: body, platform, head and beak
        ((79.0, 9.0, -35.0), (35.0, 57.0, 77.0), RNA_CONTRAST),
        ((66.0, -57.0, 4.0), (31.0, 33.0, 37.0), 1.0),
        ((86.0, 4.0, 68.0), (37.0, 48.0, 35.0), RNA_CONTRAST),
        ((92.0, 57.0, 73.0), (15.0, 29.0, 15.0), 1.0),
    ]
)

SHAPES: dict[str, tuple[str, Shape]] = {
    "apo_ferritin": ("O", _apo_ferritin),
    "beta_amylase": ("D2", _BETA_AMYLASE),
    "beta_galactosidase": ("D2", _BETA_GALACTOSIDASE),
    "ribosome": ("C1", _RIBOSOME),
    "thyroglobulin": ("C2", _THYROGLOBULIN),
    "virus_like_particle": ("I", _virus_like_particle),
}
