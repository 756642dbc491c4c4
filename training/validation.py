"""Hyperparameters of every detection method, chosen on the held-out tomogram as a search chooses them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data.thresholds import Hyperparameters
from detection.evidence import gather_evidence
from detection.grid import PER_CLASS, Grid
from detection.proposals import DetectionSettings, propose
from detection.search_result import choose
from detection.search_settings import SearchSettings
from inference.checkpoints import Description
from inference.predictor import Prediction

# Share of a map: who predicts more of one class has not learnt it yet, and its voxels would cost hours and gigabytes.
MOST_CLASS_VOXELS = 0.05


@dataclass(frozen=True)
class ValidationResult:
    """What was found on the held-out tomogram.

    Attributes
    ----------
    f4 : particle name -> F4 of the first method, of exactly what it finds with its hyperparameters
    hyperparameters : method -> particle name -> keyword -> value, the calibration too
    """

    f4: Mapping[str, float]
    hyperparameters: Hyperparameters


def validate(
    prediction: Prediction,
    truth_zyx_angstrom: Mapping[str, np.ndarray],
    grids: Sequence[Grid],
    defaults: Mapping[str, Mapping[str, float]],
    description: Description,
) -> ValidationResult:
    """Choose for every particle the values of each grid that are best for its F4.

    Parameters
    ----------
    prediction : of the held-out tomogram
    truth_zyx_angstrom : particle name -> (M, 3); none where not named
    grids : one a method; the F4 that counts is that of the first
    defaults : method -> keyword -> value, for particles without any hit, and for those of which more than
        MOST_CLASS_VOXELS of the map would have to be searched
    description : of the network: its particles, voxel size and target radius
    """
    found = [_tuned(prediction, truth_zyx_angstrom, grid, defaults[grid.method], description) for grid in grids]
    return ValidationResult(found[0][0], {grid.method: one for grid, (_, one) in zip(grids, found, strict=True)})


def _tuned(
    prediction: Prediction,
    truth_zyx_angstrom: Mapping[str, np.ndarray],
    grid: Grid,
    defaults: Mapping[str, float],
    description: Description,
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Particle name -> F4, and particle name -> hyperparameters of one method."""
    particles, run = description.particles, description.validation_run
    if lowest := grid.values.get("conf_threshold"):
        prediction = _without_diffuse_classes(prediction, min(lowest))
    detection = DetectionSettings(description.radius_fraction, grid.method, {p.name: dict(defaults) for p in particles})
    proposals = propose(
        prediction,
        detection,
        particles,
        run_name=run,
        voxel_spacing_angstrom=description.voxel_spacing_angstrom,
        grid=grid,
    )
    evidence = gather_evidence(proposals, truth_zyx_angstrom, grid)
    result = choose(
        {name: [one] for name, one in evidence.items()}, SearchSettings(PER_CLASS, grid, detection), particles, [run]
    )
    # Without a hit at any point of the grid F4 is 0 at all of them.
    f4 = {name: 0.0 if at is None else float(result.pooled_f4(name)[at]) for name, at in result.chosen.items()}
    return f4, result.hyperparameters


def _without_diffuse_classes(prediction: Prediction, threshold: float) -> Prediction:
    """With 0 in place of each class that has too many voxels above the threshold to be searched for particles."""
    shares = (prediction.probability[1:] > threshold).float().mean(dim=(1, 2, 3))
    if not (shares > MOST_CLASS_VOXELS).any():
        return prediction
    probability = prediction.probability.clone()
    probability[1:][shares > MOST_CLASS_VOXELS] = 0
    return replace(prediction, probability=probability)
