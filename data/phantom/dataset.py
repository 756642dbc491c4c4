"""One phantom tomogram from its settings: scene, tilt series, reconstruction of every wanted type."""

import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from data.phantom.densities import PointDensity, blob_cluster, density_of
from data.phantom.density_maps import read_distractor_maps, read_particle_maps
from data.phantom.scene import ICE_FRACTION, Placement, make_scene, render_scene
from data.phantom.tilt_series import (
    Geometry,
    Microscope,
    expose,
    project,
    tilt_angles,
    weighted_back_projection,
)
from data.phantom.tomo_types import TOMO_TYPES, Denoising
from errors import InputError
from particle_config import Particle

SMALLEST_SIDE_VOXELS = 16
# On finer voxels the points that make up a density would stand apart.
SMALLEST_SPACING_ANGSTROM = 3.0
DOSE_PER_TILT = 3.0  # electrons per square angstrom, about 120 in all for 41 tilts
# Noise 1 on a 10 angstrom pixel of one of 41 images, in angstrom of protein-contrast path length.
NOISE_PATH_ANGSTROM = 62.0
REFERENCE_PIXEL_ANGSTROM, REFERENCE_TILTS = 10.0, 41
# Grey values of real tomograms of this kind.
TOMOGRAM_STANDARD_DEVIATION = 1e-5
DISTRACTOR_RADII_ANGSTROM = (45.0, 55.0, 70.0, 85.0, 100.0, 115.0)

# Lowest and highest of what is drawn for each tomogram on its own: factors of what is asked for, the share of the depth
# that is ice, and in angstrom how a denoised tomogram is filtered. The spectra that come of it reach from those of a
# strong low-pass filter to those of hardly any.
VARIED = {
    "noise": (0.6, 1.5),
    "defocus": (0.5, 2.0),
    "tilt range": (0.7, 1.0),
    "ice": (0.45, 0.95),
    "denoising length": (70.0, 220.0),
    "denoising resolution": (12.0, 40.0),
}

Progress = Callable[[Iterable, str], Iterable]


@dataclass(frozen=True)
class PhantomSettings:
    """How the tomograms are made; InputError for a tilt step beyond the tilt range."""

    shape_zyx: tuple[int, int, int]
    voxel_spacing_angstrom: float
    noise: float
    defocus_angstrom: float
    tilt_range_degrees: float
    tilt_step_degrees: float
    ice_fraction: float = ICE_FRACTION
    denoising: Denoising = field(default_factory=Denoising)

    def __post_init__(self) -> None:
        if self.tilt_step_degrees > self.tilt_range_degrees:
            raise InputError(f"--tilt_step {self.tilt_step_degrees:g} must be at most --tilt_range")

    def varied(self, rng: np.random.Generator) -> "PhantomSettings":
        """Those of one tomogram of a data set that is meant to be like no other in particular; see ``VARIED``."""

        def drawn(name: str) -> float:
            low, high = VARIED[name]
            return math.exp(rng.uniform(math.log(low), math.log(high)))

        return replace(
            self,
            noise=self.noise * drawn("noise"),
            defocus_angstrom=self.defocus_angstrom * drawn("defocus"),
            tilt_range_degrees=max(self.tilt_step_degrees, self.tilt_range_degrees * drawn("tilt range")),
            ice_fraction=drawn("ice"),
            denoising=Denoising(drawn("denoising length"), drawn("denoising resolution")),
        )

    def in_words(self) -> str:
        return (
            f"defocus {self.defocus_angstrom / 1e4:.1f} um, tilts to {self.tilt_range_degrees:.0f} degrees, noise "
            f"{self.noise:.2f}, ice in {self.ice_fraction:.0%} of the depth, denoised to "
            f"{self.denoising.resolution_angstrom:.0f} A"
        )

    @property
    def extent_zyx_angstrom(self) -> np.ndarray:
        """Position of the last voxel."""
        return (np.array(self.shape_zyx) - 1) * self.voxel_spacing_angstrom

    @property
    def geometry(self) -> Geometry:
        angles = tilt_angles(self.tilt_range_degrees, self.tilt_step_degrees)
        return Geometry(self.shape_zyx, self.voxel_spacing_angstrom, angles)


