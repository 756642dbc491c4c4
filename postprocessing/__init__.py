"""From probability maps to particles: ``METHODS[name]`` finds the particles of one class."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from particle_config import Particle
from postprocessing import connected_components, mean_shift, peak_local_max, watershed
from postprocessing.detections import Detections

METHODS = {
    "peak_local_max_gpu": peak_local_max.detect,
    "cc3d": connected_components.detect,
    "watershed": watershed.detect,
    "meanshift": mean_shift.detect,
}


def detect(
    probability: Tensor,
    *,
    method: str,
    particles: Iterable[Particle],
    voxel_spacing_angstrom: float,
    trained_radius_fraction: float,
    hyperparameters: Mapping[str, Mapping[str, float]],
    map_stride: int = 1,
) -> dict[str, Detections]:
    """Find the particles of every class, each class by itself.

    Parameters
    ----------
    probability : (C, Z, Y, X) class probabilities, background first, channel = label of the particle
    method : a name in METHODS
    particles : the particle table
    voxel_spacing_angstrom : of the tomogram
    trained_radius_fraction : radius of the training targets as a share of the particle's; 0 for single voxels
    hyperparameters : particle name -> keyword -> value, the keywords of the method
    map_stride : voxels of the tomogram from one voxel of the map to the next; voxel j of the map lies at
        (j + 0.5) * map_stride - 0.5

    Returns
    -------
    dict particle name -> Detections (voxels of the tomogram)
    """
    found = {}
    for particle in particles:
        radius_voxels = particle.radius_angstrom / (voxel_spacing_angstrom * map_stride)
        on_map = METHODS[method](
            probability[particle.label],
            radius_voxels=radius_voxels,
            # A single-voxel target is a sphere of one voxel of the map, not of none.
            trained_radius_voxels=max(trained_radius_fraction * radius_voxels, 1.0),
            **hyperparameters[particle.name],
        )
        found[particle.name] = on_map.on_fine_grid(map_stride)
    return found
