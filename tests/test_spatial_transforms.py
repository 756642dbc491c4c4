"""Spatial transforms: flips and turns are exact, z stays z, image and label go together, single voxels stay single."""

import numpy as np
import pytest
import torch
from random_patches import patch, seeded
from scipy import ndimage

from data import spatial_transforms
from data.spatial_transforms import (
    MODES,
    allowed_orientations,
    matrix_of,
    move_points,
    sample_image,
    sample_label,
    small_affine,
    transform_patches,
)
from tta.orientations import IDENTITY, ORIENTATIONS, TILT_AXES, turned


@pytest.fixture
def always_affine(monkeypatch):
    monkeypatch.setattr(spatial_transforms, "AFFINE_PROBABILITY", 1.0)


def rotation(degrees, axes=(1, 2)):
    angle, matrix, (i, j) = torch.deg2rad(torch.tensor(float(degrees))), torch.eye(3), axes
    matrix[i, i] = matrix[j, j] = torch.cos(angle)
    matrix[j, i], matrix[i, j] = torch.sin(angle), -torch.sin(angle)
    return matrix


def test_number_of_orientations():
    assert len(allowed_orientations("anisotropic", (6, 8, 8))) == 16
    assert len(allowed_orientations("anisotropic", (6, 8, 10))) == 8
    assert len(allowed_orientations("wedge", (8, 8, 8))) == 8
    assert all(one.order == (0, 1, 2) for one in allowed_orientations("wedge", (8, 8, 8)))
    assert len(set(allowed_orientations("isotropic", (8, 8, 8)))) == 48
    assert len(allowed_orientations("isotropic", (8, 10, 8))) == 16


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tilt_axis", TILT_AXES)
def test_augmentation_follows_the_tilt_axis_as_views_do(mode, tilt_axis):
    """Quarter turns and small rotations are about the beam."""
    group = turned(ORIENTATIONS[MODES[mode]], tilt_axis)
    assert set(allowed_orientations(mode, (8, 8, 8), tilt_axis)) == set(group)
    assert (set(group) == set(ORIENTATIONS[MODES[mode]])) == (tilt_axis != "z" or mode != "anisotropic")
    affine, beam = small_affine(50, mode, seeded(1), tilt_axis), 1 if tilt_axis == "z" else 0
    others = [axis for axis in range(3) if axis != beam]
    assert affine[:, others[0], others[1]].any()
    assert bool(affine[:, beam, others].any()) == bool(affine[:, others, beam].any()) == (mode == "isotropic")


def test_anisotropic_never_mixes_z(always_affine):
    for matrix in map(matrix_of, allowed_orientations("anisotropic", (8, 8, 8))):
        assert abs(float(matrix[0, 0])) == 1 and not matrix[0, 1:].any() and not matrix[1:, 0].any()
    affine = small_affine(50, "anisotropic", seeded(1))
    assert not affine[:, 0, 1:].any() and not affine[:, 1:, 0].any()
    assert affine[:, 1, 2].abs().max() > 0.05


def test_isotropic_affine_mixes_all_axes(always_affine):
    affine = small_affine(50, "isotropic", seeded(1))
    assert affine[:, 0, 1].abs().max() > 0.05 and affine[:, 1, 2].abs().max() > 0.05


