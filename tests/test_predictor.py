"""From a normalised tomogram to one probability map."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from inference.predictor import InferenceSettings, Predictor

CPU = torch.device("cpu")
SETTINGS = InferenceSettings((32, 32, 32), 0.25, "gaussian", 1, "none", "fp32")


class Pooled(nn.Module):
    """Answers at stride 2: the mean of each cell against nothing."""

    output_stride = 2

    def __init__(self, divisor=8):
        super().__init__()
        self.divisor = divisor

    def forward(self, volume):
        mean = functional.avg_pool3d(volume, 2)
        return torch.cat((torch.zeros_like(mean), mean), dim=1)


class Fixed(nn.Module):
    """Answers with the same logits everywhere."""

    divisor = 8
    output_stride = 1

    def __init__(self, *logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, volume):
        return self.logits.view(1, -1, 1, 1, 1).expand(len(volume), -1, *volume.shape[-3:])


def with_settings(**changes):
    return InferenceSettings(**{**SETTINGS.__dict__, **changes})


def test_probabilities_of_several_networks_are_averaged():
    predictor = Predictor([Fixed(0.0, 0.0), Fixed(0.0, np.log(3.0))], SETTINGS, CPU)
    probability = predictor(np.random.default_rng(0).random((20, 30, 40), dtype=np.float32)).probability
    assert probability.shape == (2, 20, 30, 40)
    assert torch.allclose(probability[1], torch.full((20, 30, 40), (0.5 + 0.75) / 2), atol=1e-6)
    assert torch.allclose(probability.sum(0), torch.ones(20, 30, 40), atol=1e-6)


def test_the_window_is_cut_to_the_tomogram_and_fits_the_network():
    predictor = Predictor([Fixed(0.0, 1.0)], SETTINGS, CPU)
    assert predictor.window_for((20, 100, 32)) == (24, 32, 32)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precisions(precision):
    network = nn.Conv3d(1, 3, 3, padding=1)
    network.divisor = network.output_stride = 1
    predictor = Predictor([network], with_settings(precision=precision), CPU)
    probability = predictor(np.random.default_rng(0).random((8, 8, 8), dtype=np.float32)).probability
    assert probability.dtype == torch.float32 and torch.isfinite(probability).all()


@pytest.mark.parametrize("tta_group", ["none", "d2h"])
@pytest.mark.parametrize("shape", [(16, 24, 32), (15, 23, 31), (5, 33, 40)])
def test_a_network_of_stride_2_gives_a_map_of_cells(shape, tta_group):
    predictor = Predictor([Pooled()], with_settings(tta_group=tta_group), CPU)
    done = []
    probability = predictor(np.random.default_rng(0).random(shape, dtype=np.float32), done.append).probability
    assert predictor.output_stride == 2
    assert probability.shape == (2, *(-(-side // 2) for side in shape))
    assert torch.allclose(probability.sum(0), torch.ones(probability.shape[1:]), atol=1e-6)
    assert sum(done) == pytest.approx(np.prod(shape))


def test_the_bright_cell_is_the_one_with_the_bright_voxel():
    volume = np.zeros((13, 40, 50), dtype=np.float32)
    volume[9, 31, 44] = 1.0
    probability = Predictor([Pooled()], with_settings(tta_group="d2h"), CPU)(volume).probability[1]
    assert np.unravel_index(int(probability.argmax()), probability.shape) == (4, 15, 22)


def test_the_window_fits_every_network_and_whole_cells():
    assert Predictor([Pooled(8), Pooled(12)], SETTINGS, CPU).window_for((20, 30, 200)) == (24, 48, 48)
    assert Predictor([Pooled(1)], SETTINGS, CPU).window_for((15, 30, 200)) == (16, 30, 32)


def test_networks_of_different_strides_are_not_averaged():
    with pytest.raises(ValueError, match="output strides"):
        Predictor([Pooled(), Fixed(0.0, 1.0)], SETTINGS, CPU)


def test_a_read_only_volume_is_as_good_as_any():
    volume = np.random.default_rng(0).random((8, 8, 8), dtype=np.float32)
    predictor = Predictor([Fixed(0.0, 1.0)], SETTINGS, CPU)
    expected = predictor(volume).probability
    volume.flags.writeable = False
    assert torch.equal(predictor(volume).probability, expected)
