"""Augmentation: lattice moves are exact, z stays z, image and label move together."""

import numpy as np
import pytest
import torch

from data.augmentation import MODES, augment_base, lattice_transforms, mixup, resample, small_affine


def patch(shape=(6, 8, 8), count=1):
    image = torch.randn(count, 1, *shape, generator=torch.Generator().manual_seed(0))
    return image, (image[:, 0] > 0).to(torch.uint8)


def test_number_of_lattice_moves():
    assert len(lattice_transforms("anisotropic", (6, 8, 8))) == 16
    assert len(lattice_transforms("anisotropic", (6, 8, 10))) == 8
    assert len(lattice_transforms("isotropic", (8, 8, 8))) == 48
    assert len({tuple(m.flatten().tolist()) for m in lattice_transforms("isotropic", (8, 8, 8))}) == 48


def test_anisotropic_never_mixes_z():
    for matrix in lattice_transforms("anisotropic", (8, 8, 8)):
        assert abs(float(matrix[0, 0])) == 1 and not matrix[0, 1:].any() and not matrix[1:, 0].any()
    affine = small_affine(50, "anisotropic", torch.Generator().manual_seed(1))
    assert not affine[:, 0, 1:].any() and not affine[:, 1:, 0].any()


def test_isotropic_affine_mixes_all_axes():
    affine = small_affine(50, "isotropic", torch.Generator().manual_seed(1))
    assert affine[:, 0, 1].abs().max() > 0.05 and affine[:, 1, 2].abs().max() > 0.05


def test_identity_changes_nothing():
    image, label = patch()
    moved, labels = resample(image, label, torch.eye(3)[None])
    assert torch.allclose(moved, image, atol=1e-5) and torch.equal(labels, label)


@pytest.mark.parametrize("mode", MODES)
def test_lattice_moves_are_flips_and_turns_of_the_array(mode):
    image, label = patch((8, 8, 8))
    for matrix in lattice_transforms(mode, (8, 8, 8)):
        moved, labels = resample(image, label, matrix[None])
        # Output voxel p shows input voxel M p: built by hand about the centre.
        places = np.stack(np.meshgrid(*[np.arange(8) - 3.5] * 3, indexing="ij"), -1) @ matrix.numpy().T
        z, y, x = np.rint(places + 3.5).astype(int).transpose(3, 0, 1, 2)
        assert torch.allclose(moved[0, 0], image[0, 0][z, y, x], atol=1e-4)
        assert torch.equal(labels[0], label[0][z, y, x])


def test_a_small_rotation_turns_about_the_centre_of_the_patch():
    image = torch.zeros(1, 1, 5, 33, 33)
    image[0, 0, 2, 16, 26] = 1.0
    label = (image[:, 0] > 0).to(torch.uint8)
    angle = torch.deg2rad(torch.tensor(90.0))
    turn = torch.eye(3)
    turn[1, 1] = turn[2, 2] = torch.cos(angle)
    turn[2, 1], turn[1, 2] = torch.sin(angle), -torch.sin(angle)
    _, labels = resample(image, label, turn[None])
    assert labels.argwhere().tolist() == [[0, 2, 26, 16]]  # M (y, x) = (-x, y)


def test_draws_do_not_depend_on_anything_but_the_generator():
    image, label = patch((8, 8, 8), count=6)
    one, again, other = (
        augment_base(image, label, mode="anisotropic", generator=torch.Generator().manual_seed(seed))
        for seed in (5, 5, 6)
    )
    assert torch.equal(one[0], again[0]) and torch.equal(one[1], again[1])
    assert not torch.equal(one[0], other[0])


def test_label_values_survive():
    image, label = patch((8, 8, 8), count=8)
    label = label * 6
    _, labels = augment_base(image, label, mode="isotropic", generator=torch.Generator().manual_seed(0))
    assert labels.dtype == torch.uint8 and set(labels.unique().tolist()) == {0, 6}


def test_mixup_blends_image_and_target_alike():
    """Images that say their own number, targets one class each: the blend must agree between them."""
    numbers = torch.arange(6.0)
    image = numbers.view(6, 1, 1, 1, 1).expand(6, 1, 2, 2, 2)
    target = torch.eye(6).view(6, 6, 1, 1, 1).expand(6, 6, 2, 2, 2)
    mixed, soft = mixup(image, target, probability=1.0, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(soft.sum(1), torch.ones(6, 2, 2, 2))
    assert torch.allclose((soft * numbers.view(1, 6, 1, 1, 1)).sum(1), mixed[:, 0], atol=1e-5)
    assert (soft.amax(dim=1) < 0.999).any()


def test_mixup_probability():
    image, target = torch.randn(200, 1, 1, 1, 1), torch.rand(200, 2, 1, 1, 1)

    def changed(probability):
        mixed, _ = mixup(image, target, probability=probability, generator=torch.Generator().manual_seed(0))
        return float((mixed != image).float().mean())

    assert changed(0.0) == 0 and 0.2 < changed(0.3) < 0.4 and changed(1.0) > 0.95
