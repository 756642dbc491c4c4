"""From a normalised tomogram to one probability map."""

import numpy as np
import pytest
import torch
from torch import nn

from inference.predictor import InferenceSettings, Predictor

CPU = torch.device("cpu")
SETTINGS = InferenceSettings((32, 32, 32), 0.25, "gaussian", 1, "none", "fp32")


class Fixed(nn.Module):
    """Answers with the same logits everywhere."""

    divisor = 8

    def __init__(self, *logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, volume):
        return self.logits.view(1, -1, 1, 1, 1).expand(len(volume), -1, *volume.shape[-3:])


def with_settings(**changes):
    return InferenceSettings(**{**SETTINGS.__dict__, **changes})


def test_probabilities_of_several_networks_are_averaged():
    predictor = Predictor([Fixed(0.0, 0.0), Fixed(0.0, np.log(3.0))], SETTINGS, CPU)
    probability = predictor(np.random.default_rng(0).random((20, 30, 40), dtype=np.float32))
    assert probability.shape == (2, 20, 30, 40)
    assert torch.allclose(probability[1], torch.full((20, 30, 40), (0.5 + 0.75) / 2), atol=1e-6)
    assert torch.allclose(probability.sum(0), torch.ones(20, 30, 40), atol=1e-6)


def test_the_window_is_cut_to_the_tomogram_and_fits_the_network():
    predictor = Predictor([Fixed(0.0, 1.0)], SETTINGS, CPU)
    assert predictor.window_for((20, 100, 32)) == (24, 32, 32)
    assert predictor.count_windows((20, 100, 32)) == 4


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precisions(precision):
    predictor = Predictor([nn.Conv3d(1, 3, 3, padding=1)], with_settings(precision=precision), CPU)
    predictor.networks[0].divisor = 1
    probability = predictor(np.random.default_rng(0).random((8, 8, 8), dtype=np.float32))
    assert probability.dtype == torch.float32 and torch.isfinite(probability).all()