@pytest.mark.parametrize("mode", MODES)
def test_affine_maps_are_rotations_of_bounded_scale(mode, always_affine):
    affine = small_affine(200, mode, seeded(2))
    scale = torch.linalg.det(affine) ** (1 / 3)
    assert 0.95 <= scale.min() < 0.97 and 1.03 < scale.max() <= 1.05
    rotations = affine / scale[:, None, None]
    assert torch.allclose(rotations @ rotations.mT, torch.eye(3).expand(200, 3, 3), atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_orientations_are_flips_and_turns_of_the_array(mode):
    """Bit for bit without interpolation, and interpolation agrees."""
    image, label = patch((8, 8, 8))
    for orientation in allowed_orientations(mode, (8, 8, 8)):
        # Output voxel p shows input voxel M p: built by hand about the centre.
        matrix = matrix_of(orientation)
        positions = np.stack(np.meshgrid(*[np.arange(8) - 3.5] * 3, indexing="ij"), -1) @ matrix.numpy().T
        z, y, x = np.rint(positions + 3.5).astype(int).transpose(3, 0, 1, 2)
        images, labels = transform_patches(image, label, [orientation], torch.eye(3)[None])
        assert torch.equal(images[0, 0], image[0, 0][z, y, x]) and torch.equal(labels[0], label[0][z, y, x])
        assert torch.allclose(sample_image(image[0, 0], matrix), image[0, 0][z, y, x], atol=1e-4)
        assert torch.equal(sample_label(label[0], matrix), label[0][z, y, x])


def drawn(mode, shape, count, seed):
    allowed = allowed_orientations(mode, shape)
    return [allowed[number] for number in torch.randint(len(allowed), (count,), generator=seeded(seed)).tolist()]


def test_z_apart_is_the_same_interpolation_as_in_the_volume(always_affine, monkeypatch):
    image, label = patch((44, 10, 11), count=12)  # thick enough to be mirrored at its ends
    orientations = drawn("anisotropic", (44, 10, 11), 12, seed=1)
    affine = small_affine(12, "anisotropic", seeded(2))
    apart = transform_patches(image, label, orientations, affine)
    monkeypatch.setattr(spatial_transforms, "mixes_z", lambda matrix: True)
    together = transform_patches(image, label, orientations, affine)
    assert torch.allclose(apart[0], together[0], rtol=0, atol=1e-4) and torch.equal(apart[1], together[1])


@pytest.mark.parametrize("shape", [(12, 10, 11), (16, 6, 40)])
def test_interpolation_is_that_of_scipy(shape, always_affine):
    """Also where a long patch is mirrored more than once, and where its planes make whole batches or none."""
    image, label = patch(shape)
    for matrix in small_affine(5, "anisotropic", seeded(4)):
        middle = (np.array(shape) - 1) / 2
        where = {"matrix": matrix.numpy(), "offset": middle - matrix.numpy() @ middle, "mode": "reflect"}
        expected = ndimage.affine_transform(image[0, 0].numpy(), order=1, **where)
        assert np.allclose(sample_image(image[0, 0], matrix), expected, atol=1e-4)
        nearest = ndimage.affine_transform(label[0].numpy(), order=0, **where)
        assert (sample_label(label[0], matrix).numpy() != nearest).mean() < 0.01  # ties


def test_a_rotation_turns_about_the_centre_of_the_patch():
    label = torch.zeros(5, 33, 33, dtype=torch.uint8)
    label[2, 16, 26] = 1
    assert sample_label(label, rotation(90)).argwhere().tolist() == [[2, 26, 16]]  # M (y, x) = (-x, y)
    volume = torch.zeros(33, 33, 33, dtype=torch.uint8)
    volume[26, 16, 20] = 1
    assert sample_label(volume, rotation(90, axes=(0, 1))).argwhere().tolist() == [[16, 6, 20]]


@pytest.mark.parametrize("mode", MODES)
def test_a_blob_and_its_label_move_together(mode, always_affine):
    grid = torch.stack(torch.meshgrid(*[torch.arange(32.0)] * 3, indexing="ij"))
    centre = torch.tensor([12.3, 18.2, 16.6])
    distance = ((grid - centre[:, None, None, None]) ** 2).sum(0)
    image, label = torch.exp(-distance / 8)[None, None], (distance <= 30).to(torch.uint8)[None]
    places = []
    for seed in range(6):
        [orientation] = drawn(mode, (32, 32, 32), 1, seed)
        affine = small_affine(1, mode, seeded(seed))
        moved, labels = transform_patches(image, label, [orientation], affine)
        blob = (grid * moved[0, 0]).sum((1, 2, 3)) / moved.sum()
        assert torch.allclose(blob, labels[0].argwhere().float().mean(dim=0), atol=0.25)  # half a voxel would show
        assert torch.allclose(matrix_of(orientation) @ affine[0] @ (blob - 15.5), centre - 15.5, atol=0.1)
        places.append(blob)
    assert torch.stack(places).std(dim=0).min() > 0.5


# --- single voxels ------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", MODES)
def test_every_single_voxel_that_stays_inside_comes_out_once(mode, always_affine):
    """Sampling would lose or double about one in ten."""
    side, rng = 24, np.random.default_rng(0)
    affine = small_affine(20, mode, seeded(3))
    lost = 0
    for matrix in affine:
        points = rng.integers(0, side // 4, (10, 3)) * 4  # apart, so that no two meet
        points = np.unique(points, axis=0)
        label = torch.zeros(side, side, side, dtype=torch.uint8)
        for number, point in enumerate(points, 1):
            label[tuple(point)] = number
        moved = move_points(label, matrix)
        assert moved.dtype == label.dtype
        places = np.linalg.solve(matrix.numpy(), (points - (side - 1) / 2).T).T + (side - 1) / 2
        inside = (np.abs(places - (side - 1) / 2) < side / 2).all(axis=1)
        found = {int(moved[tuple(place)]): place.numpy() for place in moved.argwhere()}
        assert set(found) == set(1 + np.flatnonzero(inside)) and (moved > 0).sum() == inside.sum()
        for number, place in found.items():
            assert np.abs(place - places[number - 1]).max() <= 0.5 + 1e-4
        sampled = sample_label(label, matrix)
        lost += int((sampled > 0).sum() != inside.sum())
    assert lost > 0, "or else this function would not be needed"


def test_of_two_points_that_meet_the_higher_label_stays():
    label = torch.zeros(1, 1, 9, dtype=torch.uint8)
    label[0, 0, 6:8] = torch.tensor([5, 2])
    label[0, 0, 0] = 1
    shrunk = move_points(label, 3 * torch.eye(3))
    assert shrunk.flatten().tolist() == [0, 0, 0, 1, 0, 5, 0, 0, 0]


def test_single_voxels_are_moved_as_points_only_when_told(always_affine):
    image, _ = patch((16, 16, 16))
    label = torch.zeros(1, 16, 16, 16, dtype=torch.uint8)
    label[0, 8, ::3, ::3] = 1
    affine = small_affine(1, "anisotropic", seeded(0))

    def labels(affine, **options):
        return transform_patches(image, label, [IDENTITY], affine, **options)[1][0]

    assert torch.equal(labels(affine, single_voxels=True), move_points(label[0], affine[0]))
    assert torch.equal(labels(affine), sample_label(label[0], affine[0]))
    assert torch.equal(labels(torch.eye(3)[None], single_voxels=True), label[0])
