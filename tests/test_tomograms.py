"""Tomograms through network, detection and files: what was painted is picked, in angstrom."""

import time
import weakref

import mrcfile
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional

from data.czi import find_runs
from errors import InputError
from evaluation.runs import evaluate_runs
from evaluation.tomograms import DetectionSettings, TomogramSettings, predict_runs, uncertainty_at
from inference.predictor import Prediction, Predictor
from inference.settings import InferenceSettings
from particle_config import PARTICLES

SPACING = 10.0
CENTRE = np.array([14.3, 22.8, 17.5])  # voxels z, y, x
SHAPE = (31, 43, 36)


class Darkness(nn.Module):
    """Ribosome where the mean of a cell is dark."""

    divisor = 8

    def __init__(self, output_stride):
        super().__init__()
        self.output_stride = output_stride

    def forward(self, volume):
        logits = torch.zeros(
            len(volume), len(PARTICLES) + 1, *(side // self.output_stride for side in volume.shape[2:])
        )
        logits[:, 0] = 4.0
        logits[:, 4] = -functional.avg_pool3d(volume, self.output_stride)[:, 0]
        return logits


@pytest.fixture
def runs(tmp_path):
    z, y, x = np.ogrid[tuple(slice(side) for side in SHAPE)]
    squared = (z - CENTRE[0]) ** 2 + (y - CENTRE[1]) ** 2 + (x - CENTRE[2]) ** 2
    folder = tmp_path / "train" / "static" / "ExperimentRuns" / "a" / "VoxelSpacing10.000"
    folder.mkdir(parents=True)
    with mrcfile.new(folder / "denoised.mrc") as file:
        file.set_data((-0.01 * np.exp(-squared / (2 * 6.0**2))).astype(np.float32))
        file.voxel_size = SPACING
    return find_runs(tmp_path, tomo_type="denoised")


@pytest.mark.parametrize("norm_percentiles", [(0.0, 100.0), None])
@pytest.mark.parametrize(("output_stride", "internal_downsample"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_a_dark_blob_is_picked_where_it_lies(runs, tmp_path, output_stride, internal_downsample, norm_percentiles):
    inference = InferenceSettings((64, 64, 64), 0.25, "gaussian", 1, "none", "fp32")
    hyperparameters = {p.name: {"peak_threshold": 0.3, "nms_radius_fraction": 0.8} for p in PARTICLES}
    evaluate_runs(
        runs,
        Predictor([Darkness(output_stride)], inference, torch.device("cpu")),
        TomogramSettings("denoised", norm_percentiles, SPACING),
        DetectionSettings(0.5, "peak_local_max_gpu", hyperparameters, internal_downsample),
        particles=PARTICLES,
        output_dir=tmp_path / "out",
    )
    picks = pd.read_csv(tmp_path / "out" / "submission.csv")
    assert picks["particle_type"].tolist() == ["ribosome"]
    assert picks[["z", "y", "x"]].to_numpy()[0] == pytest.approx(CENTRE * SPACING, abs=0.1 * SPACING)


# --- Reading ahead ------------------------------------------------------------------------------------
class Named:
    """A run, and a tomogram that says when it is read."""

    def __init__(self, number, log):
        self.number, self.log = number, log
        self.name, self.shape_zyx, self.voxel_spacing_angstrom = f"TS_{number}", (4, 4, 4), SPACING

    def read(self):
        self.log.append(self.number)
        if self.number == "broken":
            raise InputError("TS_broken: corrupt chunk")
        return np.full(self.shape_zyx, self.number, dtype=np.float32)


def predicted(numbers, monkeypatch, predictor=lambda volume, progress: float(volume[0, 0, 0])):
    log = []
    runs = [Named(number, log) for number in numbers]
    monkeypatch.setattr("evaluation.tomograms.open_tomograms", lambda runs, settings: runs)
    return log, predict_runs(runs, predictor, TomogramSettings("denoised", None, SPACING))


def test_runs_come_in_their_order_each_with_its_own_volume(monkeypatch):
    _, tomograms = predicted([3, 1, 2], monkeypatch)
    found = [(one.run.name, one.volume[0, 0, 0], one.prediction) for one in tomograms]
    assert found == [("TS_3", 3, 3), ("TS_1", 1, 1), ("TS_2", 2, 2)]
    assert list(predicted([], monkeypatch)[1]) == []


def test_the_next_is_read_while_this_one_computes(monkeypatch):
    """The predictor waits until the next run has been read; no more than that one is."""

    def predictor(volume, progress):
        number = int(volume[0, 0, 0])
        deadline = time.monotonic() + 10
        while len(log) < min(number + 1, 3) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert log == [1, 2, 3][: number + 1]

    log, tomograms = predicted([1, 2, 3], monkeypatch, predictor)
    assert len(list(tomograms)) == 3


def test_a_run_that_cannot_be_read_fails_when_its_turn_comes(monkeypatch):
    _, tomograms = predicted([1, "broken", 3], monkeypatch)
    assert next(tomograms).run.name == "TS_1"
    with pytest.raises(InputError, match="corrupt chunk"):
        next(tomograms)


def test_a_map_that_is_forgotten_is_gone_before_the_next_is_made(monkeypatch):
    alive = []

    def predictor(volume, progress):
        assert not any(reference() for reference in alive)
        probability = torch.zeros(7, 4, 4, 4)
        alive.append(weakref.ref(probability))
        return Prediction(probability, None, 1)

    _, tomograms = predicted([1, 2, 3], monkeypatch, predictor)
    for tomogram in tomograms:
        assert alive[-1]() is tomogram.prediction.probability
        del tomogram


# --- Uncertainty --------------------------------------------------------------------------------------
@pytest.mark.parametrize("stride", [1, 2])
def test_a_pick_is_as_uncertain_as_the_cell_it_lies_in(stride):
    variance = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 3, 4, 5)
    prediction = Prediction(variance, variance, stride)
    cells = np.array([[0, 0, 0], [2, 3, 4], [1, 2, 3], [2, 0, 1]])
    places = (cells + 0.5) * stride - 0.5
    expected = np.sqrt(variance[1].numpy()[tuple(cells.T)])
    for shift in (0, 0.4 * stride, -0.4 * stride):
        np.testing.assert_allclose(uncertainty_at(places + shift, prediction, 1), expected, rtol=1e-6)
    assert uncertainty_at(np.array([[-9.0, -9, -9], [99, 99, 99]]), prediction, 0) == pytest.approx([0, 59**0.5])
    assert uncertainty_at(np.empty((0, 3)), prediction, 1).shape == (0,)


def test_without_variance_nothing_is_known_of_the_uncertainty():
    found = uncertainty_at(np.zeros((2, 3)), Prediction(torch.zeros(2, 3, 4, 5), None, 1), 1)
    assert np.isnan(found).all() and found.shape == (2,)
