"""Detection with curves: the very picks of detection alone, and the F4 that they would have at other thresholds."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from data.czi import Run
from evaluation.arguments import HYPERPARAMETERS
from evaluation.detection_curves import detect_with_curves, pooled, read_curves, write_curves
from evaluation.tomograms import DetectionSettings, PredictedTomogram, picks_of
from inference.predictor import Prediction
from metrics.fbeta import score_picks
from particle_config import PARTICLES
from postprocessing import METHODS

SPACING = 10.0
SHAPE = (24, 40, 40)
CENTRES = np.array([[8.0, 9.0, 10.0], [12.0, 28.0, 12.0], [10.0, 12.0, 30.0], [14.0, 30.0, 30.0]])


def settings(method):
    values = {row.keyword: row.default_for(method) for row in HYPERPARAMETERS if method in row.methods}
    return DetectionSettings(0.5, method, {p.name: values | {"nms_radius_fraction": 0.5} for p in PARTICLES})


@pytest.fixture(scope="module")
def tomogram():
    """Blobs of falling height, the last one far from any truth, in the map of every particle; a little noise."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    maps = np.zeros((len(PARTICLES) + 1, *SHAPE), dtype=np.float32)
    for particle in PARTICLES:
        width = particle.radius_angstrom / SPACING / 2
        for height, centre in zip((0.9, 0.7, 0.5, 0.8), CENTRES, strict=True):
            blob = height * np.exp(-np.square(grid - centre).sum(axis=-1) / (2 * (width / 1.5) ** 2))
            maps[particle.label] = np.maximum(maps[particle.label], blob)
    maps += rng.uniform(0, 0.05, size=maps.shape).astype(np.float32)
    probability = torch.from_numpy(np.clip(maps, 0, 1))
    return PredictedTomogram(Run("TS_1", {}, None), SPACING, None, Prediction(probability, probability / 10, 1))


TRUTH = {particle.name: CENTRES[:3] * SPACING + 1 + 2 * particle.label for particle in PARTICLES}


@pytest.mark.parametrize("method", METHODS)
def test_the_picks_are_those_of_detection_alone(tomogram, method):
    picks, _ = detect_with_curves(tomogram, settings(method), TRUTH, PARTICLES)
    assert len(picks) > 0
    pd.testing.assert_frame_equal(picks, picks_of(tomogram, settings(method), PARTICLES), check_exact=True)


@pytest.mark.parametrize("threshold", [0.1, 0.4, 0.6, 0.75])
def test_the_curve_is_the_score_at_every_threshold(tomogram, threshold):
    chosen = settings("peak_local_max_gpu")
    _, curves = detect_with_curves(tomogram, chosen, TRUTH, PARTICLES)
    values = {name: one | {"peak_threshold": threshold} for name, one in chosen.hyperparameters.items()}
    picks, again = detect_with_curves(tomogram, replace(chosen, hyperparameters=values), TRUTH, PARTICLES)
    truth = pd.concat(
        pd.DataFrame(zyx[:, ::-1], columns=["x", "y", "z"]).assign(experiment="TS_1", particle_type=name)
        for name, zyx in TRUTH.items()
    )
    score = score_picks(picks, truth).per_particle["f4"]
    for name, curve in curves.items():
        assert curve.f_beta_at(threshold) == pytest.approx(score[name])
        np.testing.assert_array_equal(curve.scores, again[name].scores)


def test_of_methods_with_a_size_the_curve_runs_over_it(tomogram):
    _, curves = detect_with_curves(tomogram, settings("cc3d"), TRUTH, PARTICLES)
    assert all(((curve.scores > 0) & (curve.scores < 1)).all() for curve in curves.values())


def test_curves_come_back_and_are_pooled(tomogram, tmp_path):
    _, curves = detect_with_curves(tomogram, settings("peak_local_max_gpu"), {}, PARTICLES)
    _, others = detect_with_curves(tomogram, settings("peak_local_max_gpu"), TRUTH, PARTICLES)
    write_curves(tmp_path, others)
    back = read_curves(tmp_path)
    for name, curve in others.items():
        np.testing.assert_array_equal(back[name].scores, curve.scores)
        np.testing.assert_array_equal(back[name].hit_scores, curve.hit_scores)
        together = pooled([curves[name], curve])
        assert together.references == 3 and len(together.scores) == 2 * len(curve.scores)
