"""Search of the hyperparameters of detection on tomograms with truth.

Every map is looked at once per structural setting; suppression radii and thresholds are tried on the candidates found
there, and of the maps nothing is kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from evaluation.evidence import Evidence, Grid, gather_evidence, ranking_scores
from evaluation.tomograms import DetectionSettings, Found, PredictedTomogram, table_of_detections, uncertainty_at
from metrics.calibration import confidence
from particle_config import Particle
from postprocessing import METHODS, candidates, radii_voxels
from postprocessing.detections import Detections
from postprocessing.selection import selected

PER_CLASS, GLOBAL = STRATEGIES = ("per_class", "global")
# Lower ones are looked at only where the grid goes there: candidates below the thresholds show how the curve goes on.
LOWEST_SCORE = 0.02
# Values of the structural keywords, in their order.
Structure = tuple[float, ...]


@dataclass(frozen=True)
class SearchSettings:
    """What is searched.

    Attributes
    ----------
    strategy : per_class: a set of values for each particle, best for its own F4, whatever its weight; global: one set
        for all, best for the weighted F4
    grid : the values to choose from
    detection : what is not searched; its hyperparameters are for particles about which the search learns nothing
    """

    strategy: str
    grid: Grid
    detection: DetectionSettings

    @property
    def defaults(self) -> Mapping[str, Mapping[str, float]]:
        return self.detection.hyperparameters

    @property
    def structural(self) -> tuple[str, ...]:
        """The keywords that change what the candidates are."""
        return METHODS[self.grid.method].structural

    @property
    def lowest_score(self) -> float:
        keyword = METHODS[self.grid.method].score_keyword
        if keyword is None:
            return 0.0
        return min(LOWEST_SCORE, *self.grid.values[keyword], *(values[keyword] for values in self.defaults.values()))


@dataclass(frozen=True)
class Proposal:
    """Candidates of one class in voxels of the tomogram, and the (N,) uncertainty of each."""

    candidates: Detections
    uncertainties: np.ndarray


@dataclass(frozen=True)
class SearchedTomogram:
    """What is kept of a tomogram.

    Attributes
    ----------
    proposals : particle name -> structure -> Proposal, for all structures of the grid and that of the defaults
    evidence : particle name -> Evidence
    """

    name: str
    voxel_spacing_angstrom: float
    stride: int
    proposals: Mapping[str, Mapping[Structure, Proposal]]
    evidence: Mapping[str, Evidence]


def look_at(
    tomogram: PredictedTomogram,
    truth_zyx_angstrom: Mapping[str, np.ndarray],
    settings: SearchSettings,
    particles: Sequence[Particle],
) -> SearchedTomogram:
    """Candidates and evidence from a predicted tomogram; truth: particle name -> (N, 3), none where not named."""
    prediction, spacing = tomogram.prediction, tomogram.voxel_spacing_angstrom
    proposals = _propose(tomogram, settings, particles)
    evidence = {
        particle.name: gather_evidence(
            [proposals[particle.name][tuple(one.values())].candidates for one in settings.grid.structures],
            truth_zyx_angstrom.get(particle.name, np.empty((0, 3))),
            grid=settings.grid,
            particle=particle,
            voxel_spacing_angstrom=spacing,
            trained_radius_voxels=_radii(particle, spacing, prediction.stride, settings)["trained_radius_voxels"],
        )
        for particle in particles
    }
    return SearchedTomogram(tomogram.run.name, spacing, prediction.stride, proposals, evidence)


def _propose(tomogram, settings: SearchSettings, particles) -> dict[str, dict[Structure, Proposal]]:
    prediction = tomogram.prediction
    found: dict[str, dict[Structure, Proposal]] = {particle.name: {} for particle in particles}
    for structure in (*settings.grid.structures, None):
        by_name = {p.name: settings.defaults[p.name] if structure is None else structure for p in particles}
        keys = {name: tuple(values[keyword] for keyword in settings.structural) for name, values in by_name.items()}
        new = [particle for particle in particles if keys[particle.name] not in found[particle.name]]
        proposed = candidates(
            prediction.probability,
            method=settings.grid.method,
            particles=new,
            voxel_spacing_angstrom=tomogram.voxel_spacing_angstrom,
            trained_radius_fraction=settings.detection.trained_radius_fraction,
            structural=by_name,
            floor=settings.lowest_score,
            map_stride=prediction.stride,
            internal_downsample=settings.detection.internal_downsample,
        )
        for particle in new:
            one = proposed[particle.name]
            uncertainties = uncertainty_at(one.coordinates_zyx, prediction, particle.label)
            found[particle.name][keys[particle.name]] = Proposal(one, uncertainties)
    return found


def _radii(particle: Particle, spacing: float, stride: int, settings: SearchSettings) -> dict[str, float]:
    cell_voxels = stride * settings.detection.internal_downsample
    radius, trained = radii_voxels(
        particle, spacing, settings.detection.trained_radius_fraction, cell_voxels=cell_voxels
    )
    return {"radius_voxels": radius, "trained_radius_voxels": trained}


def picks_from(
    tomogram: SearchedTomogram,
    hyperparameters: Mapping[str, Mapping[str, float]],
    settings: SearchSettings,
    particles: Sequence[Particle],
) -> pd.DataFrame:
    """The picks that detection with these hyperparameters finds; their structure must have been looked at."""
    method, found = METHODS[settings.grid.method], {}
    for particle in particles:
        values = hyperparameters[particle.name]
        proposal = tomogram.proposals[particle.name][tuple(values[keyword] for keyword in settings.structural)]
        radii = _radii(particle, tomogram.voxel_spacing_angstrom, tomogram.stride, settings)
        kept = selected(
            proposal.candidates,
            **radii,
            nms_radius_fraction=values["nms_radius_fraction"],
            smallest_score=values.get(method.score_keyword),
            smallest_volume_fraction=values.get(method.size_keyword),
        )
        detections = proposal.candidates[kept]
        ranking = ranking_scores(detections, settings.grid.method, radii["trained_radius_voxels"])
        found[particle.name] = Found(detections, confidence(ranking, values), proposal.uncertainties[kept])
    return table_of_detections(tomogram.name, found, tomogram.voxel_spacing_angstrom)
