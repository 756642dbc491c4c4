"""Sizes of patches and batches that are not given fit the tomograms and the GPU."""

import pytest
import torch

import train
from inference.memory import LiveBytes
from losses import build_loss
from models import build_model, nearest_patch_size
from training import arguments, default_sizes
from training.arguments import training_settings, with_sizes
from training.default_sizes import fitting_sizes, training_bytes

SHAPES = [(184, 630, 630), (96, 200, 192)]


def parsed(*words):
    return train.build_parser().parse_args([str(word) for word in words])


def sizes(shapes, *words):
    args = with_sizes(parsed(*words), shapes)
    return args.patch_size, args.batch_size


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of so many gigabytes seems to be there."""

    def there(gigabytes):
        monkeypatch.setattr(arguments, "choose_device", lambda *_: torch.device("cuda"))
        monkeypatch.setattr(arguments, "usable_precision", lambda name, device: name)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, int(gigabytes * 1e9)))

    return there


def test_a_laptop_trains_on_small_patches():
    assert sizes(SHAPES, "--device", "cpu") == ((64, 64, 64), 4)


def test_patches_lie_within_the_smallest_tomogram():
    assert sizes([(60, 200, 300), (90, 50, 300)], "--device", "cpu") == ((56, 48, 64), 4)
    assert sizes([(60, 200, 300)], "--device", "cpu", "--encoder_name", "resnet18") == ((32, 64, 64), 4)


def test_no_default_is_one_that_the_network_cannot_train_on():
    """A tomogram of one voxel at the coarsest features is refused as too small, with one line."""
    patch, _ = sizes([(9, 9, 9)], "--device", "cpu")
    assert nearest_patch_size("deepfinder2", patch) == patch == (16, 8, 8)


def test_what_is_given_stays(gpu):
    assert sizes([(60, 200, 300)], "--device", "cpu", "--patch_size", 64, 64, 64, "--batch_size", 3) == (
        (64, 64, 64),
        3,
    )
    gpu(80)
    assert sizes(SHAPES, "--batch_size", 9)[1] == 9
    gpu(0.1)
    assert sizes(SHAPES, "--patch_size", 96, 96, 96) == ((96, 96, 96), 2)


def test_a_gpu_trains_on_larger_ones(gpu):
    gpu(80)
    assert sizes(SHAPES) == ((96, 128, 128), 4)
    assert sizes(SHAPES[:1], "--encoder_name", "resnet101", "--output_stride", 1) == ((128, 128, 128), 4)


def test_the_smaller_the_gpu_the_smaller_the_patches(gpu):
    found = []
    for gigabytes in (12, 4, 2, 1, 0.1):
        gpu(gigabytes)
        patch, batch = sizes(SHAPES[:1])
        found.append(batch * patch[0] * patch[1] * patch[2])
        assert all(side % 8 == 0 for side in patch)
    assert found[0] == 4 * 128**3 and found == sorted(found, reverse=True) and len(set(found)) > 3


def test_sizes_in_effect_are_written_down():
    args = with_sizes(parsed("--device", "cpu"), [(60, 200, 300)])
    resolved = arguments.resolved_arguments(args)
    assert resolved["patch_size"] == (56, 64, 64) and resolved["batch_size"] == 4


def test_a_step_without_voxels_takes_what_a_real_one_does():
    settings = training_settings(parsed("--device", "cpu", "--precision", "fp32"))
    network, loss = build_model("deepfinder2", num_classes=7, output_stride=2), build_loss("ce_tversky", (1.0,) * 7)
    with LiveBytes() as live:
        terms = loss(network(torch.empty(2, 1, 32, 32, 32)), torch.zeros(2, 16, 16, 16, dtype=torch.uint8))
        sum(terms.values()).backward()
    weights = sum(weight.numel() for weight in network.parameters())
    counted = training_bytes(settings, (32, 32, 32), 2) - default_sizes.FIXED_BYTES - 8 * weights
    # The weights of the real network were there before.
    assert counted / 1.3 == pytest.approx(live.peak, rel=0.05, abs=4 * weights + 1e5)


def test_where_nothing_fits_the_smallest_is_tried():
    settings = training_settings(parsed("--device", "cpu"))
    assert fitting_sizes(settings, SHAPES, memory_bytes=1, patch_given=False, batch_given=False) == ((16, 16, 16), 2)
