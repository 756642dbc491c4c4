"""What lies in a phantom's ice and where: particles, distractors, vesicles and gold, then their voxels."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.transform import Rotation

from data.phantom.densities import GOLD_RADIUS_ANGSTROM, PointDensity, gold_bead, vesicle
from errors import InputError
from particle_config import Particle

# Particles in one tomogram of the challenge: 184 x 630 x 630 voxels of 10.012 angstrom.
REFERENCE_VOLUME_ANGSTROM3 = 184 * 630 * 630 * 10.012**3
REFERENCE_COUNTS = {
    "apo-ferritin": 45,
    "beta-amylase": 15,
    "beta-galactosidase": 18,
    "ribosome": 42,
    "thyroglobulin": 38,
    "virus-like-particle": 15,
}
REFERENCE_COUNT_OF_OTHERS = 25
# A small tomogram at the real density would hold two or three of a class: too few to learn from.
SMALLEST_COUNT = 12
# Share of the ice that spheres about the particles may fill; random placement stalls above about 0.3.
FULLEST_PACKING = 0.25
DISTRACTORS_PER_PARTICLE = 0.6
VESICLES_PER_REFERENCE, GOLD_PER_REFERENCE = 6, 12
ICE_FRACTION = 0.9  # of the tomogram's depth; above and below is empty
# Centres may come this share of the summed radii near: molecules are rarely round, so they hardly touch.
CLOSEST_APPROACH = 0.9
PLACEMENT_TRIES = 300
MEMBRANE_HALF_THICKNESS_ANGSTROM = 20.0


@dataclass(frozen=True)
class Placement:
    """Copies of one object: centres (N, 3) zyx angstrom and rotations (N, 3, 3) acting on zyx vectors."""

    coordinates_zyx_angstrom: np.ndarray
    rotations_zyx: np.ndarray


@dataclass(frozen=True)
class Vesicle:
    """A closed membrane; both arrays (3,) zyx angstrom."""

    centre_zyx_angstrom: np.ndarray
    semi_axes_zyx_angstrom: np.ndarray


@dataclass(frozen=True)
class Scene:
    """Everything in one tomogram; ``particles`` is the truth, by name."""

    particles: dict[str, Placement]
    distractors: dict[str, Placement]
    vesicles: list[Vesicle]
    gold_zyx_angstrom: np.ndarray


@dataclass
class _Occupied:
    """Spheres and membranes that later objects keep clear of."""

    vesicles: list[Vesicle] = field(default_factory=list)
    centres: list[np.ndarray] = field(default_factory=list)
    radii: list[float] = field(default_factory=list)

    def is_free(self, centre: np.ndarray, radius: float) -> bool:
        if self.centres:
            distances = np.linalg.norm(np.array(self.centres) - centre, axis=1)
            if (distances < CLOSEST_APPROACH * (np.array(self.radii) + radius)).any():
                return False
        clearance = CLOSEST_APPROACH * radius + MEMBRANE_HALF_THICKNESS_ANGSTROM
        return all(abs(distance_to_membrane(centre, v)) > clearance for v in self.vesicles)

    def add(self, centre: np.ndarray, radius: float) -> None:
        self.centres.append(centre)
        self.radii.append(radius)


def distance_to_membrane(point_zyx: np.ndarray, membrane: Vesicle) -> float:
    """First-order distance in angstrom from a point to an ellipsoid's surface, negative inside."""
    offset = point_zyx - membrane.centre_zyx_angstrom
    scaled = float(np.linalg.norm(offset / membrane.semi_axes_zyx_angstrom))
    gradient = float(np.linalg.norm(offset / membrane.semi_axes_zyx_angstrom**2))
    if gradient == 0:
        return -float(membrane.semi_axes_zyx_angstrom.min())
    return scaled * (scaled - 1) / gradient


