"""From probability maps to particles: a method of METHODS proposes candidates, selection keeps the particles."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from errors import InputError
from particle_config import Particle
from postprocessing import connected_components, mean_shift, peak_local_max, watershed
from postprocessing.detections import Detections, no_detections
from postprocessing.selection import as_scores, selected, volume_fractions

# By so much may rounding in half precision lead out of 0..1.
ROUNDING = 0.01


@dataclass(frozen=True)
class Method:
    """One way to find the particles of a class.

    Attributes
    ----------
    candidates : map (Z, Y, X), ``trained_radius_voxels``, the structural keywords and, where there is a keyword for
        the score, ``floor``, the lowest score of a candidate -> Detections in voxels of the map
    structural : keywords that change what the candidates are
    score_keyword : the smallest accepted score; None: the method has no such threshold
    size_keyword : the smallest accepted size, as a share of the trained sphere's volume; None: no such threshold

    Every method has the keyword nms_radius_fraction as well.
    """

    candidates: Callable[..., Detections]
    structural: tuple[str, ...] = ()
    score_keyword: str | None = None
    size_keyword: str | None = None

    def ranking(self, detections: Detections, trained_radius_voxels: float) -> np.ndarray:
        """(N,) in 0..1, what the method's threshold is about: the scores, or else the sizes (selection.as_scores)."""
        if self.score_keyword:
            return detections.scores
        return as_scores(volume_fractions(detections, trained_radius_voxels))

    @property
    def keywords(self) -> tuple[str, ...]:
        """Of all its hyperparameters."""
        further = (self.score_keyword, self.size_keyword, "nms_radius_fraction")
        return (*self.structural, *(keyword for keyword in further if keyword))

    @property
    def threshold_keyword(self) -> str:
        """Of the threshold that the candidates are ranked by."""
        return self.score_keyword or self.size_keyword

    @property
    def threshold(self) -> str:
        """The keyword of selection.selected that the method's threshold is given by."""
        return "smallest_score" if self.score_keyword else "smallest_volume_fraction"

    def ranks_alike(self, one: Mapping[str, float], other: Mapping[str, float]) -> bool:
        """Whether two sets of hyperparameters give the same candidates the same scores: all but the threshold agree."""
        keywords = [keyword for keyword in self.keywords if keyword != self.threshold_keyword]
        return all(keyword in one and math.isclose(one[keyword], other[keyword]) for keyword in keywords)

    def selection(self, hyperparameters: Mapping[str, float]) -> dict[str, float | None]:
        """Keywords of selection.selected: suppression and the thresholds that the method has."""
        return {
            "nms_radius_fraction": hyperparameters["nms_radius_fraction"],
            "smallest_score": hyperparameters.get(self.score_keyword),
            "smallest_volume_fraction": hyperparameters.get(self.size_keyword),
        }


METHODS = {
    "peak_local_max_gpu": Method(peak_local_max.candidates, score_keyword="peak_threshold"),
    "cc3d": Method(connected_components.candidates, ("conf_threshold",), size_keyword="vol_frac_threshold"),
    "watershed": Method(
        watershed.candidates, ("conf_threshold", "cluster_radius_fraction"), size_keyword="vol_frac_threshold"
    ),
    "meanshift": Method(
        mean_shift.candidates, ("conf_threshold", "cluster_radius_fraction"), size_keyword="min_cluster_vol_frac"
    ),
}


