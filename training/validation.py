"""Hyperparameters of every detection method, chosen on the held-out tomograms as a search chooses them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from data.picks import table_coordinates_zyx
from data.thresholds import Hyperparameters
from detection.evidence import gather_evidence
from detection.grid import PER_CLASS, Grid
from detection.proposals import DetectionSettings, Proposals, accept, propose
from detection.search_result import choose
from detection.search_settings import SearchSettings
from inference.checkpoints import Description
from inference.predictor import Prediction
from metrics.fbeta import MATCH_RADIUS_FRACTION, f_beta, match_counts
from particle_config import Particle

# Share of a map: who predicts more of one class has not learnt it yet, and its voxels would cost hours and gigabytes.
MOST_CLASS_VOXELS = 0.05


@dataclass(frozen=True)
class HeldOut:
    """One held-out tomogram.

    Attributes
    ----------
    run_name : of its run
    prediction : of the network
    truth_zyx_angstrom : particle name -> (M, 3) reference points; none where not named
    """

    run_name: str
    prediction: Prediction
    truth_zyx_angstrom: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class ValidationResult:
    """What was found on the held-out tomograms.

    Attributes
    ----------
    f4 : particle name -> F4 of the first method, pooled over the tomograms, of exactly what it finds with its
        hyperparameters, overlaps resolved
    hyperparameters : method -> particle name -> keyword -> value, the calibration too
    """

    f4: Mapping[str, float]
    hyperparameters: Hyperparameters


def validate(
    held_out: Iterable[HeldOut],
    grids: Sequence[Grid],
    defaults: Mapping[str, Mapping[str, float]],
    description: Description,
) -> ValidationResult:
    """Choose for every particle the values of each grid that are best for its F4.

    Parameters
    ----------
    held_out : the tomograms; each is looked at once and let go before the next is asked for
    grids : one a method; the F4 that counts is that of the first
    defaults : method -> keyword -> value, for particles without any hit, and for those of which more than
        MOST_CLASS_VOXELS of the map would have to be searched
    description : of the network: its particles, voxel size and target radius
    """
    searches = [SearchSettings(PER_CLASS, grid, _detection(grid, defaults, description)) for grid in grids]
    names, evidence, first_method = [], [[] for _ in grids], []
    for tomogram in held_out:
        names.append(tomogram.run_name)
        for number, (search, found) in enumerate(zip(searches, evidence, strict=True)):
            proposals = _proposals(tomogram, search, description)
            found.append(gather_evidence(proposals, tomogram.truth_zyx_angstrom, search.grid))
            if number == 0:
                first_method.append((proposals, tomogram.truth_zyx_angstrom))
        del tomogram  # before the next one is predicted: a map takes gigabytes
    results = [
        choose(
            {p.name: [one[p.name] for one in found] for p in description.particles},
            search,
            description.particles,
            names,
        )
        for search, found in zip(searches, evidence, strict=True)
    ]
    picks = [(accept(proposals, results[0].hyperparameters, overlaps={}), truth) for proposals, truth in first_method]
    # Without a hit at any point of the grid F4 is 0 at all of them.
    f4 = {p.name: 0.0 if results[0].chosen[p.name] is None else _pooled_f4(picks, p) for p in description.particles}
    return ValidationResult(f4, {one.settings.grid.method: one.hyperparameters for one in results})


def _pooled_f4(found: Sequence[tuple[pd.DataFrame, Mapping[str, np.ndarray]]], particle: Particle) -> float:
    """Of the picks of each tomogram and its reference points."""
    counts = [
        match_counts(
            table_coordinates_zyx(picks[picks["particle_type"] == particle.name]),
            truth.get(particle.name, np.empty((0, 3))),
            MATCH_RADIUS_FRACTION * particle.radius_angstrom,
        )
        for picks, truth in found
    ]
    return float(f_beta(*np.sum(counts, axis=0)))


def _detection(grid: Grid, defaults: Mapping[str, Mapping[str, float]], description: Description) -> DetectionSettings:
    values = {p.name: dict(defaults[grid.method]) for p in description.particles}
    return DetectionSettings(description.radius_fraction, grid.method, values)


def _proposals(tomogram: HeldOut, search: SearchSettings, description: Description) -> Proposals:
    """What one method finds in a tomogram."""
    prediction, grid = tomogram.prediction, search.grid
    if lowest := grid.values.get("conf_threshold"):
        prediction = _without_diffuse_classes(prediction, min(lowest))
    return propose(
        prediction,
        search.detection,
        description.particles,
        run_name=tomogram.run_name,
        voxel_spacing_angstrom=description.voxel_spacing_angstrom,
        grid=grid,
    )


def _without_diffuse_classes(prediction: Prediction, threshold: float) -> Prediction:
    """With 0 in place of each class that has too many voxels above the threshold to be searched for particles."""
    shares = (prediction.probability[1:] > threshold).float().mean(dim=(1, 2, 3))
    if not (shares > MOST_CLASS_VOXELS).any():
        return prediction
    probability = prediction.probability.clone()
    probability[1:][shares > MOST_CLASS_VOXELS] = 0
    return replace(prediction, probability=probability)