# --- Placing ------------------------------------------------------------------------------------------
def make_scene(
    rng: np.random.Generator,
    *,
    extent_zyx_angstrom: np.ndarray,
    particles: Iterable[Particle],
    distractor_radii_angstrom: Mapping[str, float],
    given_zyx_angstrom: Mapping[str, np.ndarray] | None = None,
    ice_fraction: float = ICE_FRACTION,
) -> Scene:
    """Fill a tomogram at random, or put the particles at the given positions and only the rest at random.

    Parameters
    ----------
    extent_zyx_angstrom : (3,) position of the last voxel; the first lies at 0.
    distractor_radii_angstrom : name -> radius of the proteins that are not to be picked.
    given_zyx_angstrom : particle name -> (N, 3); orientations are random all the same.
    ice_fraction : of the tomogram's depth.

    Notes
    -----
    Large objects are placed first. One that finds no free place in 300 tries is left out, so that very small
    volumes hold fewer than aimed at.
    """
    particles = tuple(particles)
    occupied = _Occupied()
    placed: dict[str, list[np.ndarray]] = {particle.name: [] for particle in particles}
    if given_zyx_angstrom is not None:
        for particle in particles:
            placed[particle.name] = list(given_zyx_angstrom.get(particle.name, ()))
            for centre in placed[particle.name]:
                occupied.add(centre, particle.radius_angstrom)

    def place(count: int, radius: float) -> list[np.ndarray]:
        return _place(rng, count, radius, extent_zyx_angstrom, occupied, ice_fraction)

    relative_volume = float(np.prod(extent_zyx_angstrom)) / REFERENCE_VOLUME_ANGSTROM3
    vesicles = _place_vesicles(rng, extent_zyx_angstrom, relative_volume, occupied, ice_fraction)
    if given_zyx_angstrom is None:
        counts = particle_counts(rng, particles, float(np.prod(extent_zyx_angstrom)), ice_fraction)
        for particle in sorted(particles, key=lambda p: -p.radius_angstrom):
            placed[particle.name] = place(counts[particle.name], particle.radius_angstrom)
    gold_count = max(1, round(GOLD_PER_REFERENCE * relative_volume))
    gold = place(gold_count, GOLD_RADIUS_ANGSTROM)
    distractor_count = round(DISTRACTORS_PER_PARTICLE * sum(map(len, placed.values())))
    distractors: dict[str, list[np.ndarray]] = {name: [] for name in distractor_radii_angstrom}
    for name in rng.choice(list(distractors), distractor_count) if distractors else ():
        distractors[name] += place(1, distractor_radii_angstrom[name])
    return Scene(
        particles={name: _oriented(rng, centres) for name, centres in placed.items()},
        distractors={name: _oriented(rng, centres) for name, centres in distractors.items()},
        vesicles=vesicles,
        gold_zyx_angstrom=np.array(gold).reshape(-1, 3),
    )


def particle_counts(
    rng: np.random.Generator,
    particles: Iterable[Particle],
    volume_angstrom3: float,
    ice_fraction: float = ICE_FRACTION,
) -> dict[str, int]:
    """Copies of each particle to aim at: the real number density, but at least twelve where they fit."""
    particles = tuple(particles)
    counts = {}
    for particle in particles:
        usual = REFERENCE_COUNTS.get(particle.name, REFERENCE_COUNT_OF_OTHERS)
        aimed = max(usual * volume_angstrom3 / REFERENCE_VOLUME_ANGSTROM3, SMALLEST_COUNT)
        counts[particle.name] = aimed * rng.uniform(0.8, 1.25)
    filled = sum(counts[p.name] * 4 / 3 * math.pi * p.radius_angstrom**3 for p in particles)
    share = min(1.0, FULLEST_PACKING * ice_fraction * volume_angstrom3 / filled)
    return {name: max(1, round(share * count)) for name, count in counts.items()}


def _place(
    rng: np.random.Generator,
    count: int,
    radius: float,
    extent: np.ndarray,
    occupied: _Occupied,
    ice_fraction: float,
) -> list[np.ndarray]:
    """Up to ``count`` free centres, objects wholly inside the ice; they are entered into ``occupied``."""
    ice_margin = np.array([(1 - ice_fraction) / 2 * extent[0], 0.0, 0.0])
    lowest = np.minimum(ice_margin + radius, extent / 2)
    centres = []
    for _ in range(count):
        for _ in range(PLACEMENT_TRIES):
            centre = rng.uniform(lowest, extent - lowest)
            if occupied.is_free(centre, radius):
                occupied.add(centre, radius)
                centres.append(centre)
                break
    return centres


def _place_vesicles(
    rng: np.random.Generator, extent: np.ndarray, relative_volume: float, occupied: _Occupied, ice_fraction: float
) -> list[Vesicle]:
    """Vesicles clear of each other and of given particles, flattened where the ice is thin."""
    for _ in range(max(1, round(VESICLES_PER_REFERENCE * relative_volume))):
        for _ in range(PLACEMENT_TRIES):
            radius = rng.uniform(180.0, 480.0)
            semi_axes = radius * rng.uniform(0.85, 1.15, 3)
            semi_axes[0] = min(semi_axes[0], 0.9 * ice_fraction * extent[0] / 2)
            if 3 * radius > extent[1:].min():  # it would fill a small tomogram
                continue
            margin = np.minimum(semi_axes * np.array([1.0, 0.5, 0.5]), extent / 2)
            new = Vesicle(rng.uniform(margin, extent - margin), semi_axes)
            apart = all(
                np.linalg.norm(new.centre_zyx_angstrom - old.centre_zyx_angstrom)
                > new.semi_axes_zyx_angstrom.max() + old.semi_axes_zyx_angstrom.max()
                for old in occupied.vesicles
            )
            clear = all(
                abs(distance_to_membrane(centre, new)) > size + MEMBRANE_HALF_THICKNESS_ANGSTROM
                for centre, size in zip(occupied.centres, occupied.radii, strict=True)
            )
            if apart and clear:
                occupied.vesicles.append(new)
                break
    return list(occupied.vesicles)


