"""Augmentation: image and label together, repeatable, grey values changed so that the network sees it; mixup."""

import pytest
import torch
from random_patches import patch, seeded

from data import augmentation
from data.augmentation import LEVELS, add_noise, augment, change_gamma, mixup, shift_statistics
from data.normalization import standardize
from data.spatial_transforms import MODES


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(augmentation, "INTENSITY_PROBABILITY", 1.0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", LEVELS)
def test_only_the_generator_decides(level, mode):
    image, label = patch((8, 8, 8), count=6)
    before = image.clone(), label.clone()
    one, again, other = (augment(image, label, level=level, mode=mode, generator=seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(one[0], again[0]) and torch.equal(one[1], again[1])
    assert torch.equal(one[0], other[0]) == (level == "none")
    assert torch.equal(image, before[0]) and torch.equal(label, before[1]), "the batch itself stays as it was"


def test_none_is_the_identity():
    image, label = patch(count=4)
    moved, labels = augment(image, label, level="none", mode="isotropic", generator=seeded(0))
    assert torch.equal(moved, image) and torch.equal(labels, label)
    assert torch.equal(shift_statistics(image, level="none", generator=seeded(0)), image)
    assert torch.equal(shift_statistics(image, level="base", generator=seeded(0)), image)


@pytest.mark.parametrize("single_voxels", [False, True])
def test_advanced_labels_as_base_does_and_changes_grey_values(single_voxels):
    image, label = patch((8, 16, 16), count=12)
    base, advanced = (
        augment(image, label, level=level, mode="anisotropic", generator=seeded(1), single_voxels=single_voxels)
        for level in ("base", "advanced")
    )
    assert torch.equal(base[1], advanced[1])
    changed = (standardize(base[0]) - standardize(advanced[0])).abs().amax(dim=(1, 2, 3, 4)) > 0.01
    assert 3 <= int(changed.sum()) <= 10  # each of gamma and noise with probability 0.3


@pytest.mark.parametrize("level", ["base", "advanced"])
def test_label_values_survive(level):
    image, label = patch((8, 8, 8), count=8)
    _, labels = augment(image, label * 6, level=level, mode="isotropic", generator=seeded(0))
    assert labels.dtype == torch.uint8 and set(labels.unique().tolist()) == {0, 6}


# --- grey values --------------------------------------------------------------------------------------
@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-5, -3e-5), (300.0, 1e4)])
def test_gamma_keeps_order_and_ends_whatever_the_range(scale, offset, always):
    image = patch(count=5)[0] * scale + offset
    changed = image.clone()
    change_gamma(changed, seeded(0))
    for before, after in zip(image, changed, strict=True):
        tolerance = 1e-5 * float(before.max() - before.min()) + 1e-6 * abs(offset)
        assert float(after.min() - before.min()) == pytest.approx(0, abs=tolerance)
        assert float(after.max() - before.max()) == pytest.approx(0, abs=tolerance)
        assert after.flatten()[before.flatten().argsort()].diff().min() >= -tolerance
    difference = standardize(changed) - standardize(image)
    assert (difference.abs().amax(dim=(1, 2, 3, 4)) > 0.02).all(), "the z-score does not undo it"


def test_gamma_follows_its_formula(monkeypatch, always):
    monkeypatch.setattr(augmentation, "GAMMA_RANGE", (1.4, 1.4))
    image = torch.tensor([2.0, 3.0, 4.0, 6.0]).view(1, 1, 1, 1, 4)
    change_gamma(image, seeded(0))
    expected = 2 + 4 * torch.tensor([0.0, 0.25, 0.5, 1.0]) ** 1.4
    assert torch.allclose(image.flatten(), expected)


def test_noise_is_a_share_of_the_patch_and_white(always):
    image = patch((16, 16, 16), count=40)[0] * 1e-5
    noisy = image.clone()
    add_noise(noisy, seeded(0))
    share = (noisy - image).flatten(1).std(dim=1) / image.flatten(1).std(dim=1)
    assert share.max() < 1.05 * augmentation.MAX_NOISE and share.mean() == pytest.approx(0.15, abs=0.03)
    noise = (noisy - image)[share.argmax(), 0]
    assert abs(float((noise[1:] * noise[:-1]).mean() / noise.var())) < 0.06
    assert not torch.equal(noisy[0] - image[0], noisy[1] - image[1])


def test_shift_leaves_what_the_z_score_would_have_removed(always):
    image = standardize(patch((16, 16, 16), count=60)[0])
    shifted = shift_statistics(image.clone(), level="advanced", generator=seeded(0))
    deviation, mean = torch.std_mean(shifted, dim=(1, 2, 3, 4), correction=0)
    assert mean.abs().max() <= 0.2 + 1e-5 and mean.std() > 0.08
    assert 0.8 - 1e-4 <= deviation.min() < 0.85 and 1.15 < deviation.max() <= 1.2 + 1e-4
    assert torch.allclose(standardize(shifted), image, atol=1e-4), "nothing else is changed"


def test_shift_is_drawn_for_some_patches_only():
    image = standardize(patch(count=300)[0])
    shifted = shift_statistics(image.clone(), level="advanced", generator=seeded(0))
    assert 0.2 < float((shifted != image).flatten(1).any(dim=1).float().mean()) < 0.4


def test_constant_patches_stay_finite(always):
    image = torch.full((4, 1, 6, 8, 8), 3.0)
    changed, _ = augment(
        image, torch.zeros(4, 6, 8, 8, dtype=torch.uint8), level="advanced", mode="anisotropic", generator=seeded(0)
    )
    assert torch.allclose(changed, image, atol=1e-5)


# --- mixup --------------------------------------------------------------------------------------------
def test_mixup_blends_image_and_target_alike():
    """Images that say their own number, targets one class each: the blend must agree between them."""
    numbers = torch.arange(6.0)
    image = numbers.view(6, 1, 1, 1, 1).expand(6, 1, 2, 2, 2)
    target = torch.eye(6).view(6, 6, 1, 1, 1).expand(6, 6, 2, 2, 2)
    mixed, soft = mixup(image, target, probability=1.0, generator=seeded(2))
    assert torch.allclose(soft.sum(1), torch.ones(6, 2, 2, 2))
    assert torch.allclose((soft * numbers.view(1, 6, 1, 1, 1)).sum(1), mixed[:, 0], atol=1e-5)
    assert (soft.amax(dim=1) < 0.999).any()


def test_mixup_probability():
    image, target = torch.randn(200, 1, 1, 1, 1), torch.rand(200, 2, 1, 1, 1)

    def changed(probability):
        mixed, _ = mixup(image, target, probability=probability, generator=seeded(0))
        return float((mixed != image).float().mean())

    assert changed(0.0) == 0 and 0.2 < changed(0.3) < 0.4 and changed(1.0) > 0.95
