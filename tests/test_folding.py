"""Norm layers folded into convolutions: the same output, and nothing left to compute of them."""

import pytest
import torch
from torch import nn

from models import ENCODERS, NORM_TYPES, OUTPUT_STRIDES, build_model, nearest_patch_size
from models.folding import fold_norms
from models.unet import ResidualDecoder


def trained(encoder_name, norm_type):
    """A network whose norms have statistics and factors of their own."""
    network = build_model(encoder_name, num_classes=3, norm_type=norm_type).eval()
    generator = torch.Generator().manual_seed(0)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm3d):
            for values, low, high in (
                (norm.running_mean, -0.2, 0.2),
                (norm.running_var, 0.5, 2.0),
                (norm.weight.data, 0.5, 1.5),
                (norm.bias.data, -0.2, 0.2),
            ):
                values.copy_(low + (high - low) * torch.rand(values.shape, generator=generator))
    return network


def count(network, kind):
    return sum(isinstance(module, kind) for module in network.modules())


@torch.inference_mode()
@pytest.mark.parametrize("norm_type", NORM_TYPES)
@pytest.mark.parametrize("encoder_name", [name for name in ENCODERS if name not in {"resnet34", "resnet101"}])
def test_every_batch_norm_is_folded_and_the_output_stays(encoder_name, norm_type):
    network = trained(encoder_name, norm_type)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    folded = fold_norms(network)
    volume = torch.randn(1, 1, 32, 32, 64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(folded(volume), network(volume), atol=1e-4, rtol=1e-4)
    assert count(folded, nn.BatchNorm3d) == 0
    assert count(folded, nn.InstanceNorm3d) == count(network, nn.InstanceNorm3d) == 0 or norm_type != "batch"
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_norm_that_still_learns_is_not_folded():
    with pytest.raises(AssertionError):
        fold_norms(build_model("deepfinder2", num_classes=3).train())


class ToyEncoder(nn.Module):
    """A sixth encoder, whose layers have names of their own."""

    channels, strides, divisor, decoder_type = (8, 8, 8), (2, 2, 1), 4, ResidualDecoder
    dropout = 0.0

    def __init__(self, *, norm_type="batch"):
        super().__init__()
        self.norm_type = norm_type
        self.first = nn.Conv3d(1, 8, 3, stride=2, padding=1)
        self.first_norm = nn.BatchNorm3d(8)
        self.second = nn.Conv3d(8, 8, 3, stride=2, padding=1)
        self.third = nn.Conv3d(8, 8, 3, padding=1)

    def forward(self, volume):
        fine = self.first_norm(self.first(volume))
        coarse = self.second(fine)
        return [fine, coarse, self.third(coarse)]


def test_a_sixth_encoder_is_one_row_and_says_what_is_not_folded(monkeypatch):
    monkeypatch.setitem(ENCODERS, "toy", ToyEncoder)
    for stride in OUTPUT_STRIDES:
        network = build_model("toy", num_classes=3, output_stride=stride).eval()
        with pytest.warns(UserWarning, match="1 batch norms are not folded"):
            folded = fold_norms(network)
        volume = torch.randn(1, 1, 8, 8, 16, generator=torch.Generator().manual_seed(0))
        assert network(volume).shape == (1, 3, 8 // stride, 8 // stride, 16 // stride)
        torch.testing.assert_close(folded(volume), network(volume))
    assert nearest_patch_size("toy", (9, 8, 8)) == (8, 8, 8)
