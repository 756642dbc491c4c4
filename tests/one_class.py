"""One class's map through a method of detection, all lengths in voxels."""

from particle_config import Particle
from postprocessing import detect


def find(volume, method, *, radius_voxels, trained_radius_voxels, **hyperparameters):
    particle = Particle("one", radius_voxels, 1.0, 0, "#000000")
    return detect(
        volume[None],
        method=method,
        particles=[particle],
        voxel_spacing_angstrom=1.0,
        trained_radius_fraction=trained_radius_voxels / radius_voxels,
        hyperparameters={"one": hyperparameters},
    )["one"]
