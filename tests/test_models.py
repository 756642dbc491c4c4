"""Every encoder under the U-Net: shapes, gradients, size rules, norms."""

import pytest
import torch
from torch import nn

from models import ENCODERS, build_model, model_from_description
from models.layers import NORM_TYPES


@pytest.mark.parametrize("norm_type", NORM_TYPES)
@pytest.mark.parametrize("name", ENCODERS)
def test_logits_have_the_shape_of_the_volume(name, norm_type):
    model = build_model(name, num_classes=7, norm_type=norm_type)
    sides = (2 * model.divisor, model.divisor, 3 * model.divisor)
    logits = model(torch.randn(2, 1, *sides))
    assert logits.shape == (2, 7, *sides)
    logits.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("name", ENCODERS)
def test_feature_maps_are_fine_to_coarse(name):
    encoder = ENCODERS[name]()
    features = encoder(torch.randn(1, 1, *(2 * encoder.divisor,) * 3))
    assert tuple(f.shape[1] for f in features) == encoder.channels
    sides = [f.shape[-1] for f in features]
    assert sides == sorted(sides, reverse=True)
    assert encoder.norm_type in NORM_TYPES


def test_deepfinder2_has_about_a_million_parameters():
    count = sum(p.numel() for p in build_model("deepfinder2", num_classes=7).parameters())
    assert count == 1_026_199


def kinds(module):
    return {type(m) for m in module.modules() if isinstance(m, (nn.BatchNorm3d, nn.InstanceNorm3d))}


def test_mix_is_instance_norm_first_and_batch_norm_deeper():
    encoder = ENCODERS["deepfinder2"](norm_type="mix")
    assert [kinds(level) for level in encoder.levels] == [
        {nn.InstanceNorm3d},
        {nn.InstanceNorm3d},
        {nn.BatchNorm3d},
        {nn.BatchNorm3d},
    ]
    assert kinds(build_model("deepfinder2", num_classes=2, norm_type="batch")) == {nn.BatchNorm3d}
    assert kinds(build_model("deepfinder2", num_classes=2, norm_type="instance")) == {nn.InstanceNorm3d}


def test_description_rebuilds_the_network():
    model = build_model("deepfinder2", num_classes=3, norm_type="mix")
    same = model_from_description({"encoder_name": "deepfinder2", "num_classes": 3, "norm_type": "mix"})
    same.load_state_dict(model.state_dict())
    volume = torch.randn(1, 1, 16, 16, 16)
    assert torch.equal(model.eval()(volume), same.eval()(volume))
