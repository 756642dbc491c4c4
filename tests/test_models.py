"""Every encoder under its decoder: shapes, gradients, norms, geometry, patch sizes, rebuilding.

Shapes and counts are taken on the meta device, which computes nothing: the larger networks cost no time there.
"""

import itertools
from functools import cache

import pytest
import torch
from monai.networks.nets.resnet import ResNet, resnet_params
from torch import nn

from models import ENCODERS, NORM_TYPES, OUTPUT_STRIDES, build_model, model_from_description, nearest_patch_size
from models.layers import residual_unit

RESNETS = [name for name in ENCODERS if name.startswith("resnet")]


@cache
def model_without_numbers(name, norm_type="batch", output_stride=1):
    with torch.device("meta"):
        return build_model(name, num_classes=7, norm_type=norm_type, output_stride=output_stride)


@cache
def real_model(name, norm_type="batch", output_stride=1):
    """A network that tests share; they leave its weights and its mode as they were."""
    torch.manual_seed(0)
    return build_model(name, num_classes=3, norm_type=norm_type, output_stride=output_stride)


@pytest.mark.parametrize("norm_type", NORM_TYPES)
@pytest.mark.parametrize("name", ENCODERS)
def test_logits_have_the_shape_of_the_volume_by_the_output_stride(name, norm_type):
    for output_stride in OUTPUT_STRIDES:
        model = model_without_numbers(name, norm_type=norm_type, output_stride=output_stride)
        sides = (2 * model.divisor, model.divisor, 3 * model.divisor)
        logits = model(torch.empty(2, 1, *sides, device="meta"))
        assert model.output_stride == output_stride
        assert logits.shape == (2, 7, *(side // output_stride for side in sides))
        # Raises where a parameter takes no part.
        torch.autograd.grad(logits.sum(), list(model.parameters()))


@pytest.mark.parametrize(
    ("name", "norm_type", "output_stride"),
    [
        *(("deepfinder2", norm_type, stride) for norm_type in NORM_TYPES for stride in OUTPUT_STRIDES),
        ("resnet18", "batch", 1),
        ("resnet18", "instance", 2),
        # For those of bottleneck blocks.
        ("resnet50", "mix", 1),
    ],
)
def test_finite_gradients_reach_every_parameter(name, norm_type, output_stride):
    model = real_model(name, norm_type, output_stride)
    logits = model(torch.randn(1, 1, *nearest_patch_size(name, (1, 1, 1))))
    # Where training starts, no class is ruled out.
    assert torch.softmax(logits, dim=1).amin() > 1e-6
    gradients = torch.autograd.grad(logits.square().mean(), list(model.parameters()))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    # A bias in front of a norm layer has none.
    weights = [g for g, p in zip(gradients, model.parameters(), strict=True) if p.ndim > 1]
    assert all(gradient.abs().max() > 0 for gradient in weights)


def gradients_of(model, volume, *, bf16):
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = model(volume)
    return torch.autograd.grad(logits.float().square().mean(), list(model.parameters()))


@pytest.mark.parametrize(
    ("name", "size"),
    [("deepfinder2", (8, 8, 16)), ("deepfinder2", (16, 8, 8)), ("deepfinder2", (32, 8, 8)), ("resnet18", (64, 32, 32))],
)
def test_bf16_gradients_are_those_of_fp32(name, size):
    """Some CPU kernels return garbage for maps two voxels deep; bf16 and depth explain a fifth."""
    model, volume = real_model(name).eval(), torch.randn(1, 1, *size)
    rough, exact = (gradients_of(model, volume, bf16=bf16) for bf16 in (True, False))
    model.train()
    for a, b in zip(rough, exact, strict=True):
        assert (a - b).norm() < 0.5 * b.norm() + 1e-6


@pytest.mark.parametrize("output_stride", OUTPUT_STRIDES)
@pytest.mark.parametrize("name", ["deepfinder2", "resnet18"])
def test_last_layer_makes_the_logits(name, output_stride):
    model = model_without_numbers(name, output_stride=output_stride)
    outputs = []
    hook = model.last_layer.register_forward_hook(lambda _layer, _inputs, output: outputs.append(output))
    logits = model(torch.empty(1, 1, 32, 32, 64, device="meta"))
    hook.remove()
    assert outputs[0] is logits
    assert sum(p.numel() for p in model.last_layer.parameters()) > 0
    # One owner, so a checkpoint holds it once.
    assert not any("last_layer" in key for key in model.state_dict())


@pytest.mark.parametrize("name", ENCODERS)
def test_feature_maps_are_fine_to_coarse(name):
    with torch.device("meta"):
        encoder = ENCODERS[name]()
    side = 2 * encoder.divisor
    features = encoder(torch.empty(1, 1, side, side, side, device="meta"))
    assert tuple(f.shape[1] for f in features) == encoder.channels
    steps = itertools.accumulate(encoder.strides, int.__mul__)
    assert [f.shape[-1] for f in features] == [side // step for step in steps]
    assert encoder.divisor == ENCODERS[name].divisor == side // features[-1].shape[-1]
    assert encoder.norm_type in NORM_TYPES


@pytest.mark.parametrize("output_stride", OUTPUT_STRIDES)
def test_deepfinder2_has_about_a_million_parameters(output_stride):
    model = model_without_numbers("deepfinder2", output_stride=output_stride)
    assert sum(p.numel() for p in model.parameters()) == 1_026_199


def reference_resnet(name):
    """MONAI's own network with the projections of the paper (its option B), in 3D for one channel."""
    block, layers, *_ = resnet_params[name]
    return ResNet(
        block, layers, [64, 128, 256, 512], n_input_channels=1, conv1_t_stride=2, bias_downsample=False,
        feed_forward=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", RESNETS)
def test_resnets_have_the_weights_of_monais(name):
    with torch.device("meta"):
        ours, reference = ENCODERS[name](), reference_resnet(name)
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    assert shapes == {key: value.shape for key, value in reference.state_dict().items()}


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnets_compute_what_monais_do(name):
    reference, volume = reference_resnet(name).eval(), torch.randn(1, 1, 32, 32, 64)
    with torch.device("meta"):
        ours = ENCODERS[name]().eval()
    ours.load_state_dict(reference.state_dict(), assign=True)
    with torch.inference_mode():
        coarsest = ours(volume)[-1]
        torch.testing.assert_close(coarsest.mean(dim=(2, 3, 4)), reference(volume))


def kinds(module):
    return {type(m) for m in module.modules() if isinstance(m, (nn.BatchNorm3d, nn.InstanceNorm3d))}


def levels_of(model):
    """Parts of encoder and decoder, fine to coarse."""
    encoder = model.encoder
    if isinstance(model.decoder, nn.ModuleList):
        return list(encoder.levels), list(model.decoder)[::-1]
    stem = nn.ModuleList([encoder.conv1, encoder.bn1])
    return [stem, encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4], list(model.decoder.blocks)[::-1]


@pytest.mark.parametrize("name", ENCODERS)
def test_mix_is_instance_norm_first_and_batch_norm_deeper(name):
    first, deeper = {nn.InstanceNorm3d}, {nn.BatchNorm3d}
    model = model_without_numbers(name, norm_type="mix")
    for levels in levels_of(model):
        assert [kinds(level) for level in levels] == [first, first, *[deeper] * (len(levels) - 2)]
    assert all(m.affine for m in model.modules() if isinstance(m, nn.InstanceNorm3d))


@pytest.mark.parametrize("name", ENCODERS)
def test_pure_norm_types_have_one_kind_of_norm(name):
    assert kinds(model_without_numbers(name, norm_type="batch")) == {nn.BatchNorm3d}
    assert kinds(model_without_numbers(name, norm_type="instance")) == {nn.InstanceNorm3d}


@pytest.mark.parametrize("output_stride", OUTPUT_STRIDES)
def test_shifting_the_volume_shifts_the_logits(output_stride):
    """By the divisor along z, far enough from the ends for zero padding not to be seen (receptive field 117)."""
    model = real_model("deepfinder2", "batch", output_stride)
    volume = torch.randn(1, 1, 168, 8, 8)
    model.eval()
    with torch.inference_mode():
        here, there = model(volume), model(volume.roll(model.divisor, dims=2))
    model.train()
    inner = slice(64 // output_stride, 96 // output_stride)
    shifted = slice(72 // output_stride, 104 // output_stride)
    torch.testing.assert_close(there[:, :, shifted], here[:, :, inner])
    assert not torch.allclose(here[:, :, inner], here[:, :, shifted])


def test_a_voxel_of_the_half_resolution_head_covers_the_two_voxels_that_it_lies_between():
    """With the same weights for all 2^3 voxels of a cell, stride 1 repeats what stride 2 has once: voxel j of the
    coarse map is voxels 2j and 2j + 1 of the input, so it lies at 2j + 0.5."""
    fine, coarse = real_model("resnet18", "batch", 1), real_model("resnet18", "instance", 2)
    features = torch.randn(1, fine.last_layer.in_channels, 3, 4, 5)
    head = coarse.last_layer
    weights = {"weight": head.weight.expand(-1, -1, 2, 2, 2), "bias": head.bias}
    repeated = torch.func.functional_call(fine.last_layer, weights, features)
    torch.testing.assert_close(repeated[:, :, 1::2, ::2, 1::2], head(features))
    torch.testing.assert_close(repeated, nn.Upsample(scale_factor=2)(head(features)))


def test_patch_sizes_that_fit_stay():
    assert nearest_patch_size("deepfinder2", (64, 64, 64)) == (64, 64, 64)
    assert nearest_patch_size("deepfinder2", (8, 8, 16)) == (8, 8, 16)
    assert nearest_patch_size("resnet50", [32, 32, 64]) == (32, 32, 64)


def test_known_nearest_patch_sizes():
    assert nearest_patch_size("deepfinder2", (60, 61, 3)) == (64, 64, 8)
    assert nearest_patch_size("resnet18", (100, 100, 100)) == (96, 96, 96)
    assert nearest_patch_size("resnet18", (80, 79, 81)) == (96, 64, 96)
    # One voxel is too few to have a variance: the first of equally long sides gives way, else the longest.
    assert nearest_patch_size("resnet18", (32, 32, 32)) == (64, 32, 32)
    assert nearest_patch_size("resnet18", (30, 33, 45)) == (32, 32, 64)
    assert nearest_patch_size("deepfinder2", (0, -5, 1)) == (8, 8, 16)


def trains_on(name, size):
    """One patch through instance norm, the strictest case."""
    try:
        model_without_numbers(name, norm_type="instance")(torch.empty(1, 1, *size, device="meta"))
    except (ValueError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize("name", ["deepfinder2", "resnet18"])
def test_networks_train_on_nearest_patch_sizes_only(name):
    divisor = ENCODERS[name].divisor
    for size in [(divisor,) * 3, (2 * divisor, divisor, divisor), (divisor, divisor, divisor + divisor // 2)]:
        nearest = nearest_patch_size(name, size)
        assert trains_on(name, nearest)
        assert trains_on(name, size) == (size == nearest)


def test_no_other_patch_size_is_nearer():
    possible = [size for size in itertools.product((8, 16, 24), repeat=3) if size != (8, 8, 8)]
    for given in itertools.product((4, 8, 11, 12, 13, 20), repeat=3):

        def squared_distance(size, given=given):
            return sum((a - b) ** 2 for a, b in zip(size, given, strict=True))

        nearest = nearest_patch_size("deepfinder2", given)
        assert nearest in possible
        assert squared_distance(nearest) == min(map(squared_distance, possible))


@pytest.mark.parametrize("name", ["deepfinder2", "resnet18"])
@pytest.mark.parametrize(("norm_type", "output_stride"), [("batch", 1), ("instance", 2)])
def test_description_rebuilds_the_network(name, norm_type, output_stride):
    description = {"encoder_name": name, "num_classes": 3, "norm_type": norm_type, "output_stride": output_stride}
    model = real_model(name, norm_type, output_stride)
    with torch.device("meta"):
        same = model_from_description(description)
    same.load_state_dict(model.state_dict(), assign=True)
    volume = torch.randn(1, 1, *nearest_patch_size(name, (1, 1, 1)))
    with torch.inference_mode():
        model.eval()
        assert torch.equal(model(volume), same.eval()(volume))
        model.train()


def test_descriptions_from_before_output_strides_mean_stride_1():
    model = model_from_description({"encoder_name": "deepfinder2", "num_classes": 3, "norm_type": "mix"})
    assert model.output_stride == 1
    assert model(torch.randn(1, 1, 8, 8, 16)).shape == (1, 3, 8, 8, 16)


def test_deepfinder2_names_its_weights_as_its_first_checkpoints_do():
    names = set(model_without_numbers("deepfinder2").state_dict())
    assert {"encoder.levels.3.conv.unit1.conv.bias", "decoder.0.up.adn.N.running_var"} <= names
    assert {name for name in names if name.startswith("decoder.2.refine")} == {
        "decoder.2.refine.conv.unit0.conv.weight",
        "decoder.2.refine.conv.unit0.conv.bias",
    }


@pytest.mark.parametrize("encoder_name", ["deepfinder2", "resnet18"])
def test_an_untrained_network_says_background(encoder_name):
    network = build_model(encoder_name, num_classes=7).eval()
    with torch.inference_mode():
        probability = torch.softmax(network(torch.randn(1, 1, 32, 32, 64)), dim=1)
    assert probability[:, 0].mean() > 0.7 and torch.allclose(probability.sum(1), torch.ones(()))


def test_a_residual_unit_without_gradient_answers_the_same_and_leaves_its_input():
    for channels in (4, 6):  # the way around the convolutions is the input itself, or a convolution
        unit = residual_unit(4, channels, stride=1, convolutions=2, norm=("BATCH", {}), dropout=0.0).eval()
        volume = torch.randn(1, 4, 6, 6, 6)
        before = volume.clone()
        expected = unit(volume).detach()
        with torch.no_grad():
            assert torch.equal(unit(volume), expected)
        assert torch.equal(volume, before)
