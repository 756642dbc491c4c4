"""Norm layers folded into convolutions: the same answer, and nothing left to compute of them."""

import pytest
import torch
from torch import nn

from models import ENCODERS, build_model
from models.folding import fold_norms
from models.layers import NORM_TYPES


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
def test_every_batch_norm_is_folded_and_the_answer_stays(encoder_name, norm_type):
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
