"""The one way from a probability map to picks: propose candidates, accept particles among them.

    proposals = propose(prediction, settings, particles, run_name="TS_1", voxel_spacing_angstrom=10.0)
    picks = accept(proposals, settings.hyperparameters)
    curves = threshold_curves(proposals, settings.hyperparameters, truth_zyx_angstrom)

Of the map nothing is kept, so that other thresholds cost next to nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist

from data.picks import picks_table
from detection.grid import Grid
from inference.predictor import Prediction
from metrics.calibration import confidence
from metrics.fbeta import MATCH_RADIUS_FRACTION
from metrics.threshold_curve import ThresholdCurve
from particle_config import Particle
from postprocessing import METHODS, candidates, radii_voxels
from postprocessing.detections import Detections
from postprocessing.overlaps import not_outdone
from postprocessing.selection import selected

# Candidates below the thresholds show how the F4 curve goes on; what lies below this is noise.
LOWEST_SCORE = 0.02

# Particle name -> keyword -> value.
MethodHyperparameters = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class DetectionSettings:
    """How particles are found on a probability map.

    Attributes
    ----------
    trained_radius_fraction : of the network's training
    method : a name in postprocessing.METHODS
    hyperparameters : particle name -> keyword -> value; the calibration of the scores too, where there is one
    internal_downsample : voxels of the map in one voxel of the coarser map that is searched
    overlaps : as :func:`accept` takes it
    """

    trained_radius_fraction: float
    method: str
    hyperparameters: MethodHyperparameters
    internal_downsample: int = 1
    overlaps: MethodHyperparameters | None = None


@dataclass(frozen=True)
class Candidates:
    """Candidates of one class before thresholds and suppression.

    Attributes
    ----------
    detections : N candidates in any order, in voxels of the tomogram
    uncertainties : (N,) standard deviation of the probability over views and networks; NaN where there is only one
    """

    detections: Detections
    uncertainties: np.ndarray


@dataclass(frozen=True)
class Proposals:
    """All candidates on a tomogram.

    Attributes
    ----------
    method : a name in postprocessing.METHODS
    particles : the particle table
    radii_voxels : particle name -> radius_voxels and trained_radius_voxels, as postprocessing.selection takes them
    candidates : particle name -> values of the method's structural keywords -> Candidates
    lowest_score : candidates with less were not sought, where the method has a threshold on the score
    """

    run_name: str
    voxel_spacing_angstrom: float
    method: str
    particles: tuple[Particle, ...]
    radii_voxels: Mapping[str, Mapping[str, float]]
    candidates: Mapping[str, Mapping[tuple[float, ...], Candidates]]
    lowest_score: float

    def of(self, name: str, values: Mapping[str, float]) -> Candidates:
        """Those of a particle for the structural keywords among these hyperparameters."""
        return self.candidates[name][structural_values(self.method, values)]

    def ranking(self, name: str, detections: Detections) -> np.ndarray:
        """(N,) in 0..1: what the method's threshold is about."""
        return METHODS[self.method].ranking(detections, self.radii_voxels[name]["trained_radius_voxels"])

    def near(self, particle: Particle, detections: Detections, truth_zyx_angstrom: np.ndarray) -> np.ndarray:
        """(N, M) bool: whether a candidate lies within the match radius of a reference point."""
        positions = detections.coordinates_zyx * self.voxel_spacing_angstrom
        return cdist(positions, truth_zyx_angstrom) <= MATCH_RADIUS_FRACTION * particle.radius_angstrom


def structural_values(method: str, values: Mapping[str, float]) -> tuple[float, ...]:
    return tuple(values[keyword] for keyword in METHODS[method].structural)


def propose(
    prediction: Prediction,
    settings: DetectionSettings,
    particles: Sequence[Particle],
    *,
    run_name: str,
    voxel_spacing_angstrom: float,
    grid: Grid | None = None,
) -> Proposals:
    """Candidates of every class, for the hyperparameters of the settings and for all those of a grid.

    Parameters
    ----------
    grid : of the same method; None: only what the settings need

    Raises
    ------
    InputError : the map of a particle holds NaN or values out of 0..1
    """
    method, voxel_width = METHODS[settings.method], prediction.stride * settings.internal_downsample
    thresholds = [values[method.score_keyword] for values in settings.hyperparameters.values() if method.score_keyword]
    floor = min(LOWEST_SCORE, *thresholds, grid.lowest_score if grid else LOWEST_SCORE)
    found: dict[str, dict[tuple[float, ...], Candidates]] = {particle.name: {} for particle in particles}
    for structure in (*(grid.structures if grid else ()), None):
        values = {p.name: settings.hyperparameters[p.name] if structure is None else structure for p in particles}
        keys = {name: structural_values(settings.method, one) for name, one in values.items()}
        new = [particle for particle in particles if keys[particle.name] not in found[particle.name]]
        proposed = candidates(
            prediction.probability,
            method=settings.method,
            particles=new,
            voxel_spacing_angstrom=voxel_spacing_angstrom,
            trained_radius_fraction=settings.trained_radius_fraction,
            structural=values,
            floor=floor,
            map_stride=prediction.stride,
            internal_downsample=settings.internal_downsample,
        )
        for particle in new:
            one = proposed[particle.name]
            uncertainties = uncertainty_at(one.coordinates_zyx, prediction, particle.label)
            found[particle.name][keys[particle.name]] = Candidates(one, uncertainties)
    radii = {
        p.name: radii_voxels(p, voxel_spacing_angstrom, settings.trained_radius_fraction, voxel_width=voxel_width)
        for p in particles
    }
    return Proposals(run_name, voxel_spacing_angstrom, settings.method, tuple(particles), radii, found, floor)