@dataclass(frozen=True)
class Molecules:
    """Densities by name: those to be found and those that must not be."""

    particles: dict[str, PointDensity]
    distractors: dict[str, PointDensity]

    @property
    def distractor_radii_angstrom(self) -> dict[str, float]:
        return {name: density.radius_angstrom for name, density in self.distractors.items()}


def load_molecules(particles: Sequence[Particle], density_dir: Path | None = None) -> Molecules:
    """Real maps of a folder, or procedural densities; distractors are procedural when the folder has none."""
    distractors = read_distractor_maps(density_dir) if density_dir is not None else {}
    if not distractors:
        names = [f"distractor-{number}" for number in range(1, len(DISTRACTOR_RADII_ANGSTROM) + 1)]
        sizes = zip(names, DISTRACTOR_RADII_ANGSTROM, strict=True)
        distractors = {name: blob_cluster(name, radius) for name, radius in sizes}
    if density_dir is not None:
        return Molecules(read_particle_maps(density_dir, particles), distractors)
    return Molecules({particle.name: density_of(particle) for particle in particles}, distractors)


def random_generator(seed: int, run_name: str) -> np.random.Generator:
    """A stream of its own for each run, whatever other runs are made."""
    return np.random.default_rng([seed, zlib.crc32(run_name.encode())])


def make_tomogram(
    rng: np.random.Generator,
    *,
    settings: PhantomSettings,
    particles: Sequence[Particle],
    molecules: Molecules,
    tomo_types: Sequence[str],
    device: torch.device,
    given_zyx_angstrom: Mapping[str, np.ndarray] | None = None,
    progress: Progress = lambda steps, name: steps,
) -> tuple[dict[str, np.ndarray], dict[str, Placement]]:
    """The tomograms by type, (Z, Y, X) float32 with protein dark, and the true placements by name."""
    scene = make_scene(
        rng,
        extent_zyx_angstrom=settings.extent_zyx_angstrom,
        particles=particles,
        distractor_radii_angstrom=molecules.distractor_radii_angstrom,
        given_zyx_angstrom=given_zyx_angstrom,
        ice_fraction=settings.ice_fraction,
    )
    volume = render_scene(
        scene,
        {**molecules.particles, **molecules.distractors},
        settings.shape_zyx,
        settings.voxel_spacing_angstrom,
        lambda objects: progress(objects, "density"),
    )
    tomograms = reconstruct(volume, rng, settings, tomo_types, device, progress)
    return tomograms, scene.particles


def reconstruct(
    volume: np.ndarray,
    rng: np.random.Generator,
    settings: PhantomSettings,
    tomo_types: Sequence[str],
    device: torch.device,
    progress: Progress = lambda steps, name: steps,
) -> dict[str, np.ndarray]:
    """Image a (Z, Y, X) volume of contrast in the microscope and reconstruct it, once per type."""
    geometry = settings.geometry
    microscope = Microscope(settings.defocus_angstrom)
    scene = torch.from_numpy(volume).to(device)
    images = project(scene, geometry, lambda steps: progress(steps, "projection"))
    del scene
    images = expose(images * settings.voxel_spacing_angstrom, geometry, microscope, DOSE_PER_TILT)
    # Drawn on the CPU: the same noise whatever the device.
    noise = rng.standard_normal(tuple(images.shape), dtype=np.float32)
    images += noise_per_pixel(settings) * torch.from_numpy(noise).to(device)
    del noise
    tomograms = {}
    for tomo_type in tomo_types:
        image_filter = TOMO_TYPES[tomo_type](microscope, settings.noise, settings.denoising)
        result = weighted_back_projection(
            images, geometry, image_filter, lambda steps, name=tomo_type: progress(steps, name)
        )
        scale = float(result.std())
        result *= TOMOGRAM_STANDARD_DEVIATION / scale if scale > 0 else 1.0
        tomograms[tomo_type] = result.cpu().numpy()
    return tomograms


def noise_per_pixel(settings: PhantomSettings) -> float:
    """Standard deviation per image pixel, for one total dose: fewer electrons a pixel, more noise."""
    tilts = len(settings.geometry.angles_degrees)
    pixel = REFERENCE_PIXEL_ANGSTROM / settings.voxel_spacing_angstrom
    return settings.noise * NOISE_PATH_ANGSTROM * pixel * math.sqrt(tilts / REFERENCE_TILTS)
