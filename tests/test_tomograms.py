"""Tomograms through network, detection and files: what was painted is picked, in angstrom."""

import mrcfile
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional

from data.czi import find_runs
from evaluation.tomograms import DetectionSettings, evaluate_runs
from inference.predictor import InferenceSettings, Predictor
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
    settings = DetectionSettings(
        "denoised",
        norm_percentiles,
        0.5,
        SPACING,
        "peak_local_max_gpu",
        hyperparameters,
        internal_downsample=internal_downsample,
    )
    evaluate_runs(
        runs,
        Predictor([Darkness(output_stride)], inference, torch.device("cpu")),
        settings,
        particles=PARTICLES,
        output_dir=tmp_path / "out",
    )
    picks = pd.read_csv(tmp_path / "out" / "submission.csv")
    assert picks["particle_type"].tolist() == ["ribosome"]
    assert picks[["z", "y", "x"]].to_numpy()[0] == pytest.approx(CENTRE * SPACING, abs=0.15 * SPACING)