def accept(
    proposals: Proposals, hyperparameters: MethodHyperparameters, overlaps: MethodHyperparameters | None = None
) -> pd.DataFrame:
    """Picks in angstrom, best first within each particle: the candidates above the thresholds, after suppression.

    Parameters
    ----------
    hyperparameters : their structural values must be among those proposed
    overlaps : of picks of different particles on one place, those of far less confidence go (postprocessing.overlaps);
        particle name -> calibration for it, where the hyperparameters have none. None: all stay.

    Raises
    ------
    ValueError : a threshold lies below the scores that were sought
    """
    method, found = METHODS[proposals.method], []
    for particle in proposals.particles:
        values = hyperparameters[particle.name]
        if method.score_keyword and values[method.score_keyword] < proposals.lowest_score:
            raise ValueError(f"{particle.name}: no candidates were sought below {proposals.lowest_score}, got {values}")
        proposed = proposals.of(particle.name, values)
        kept = selected(
            proposed.detections,
            **proposals.radii_voxels[particle.name],
            **method.selection(values),
        )
        found.append(Candidates(proposed.detections[kept], proposed.uncertainties[kept]))
    if overlaps is not None:
        calibrations = {p.name: {**overlaps.get(p.name, {}), **hyperparameters[p.name]} for p in proposals.particles}
        found = _without_overlaps(proposals, found, calibrations)
    tables = [
        picks_table(
            proposals.run_name,
            particle.name,
            one.detections.coordinates_zyx * proposals.voxel_spacing_angstrom,
            one.detections.scores,
            one.uncertainties,
            one.detections.sizes,
            confidence(proposals.ranking(particle.name, one.detections), hyperparameters[particle.name]),
        )
        for particle, one in zip(proposals.particles, found, strict=True)
    ]
    return pd.concat(tables, ignore_index=True)


def _without_overlaps(
    proposals: Proposals, found: Sequence[Candidates], calibrations: MethodHyperparameters
) -> list[Candidates]:
    """Of the candidates of each particle those that no far more confident one of another particle overlaps with."""
    pairs = list(zip(proposals.particles, found, strict=True))
    kept = not_outdone(
        [one.detections.coordinates_zyx * proposals.voxel_spacing_angstrom for one in found],
        [confidence(proposals.ranking(p.name, one.detections), calibrations[p.name]) for p, one in pairs],
        [particle.radius_angstrom for particle in proposals.particles],
    )
    return [Candidates(one.detections[stay], one.uncertainties[stay]) for one, stay in zip(found, kept, strict=True)]


def threshold_curves(
    proposals: Proposals, hyperparameters: MethodHyperparameters, truth_zyx_angstrom: Mapping[str, np.ndarray]
) -> dict[str, ThresholdCurve]:
    """Particle name -> F4 at every other threshold, all else as in the hyperparameters.

    Parameters
    ----------
    truth_zyx_angstrom : particle name -> (M, 3); none where not named

    Returns
    -------
    Curves over scores from LOWEST_SCORE up; where the threshold is one of size, over v / (1 + v) for candidates of v
    sphere volumes.
    """
    method, curves = METHODS[proposals.method], {}
    for particle in proposals.particles:
        values = hyperparameters[particle.name]
        detections = proposals.of(particle.name, values).detections
        selection = method.selection(values) | {method.threshold: None}
        kept = selected(detections, **proposals.radii_voxels[particle.name], **selection)
        near = proposals.near(particle, detections, truth_zyx_angstrom.get(particle.name, np.empty((0, 3))))
        curves[particle.name] = curve_of(proposals.ranking(particle.name, detections), near, kept)
    return curves


def curve_of(scores: np.ndarray, near: np.ndarray, kept: np.ndarray) -> ThresholdCurve:
    """The curve of the kept candidates, from the (N,) scores and (N, M) nearness of all of them."""
    hit_scores = np.where(near[kept], scores[kept, None], -np.inf).max(axis=0, initial=-np.inf)
    return ThresholdCurve(scores[kept], hit_scores)


def uncertainty_at(coordinates_zyx: np.ndarray, prediction: Prediction, label: int) -> np.ndarray:
    """Standard deviation of a class's probability over views and networks, in the voxel of the map about a position.

    Parameters
    ----------
    coordinates_zyx : (N, 3) voxels of the tomogram; positions outside count as the nearest voxel of the map
    prediction : with C classes
    label : of the class

    Returns
    -------
    (N,) float64 in 0..0.5; NaN where there is one view of one network.
    """
    if prediction.variance is None:
        return np.full(len(coordinates_zyx), np.nan)
    variance = prediction.variance[label]
    voxels = np.rint((coordinates_zyx + 0.5) / prediction.stride - 0.5).astype(np.int64)
    z, y, x = np.clip(voxels, 0, np.array(variance.shape) - 1).T
    return variance[z, y, x].double().sqrt().cpu().numpy()