def _oriented(rng: np.random.Generator, centres: list[np.ndarray]) -> Placement:
    """Uniformly random orientations over SO(3)."""
    rotations = Rotation.random(len(centres), rng).as_matrix() if centres else np.empty((0, 3, 3))
    return Placement(np.array(centres, dtype=np.float64).reshape(-1, 3), rotations)


def check_inside(given_zyx_angstrom: Mapping[str, np.ndarray], extent: np.ndarray, where: str) -> None:
    """InputError when a given position lies outside the tomogram; ``where`` names file and experiment."""
    points = np.concatenate([np.empty((0, 3)), *given_zyx_angstrom.values()])
    outside = points[((points < 0) | (points > extent)).any(axis=1)]
    if len(outside):
        z, y, x = outside[0]
        raise InputError(
            f"{where}: {len(outside)} of {len(points)} points lie outside the tomogram, first x={x:g}, "
            f"y={y:g}, z={z:g}; it ends at x={extent[2]:g}, y={extent[1]:g}, z={extent[0]:g} angstrom: "
            "enlarge --shape or remove the points"
        )


# --- Voxels -------------------------------------------------------------------------------------------
def render_scene(
    scene: Scene,
    densities: Mapping[str, PointDensity],
    shape_zyx: tuple[int, int, int],
    voxel_spacing_angstrom: float,
    progress: Callable[[Iterable], Iterable] = iter,
) -> np.ndarray:
    """Contrast against ice on the voxel grid, (Z, Y, X) float32, protein positive; parts outside are cut off.

    ``densities`` holds every particle and distractor by name. Points are spread as cubic B-splines:
    see :func:`add_points`; the tilt series takes that blur out again.
    """
    volume = np.zeros(shape_zyx, dtype=np.float32)
    bead = gold_bead()
    objects = [
        (densities[name], centre, rotation)
        for name, placement in (*scene.particles.items(), *scene.distractors.items())
        for centre, rotation in zip(placement.coordinates_zyx_angstrom, placement.rotations_zyx, strict=True)
    ]
    objects += [(bead, centre, np.eye(3)) for centre in scene.gold_zyx_angstrom]
    objects += [(vesicle(v.semi_axes_zyx_angstrom), v.centre_zyx_angstrom, np.eye(3)) for v in scene.vesicles]
    for density, centre, rotation in progress(objects):
        points = (density.offsets_zyx_angstrom @ rotation.T + centre) / voxel_spacing_angstrom
        add_points(volume, points, density.weights / voxel_spacing_angstrom**3)
    return volume


def add_points(volume: np.ndarray, points_zyx_voxels: np.ndarray, weights: np.ndarray) -> None:
    """Add weighted points to a volume in place, each spread over 4 x 4 x 4 voxels by a cubic B-spline.

    The spline keeps sum and centre of mass exactly and hardly aliases; its transfer function along each axis
    is sinc(frequency)^4. Voxel i lies at coordinate i. What falls outside the volume is dropped.
    """
    reaches = ((points_zyx_voxels > -2) & (points_zyx_voxels < np.array(volume.shape) + 1)).all(axis=1)
    points_zyx_voxels, weights = points_zyx_voxels[reaches], weights[reaches]
    if len(weights) == 0:
        return
    nearest = np.floor(points_zyx_voxels).astype(np.int64)
    fraction = points_zyx_voxels - nearest
    spline = np.stack(
        [
            (1 - fraction) ** 3 / 6,
            2 / 3 - fraction**2 + fraction**3 / 2,
            2 / 3 - (1 - fraction) ** 2 + (1 - fraction) ** 3 / 2,
            fraction**3 / 6,
        ],
        axis=-1,
    )  # (N, 3, 4)
    low = nearest.min(axis=0) - 1
    box = nearest.max(axis=0) + 3 - low
    first = nearest - 1 - low
    steps = np.array([box[1] * box[2], box[2], 1])
    taps = first[:, :, None] + np.arange(4)
    index = taps[:, 0, :, None, None] * steps[0] + taps[:, 1, None, :, None] * steps[1] + taps[:, 2, None, None, :]
    values = (
        (weights[:, None] * spline[:, 0])[:, :, None, None] * spline[:, 1, None, :, None] * spline[:, 2, None, None, :]
    )
    local = np.bincount(index.ravel(), values.ravel(), minlength=int(np.prod(box))).reshape(box)
    start, stop = np.clip(low, 0, volume.shape), np.clip(low + box, 0, volume.shape)
    inside = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    volume[inside] += local[tuple(slice(a, b) for a, b in zip(start - low, stop - low, strict=True))]
