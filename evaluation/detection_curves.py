"""Detection that also tells how the F4 would be at any other threshold."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from evaluation.evidence import ranking_scores
from evaluation.search import LOWEST_SCORE
from evaluation.tomograms import (
    DetectionSettings,
    Found,
    PredictedTomogram,
    table_of_detections,
    uncertainty_at,
)
from metrics.calibration import confidence
from metrics.fbeta import MATCH_RADIUS_FRACTION, reference_scores
from metrics.threshold_curve import ThresholdCurve
from particle_config import Particle
from postprocessing import METHODS, candidates, radii_voxels
from postprocessing.selection import select

# Hidden, since it lies among the picks of a tomogram.
FILE = ".threshold_curves.json"


def detect_with_curves(
    tomogram: PredictedTomogram,
    settings: DetectionSettings,
    truth_zyx_angstrom: Mapping[str, np.ndarray],
    particles: Sequence[Particle],
) -> tuple[pd.DataFrame, dict[str, ThresholdCurve]]:
    """The picks of evaluation.tomograms.picks_of, and a curve for each particle.

    A curve runs over the method's threshold, all else as in the settings: over scores from LOWEST_SCORE up; where the
    threshold is one of size, over v / (1 + v) for candidates of v sphere volumes.
    """
    prediction, spacing = tomogram.prediction, tomogram.voxel_spacing_angstrom
    method = METHODS[settings.method]
    thresholds = [values.get(method.score_keyword, 0.0) for values in settings.hyperparameters.values()]
    proposed = candidates(
        prediction.probability,
        method=settings.method,
        particles=particles,
        voxel_spacing_angstrom=spacing,
        trained_radius_fraction=settings.trained_radius_fraction,
        structural=settings.hyperparameters,
        floor=min(LOWEST_SCORE, *thresholds),
        map_stride=prediction.stride,
        internal_downsample=settings.internal_downsample,
    )
    picks, curves = {}, {}
    for particle in particles:
        values = settings.hyperparameters[particle.name]
        radius_voxels, trained_radius_voxels = radii_voxels(
            particle,
            spacing,
            settings.trained_radius_fraction,
            cell_voxels=prediction.stride * settings.internal_downsample,
        )
        radii = {"radius_voxels": radius_voxels, "trained_radius_voxels": trained_radius_voxels}
        every = select(proposed[particle.name], **radii, nms_radius_fraction=values["nms_radius_fraction"])
        scores = ranking_scores(every, settings.method, trained_radius_voxels)
        truth = truth_zyx_angstrom.get(particle.name, np.empty((0, 3)))
        reach = MATCH_RADIUS_FRACTION * particle.radius_angstrom
        curves[particle.name] = ThresholdCurve(
            scores, reference_scores(every.coordinates_zyx * spacing, scores, truth, reach)
        )
        found = select(
            proposed[particle.name],
            **radii,
            nms_radius_fraction=values["nms_radius_fraction"],
            smallest_score=values.get(method.score_keyword),
            smallest_volume_fraction=values.get(method.size_keyword),
        )
        picks[particle.name] = Found(
            found,
            confidence(ranking_scores(found, settings.method, trained_radius_voxels), values),
            uncertainty_at(found.coordinates_zyx, prediction, particle.label),
        )
    return table_of_detections(tomogram.run.name, picks, spacing), curves


def pooled(curves: Iterable[ThresholdCurve]) -> ThresholdCurve:
    """One curve for the candidates and references of all."""
    scores, hit_scores = zip(*((curve.scores, curve.hit_scores) for curve in curves), strict=True)
    return ThresholdCurve(np.concatenate(scores), np.concatenate(hit_scores))


def write_curves(folder: Path, curves: Mapping[str, ThresholdCurve]) -> None:
    content = {
        name: {
            "scores": curve.scores.tolist(),
            "hit_scores": [score if np.isfinite(score) else None for score in curve.hit_scores.tolist()],
        }
        for name, curve in curves.items()
    }
    (folder / FILE).write_text(json.dumps(content) + "\n", encoding="utf-8")


def read_curves(folder: Path) -> dict[str, ThresholdCurve]:
    content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return {
        name: ThresholdCurve(
            np.array(one["scores"], dtype=float),
            np.array([-np.inf if score is None else score for score in one["hit_scores"]], dtype=float),
        )
        for name, one in content.items()
    }
