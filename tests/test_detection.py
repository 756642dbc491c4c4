"""The way from a map to picks: what is proposed, what is accepted, and the F4 at other thresholds."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from detection.arguments import HYPERPARAMETERS
from detection.proposals import (
    LOWEST_SCORE,
    DetectionSettings,
    accept,
    propose,
    threshold_curves,
    uncertainty_at,
)
from inference.predictor import Prediction
from metrics.fbeta import score_picks
from particle_config import PARTICLES
from postprocessing import METHODS, detect

SPACING = 10.0
SHAPE = (24, 40, 40)
CENTRES = np.array([[8.0, 9.0, 10.0], [12.0, 28.0, 12.0], [10.0, 12.0, 30.0], [14.0, 30.0, 30.0]])
TRUTH = {particle.name: CENTRES[:3] * SPACING + 1 + 2 * particle.label for particle in PARTICLES}


def settings(method, **changes):
    values = {row.keyword: row.default_for(method) for row in HYPERPARAMETERS if method in row.methods}
    return DetectionSettings(0.5, method, {p.name: values | {"nms_radius_fraction": 0.5} | changes for p in PARTICLES})


@pytest.fixture(scope="module")
def prediction():
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
    return Prediction(probability, probability / 10, 1)


def proposals_of(prediction, chosen, particles=PARTICLES):
    return propose(prediction, chosen, particles, run_name="TS_1", voxel_spacing_angstrom=SPACING)


def picks_of(prediction, chosen):
    return accept(proposals_of(prediction, chosen), chosen.hyperparameters)


@pytest.mark.parametrize("method", METHODS)
def test_the_picks_are_the_detections_in_angstrom(prediction, method):
    """Of postprocessing.detect, with what is known of each; coordinates in the order of the table's columns."""
    chosen = settings(method)
    found = detect(
        prediction.probability,
        method=method,
        particles=PARTICLES,
        voxel_spacing_angstrom=SPACING,
        trained_radius_fraction=0.5,
        hyperparameters=chosen.hyperparameters,
    )
    picks = picks_of(prediction, chosen)
    assert len(picks) > 0 and set(picks["experiment"]) == {"TS_1"}
    for name, rows in picks.groupby("particle_type"):
        np.testing.assert_array_equal(rows[["z", "y", "x"]].to_numpy(), found[name].coordinates_zyx * SPACING)
        np.testing.assert_array_equal(rows["score"], found[name].scores)
        np.testing.assert_array_equal(rows["size_voxels"], found[name].sizes)


def test_every_particle_has_its_own_threshold(prediction):
    """Also where the first particle's is the highest: candidates go down to the lowest of all."""
    first, last = PARTICLES[0].name, PARTICLES[-1].name
    low, high = settings("peak_local_max_gpu", peak_threshold=0.001), settings("peak_local_max_gpu", peak_threshold=0.5)
    values = {**high.hyperparameters, last: low.hyperparameters[last]}
    picks = picks_of(prediction, replace(high, hyperparameters=values))
    everything = picks_of(prediction, low)
    for name, chosen in ((first, 0.5), (last, 0.001)):
        scores = everything.loc[everything["particle_type"] == name, "score"]
        assert picks.loc[picks["particle_type"] == name, "score"].tolist() == scores[scores >= chosen].tolist()
    assert everything.loc[everything["particle_type"] == last, "score"].min() < 0.5


def test_candidates_go_down_to_the_lowest_threshold_of_all_particles():
    """Also below the score from which on curves are drawn."""
    probability = torch.zeros(len(PARTICLES) + 1, 16, 16, 16)
    probability[-1, 7:10, 7:10, 7:10] = 0.02
    values = settings("peak_local_max_gpu", peak_threshold=0.5).hyperparameters
    values[PARTICLES[-1].name] = {"peak_threshold": 0.0001, "nms_radius_fraction": 0.5}
    picks = picks_of(Prediction(probability, None, 1), DetectionSettings(0.5, "peak_local_max_gpu", values))
    assert picks["particle_type"].tolist() == [PARTICLES[-1].name] and picks["score"].iloc[0] < LOWEST_SCORE


def test_no_threshold_goes_below_what_was_sought(prediction):
    proposals = proposals_of(prediction, settings("peak_local_max_gpu", peak_threshold=0.5))
    assert proposals.lowest_score == LOWEST_SCORE
    accept(proposals, settings("peak_local_max_gpu", peak_threshold=LOWEST_SCORE).hyperparameters)
    with pytest.raises(ValueError, match="no candidates were sought below"):
        accept(proposals, settings("peak_local_max_gpu", peak_threshold=0.019).hyperparameters)


@pytest.mark.parametrize("threshold", [0.1, 0.4, 0.6, 0.75])
def test_the_curve_is_the_score_at_every_threshold(prediction, threshold):
    chosen = settings("peak_local_max_gpu")
    curves = threshold_curves(proposals_of(prediction, chosen), chosen.hyperparameters, TRUTH)
    other = settings("peak_local_max_gpu", peak_threshold=threshold)
    proposals = proposals_of(prediction, other)
    picks, again = accept(proposals, other.hyperparameters), threshold_curves(proposals, other.hyperparameters, TRUTH)
    truth = pd.concat(
        pd.DataFrame(zyx[:, ::-1], columns=["x", "y", "z"]).assign(experiment="TS_1", particle_type=name)
        for name, zyx in TRUTH.items()
    )
    score = score_picks(picks, truth).per_particle["f4"]
    for name, curve in curves.items():
        assert curve.f_beta_at(threshold) == pytest.approx(score[name])
        np.testing.assert_array_equal(curve.scores, again[name].scores)


def test_of_methods_with_a_size_the_curve_runs_over_it(prediction):
    chosen = settings("cc3d")
    curves = threshold_curves(proposals_of(prediction, chosen), chosen.hyperparameters, TRUTH)
    assert all(((curve.scores > 0) & (curve.scores < 1)).all() for curve in curves.values())


def test_without_truth_there_are_no_references(prediction):
    chosen = settings("cc3d")
    curves = threshold_curves(proposals_of(prediction, chosen), chosen.hyperparameters, {})
    assert all(curve.references == 0 and len(curve.scores) for curve in curves.values())


# --- Uncertainty --------------------------------------------------------------------------------------
@pytest.mark.parametrize("stride", [1, 2])
def test_a_pick_is_as_uncertain_as_the_voxel_of_the_map_it_lies_in(stride):
    variance = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 3, 4, 5)
    prediction = Prediction(variance, variance, stride)
    voxels = np.array([[0, 0, 0], [2, 3, 4], [1, 2, 3], [2, 0, 1]])
    centres = (voxels + 0.5) * stride - 0.5
    expected = np.sqrt(variance[1].numpy()[tuple(voxels.T)])
    for shift in (0, 0.4 * stride, -0.4 * stride):
        np.testing.assert_allclose(uncertainty_at(centres + shift, prediction, 1), expected, rtol=1e-6)
    assert uncertainty_at(np.array([[-9.0, -9, -9], [99, 99, 99]]), prediction, 0) == pytest.approx([0, 59**0.5])
    assert uncertainty_at(np.empty((0, 3)), prediction, 1).shape == (0,)


def test_without_variance_nothing_is_known_of_the_uncertainty():
    found = uncertainty_at(np.zeros((2, 3)), Prediction(torch.zeros(2, 3, 4, 5), None, 1), 1)
    assert np.isnan(found).all() and found.shape == (2,)