def detect(
    probability: Tensor,
    *,
    method: str,
    particles: Sequence[Particle],
    voxel_spacing_angstrom: float,
    trained_radius_fraction: float,
    hyperparameters: Mapping[str, Mapping[str, float]],
    map_stride: int = 1,
    internal_downsample: int = 1,
) -> dict[str, Detections]:
    """Find the particles of every class, each class by itself.

    Parameters
    ----------
    probability : (C, Z, Y, X) class probabilities, background first, channel = label of the particle
    method : a name in METHODS
    particles : the particle table
    voxel_spacing_angstrom : of the tomogram
    trained_radius_fraction : radius of the training targets as a share of the particle's; 0 for single voxels
    hyperparameters : particle name -> keyword -> value, all keywords of the method
    map_stride : voxels of the tomogram from one voxel of the map to the next; voxel j of the map lies at
        (j + 0.5) * map_stride - 0.5
    internal_downsample : particles are sought in a map of means over so many voxels along every axis; radii, sizes and
        positions follow

    Returns
    -------
    dict particle name -> Detections (voxels of the tomogram), highest score first

    Raises
    ------
    InputError : the map of a particle holds NaN or values out of 0..1
    """
    known = METHODS[method]
    proposed = candidates(
        probability,
        method=method,
        particles=particles,
        voxel_spacing_angstrom=voxel_spacing_angstrom,
        trained_radius_fraction=trained_radius_fraction,
        structural=hyperparameters,
        floor=min(hyperparameters[p.name][known.score_keyword] for p in particles) if known.score_keyword else 0.0,
        map_stride=map_stride,
        internal_downsample=internal_downsample,
    )
    found = {}
    for particle in particles:
        radii = radii_voxels(
            particle, voxel_spacing_angstrom, trained_radius_fraction, voxel_width=map_stride * internal_downsample
        )
        one = proposed[particle.name]
        found[particle.name] = one[selected(one, **radii, **known.selection(hyperparameters[particle.name]))]
    return found


def candidates(
    probability: Tensor,
    *,
    method: str,
    particles: Iterable[Particle],
    voxel_spacing_angstrom: float,
    trained_radius_fraction: float,
    structural: Mapping[str, Mapping[str, float]],
    floor: float,
    map_stride: int = 1,
    internal_downsample: int = 1,
) -> dict[str, Detections]:
    """What :func:`detect` chooses from: all that the method proposes, before thresholds and suppression.

    Parameters
    ----------
    structural : particle name -> keyword -> value; of the keywords only the method's structural ones count
    floor : smallest score worth looking at; lower ones are left out by methods with a threshold on the score

    The other parameters are those of :func:`detect`, and so are the errors.

    Returns
    -------
    dict particle name -> Detections (voxels of the tomogram) in any order
    """
    known, voxel_width = METHODS[method], map_stride * internal_downsample
    found = {}
    for particle in particles:
        on_map = probability[particle.label]
        if on_map.numel() == 0:
            found[particle.name] = no_detections()
            continue
        _check_range(on_map, particle)
        if internal_downsample > 1:
            # The last voxel of an axis is the mean of those that are left.
            on_map = functional.avg_pool3d(on_map[None].float(), internal_downsample, ceil_mode=True)[0]
        radii = radii_voxels(particle, voxel_spacing_angstrom, trained_radius_fraction, voxel_width=voxel_width)
        trained_radius_voxels = radii["trained_radius_voxels"]
        keywords = {keyword: structural[particle.name][keyword] for keyword in known.structural}
        if known.score_keyword:
            keywords["floor"] = floor
        proposed = known.candidates(on_map, trained_radius_voxels=trained_radius_voxels / voxel_width, **keywords)
        found[particle.name] = proposed.on_fine_grid(voxel_width)
    return found


def radii_voxels(
    particle: Particle, voxel_spacing_angstrom: float, trained_radius_fraction: float, *, voxel_width: int
) -> dict[str, float]:
    """radius_voxels of the particle and trained_radius_voxels of its targets, in voxels of the tomogram.

    A single-voxel target is a sphere of one voxel of the map that is searched, not of none; that voxel is
    ``voxel_width`` voxels of the tomogram wide: map_stride times internal_downsample.
    """
    radius_voxels = particle.radius_angstrom / voxel_spacing_angstrom
    trained_radius_voxels = max(trained_radius_fraction * radius_voxels, float(voxel_width))
    return {"radius_voxels": radius_voxels, "trained_radius_voxels": trained_radius_voxels}


def _check_range(probability: Tensor, particle: Particle) -> None:
    low, high = (float(value) for value in torch.aminmax(probability))
    # A NaN anywhere is both the lowest and the highest value.
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise InputError(
            f"the probability map of {particle.name} holds values from {low:g} to {high:g} where all must lie in 0..1; "
            "check the tomogram and the network's weights"
        )
