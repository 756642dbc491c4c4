"""Watershed on hand-drawn maps, and against scipy + scikit-image on touching spheres."""

import time

import numpy as np
import pytest
import torch
from one_class import find
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

from postprocessing.watershed import divide

OPTIONS = {
    "radius_voxels": 8.0,
    "trained_radius_voxels": 4.0,
    "conf_threshold": 0.5,
    "vol_frac_threshold": 0.0,
    "cluster_radius_fraction": 0.5,
    "nms_radius_fraction": 0.0,
}


def spheres(centres, radii, shape=(32, 34, 36)):
    grid = np.stack(np.indices(shape), -1)
    return sum((((grid - c) ** 2).sum(-1) <= r * r) for c, r in zip(centres, radii, strict=True)) > 0


def run(mask, **options):
    return find(torch.as_tensor(mask).float(), "watershed", **{**OPTIONS, **options})


def by_place(found):
    return sorted(map(tuple, found.coordinates_zyx.tolist()))


def reference(mask, distance):
    """Centroids by scipy and scikit-image; a ball as footprint, because distances are Euclidean."""
    depth = ndimage.distance_transform_edt(mask)
    reach = int(np.ceil(distance)) - 1
    ball = ((np.indices((2 * reach + 1,) * 3) - reach) ** 2).sum(0) < distance**2
    components, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    peaks = peak_local_max(depth, min_distance=reach, footprint=ball, labels=components, exclude_border=False, p_norm=2)
    markers = np.zeros(mask.shape, int)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    parts = watershed(-depth, markers, mask=mask, connectivity=np.ones((3, 3, 3)))
    return np.array(ndimage.center_of_mass(mask, parts, np.arange(1, len(peaks) + 1)))


def touching(seed, count, closeness, spread):
    """Spheres about sub-voxel centres, each at the side of one before; 1 = in touch, less = overlapping."""
    rng = np.random.default_rng(seed)
    radii = OPTIONS["trained_radius_voxels"] * rng.uniform(1 - spread, 1 + spread, count)
    centres = [rng.uniform(14.5, 17.5, 3)]
    while len(centres) < count:
        direction = rng.standard_normal(3)
        number = len(centres)
        reach = closeness * (radii[number] + radii[number - 1])
        centre = centres[-1] + direction / np.linalg.norm(direction) * reach
        apart = [
            np.linalg.norm(centre - c) >= closeness * (radii[number] + r) - 1e-6
            for c, r in zip(centres, radii, strict=False)
        ]
        if all(apart) and (centre > 5).all() and (centre < 26).all():
            centres.append(centre)
    return np.array(centres), radii


# --- Agreement ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("spread", [0.0, 0.15])
@pytest.mark.parametrize("closeness", [1.0, 0.9, 0.8])
def test_touching_spheres_part_as_scikit_image_parts_them(seed, count, spread, closeness):
    centres, radii = touching(seed, count, closeness, spread)
    mask = spheres(centres, radii)
    found, theirs = run(mask).coordinates_zyx, reference(mask, 4.0)
    assert len(found) == len(theirs) == count
    away = np.linalg.norm(found[:, None] - theirs, axis=-1)
    assert away.min(axis=0).max() < 0.5 and sorted(away.argmin(axis=0)) == list(range(count))
    assert np.linalg.norm(found[:, None] - centres, axis=-1).min(axis=0).max() < 0.5


def test_every_axis_alike():
    """Turned maps give turned parts, but for the voxels between two of them."""
    centres, radii = touching(5, 3, 0.9, 0.1)
    mask = spheres(centres, radii, (32, 32, 32))
    expected = np.array(by_place(run(mask)))
    for axes in [(1, 2, 0), (2, 1, 0), (0, 2, 1)]:
        turned = run(np.ascontiguousarray(mask.transpose(axes))).coordinates_zyx
        back = np.array(sorted(map(tuple, turned[:, np.argsort(axes)].tolist())))
        assert np.abs(back - expected).max() < 0.2


# --- Hand-drawn ---------------------------------------------------------------------------------------
def test_one_voxel():
    volume = torch.zeros(5, 6, 7)
    volume[1, 2, 6] = 0.8
    found = run(volume)
    assert found.coordinates_zyx.tolist() == [[1, 2, 6]] and found.scores.tolist() == [pytest.approx(0.8)]


def test_two_cubes_that_touch_are_two_parts():
    volume = torch.zeros(9, 9, 18)
    volume[1:8, 1:8, 1:8], volume[3:6, 3:6, 8:9], volume[1:8, 1:8, 9:16] = 0.9, 0.6, 0.9
    assert np.abs(np.array(by_place(run(volume))) - [[4, 4, 4], [4, 4, 12]]).max() < 0.2


def test_touching_at_a_corner_is_two_parts():
    volume = torch.zeros(12, 12, 12)
    volume[1:6, 1:6, 1:6] = volume[6:11, 6:11, 6:11] = 0.9
    assert by_place(run(volume)) == [(3, 3, 3), (8, 8, 8)]


def test_components_keep_their_markers_however_close_they_are():
    volume = torch.zeros(4, 4, 8)
    volume[2, 2, 2] = volume[2, 2, 4] = 1.0
    assert by_place(run(volume, cluster_radius_fraction=3.0)) == [(2, 2, 2), (2, 2, 4)]


def test_the_border_is_no_background():
    """A sphere cut in half is deepest at the border, and two of them there part like two whole ones."""
    mask = spheres([(0, 10, 10), (0, 10, 18.0)], [4.0, 4.0])
    found = np.array(by_place(run(mask)))
    assert np.abs(found[:, 1:] - [[10, 10], [10, 18]]).max() < 0.2


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 8])
def test_a_cube_is_one_part(side):
    """An even side has eight deepest voxels."""
    volume = torch.zeros(16, 16, 16)
    volume[2 : 2 + side, 3 : 3 + side, 4 : 4 + side] = 1.0
    for fraction in (0.0, 0.5):
        found = run(volume, cluster_radius_fraction=fraction)
        assert np.allclose(found.coordinates_zyx, [np.array([2, 3, 4]) + (side - 1) / 2])


@pytest.mark.parametrize("axis", range(3))
def test_a_flat_plate_is_one_part(axis):
    volume = torch.zeros(40, 40, 40)
    volume.narrow(axis, 18, 5)[:] = 1.0
    centre = [19.5] * 3
    centre[axis] = 20
    assert np.allclose(run(volume).coordinates_zyx, [centre])


def test_everything_is_one_part():
    assert np.allclose(run(torch.ones(9, 10, 11)).coordinates_zyx, [[4, 4.5, 5]])


def test_a_tilted_membrane_through_the_volume_takes_no_time():
    z, y, x = np.ogrid[:40, :150, :150]
    membrane = np.abs(z - 8 - 0.09 * y - 0.06 * x) < 3.3
    start = time.process_time()
    found = run(membrane)
    assert time.process_time() - start < 5  # far less; the bound holds on a busy machine
    assert len(found) > 0 and membrane.sum() > 100_000


def test_half_precision_and_other_strides_give_the_same():
    rng = np.random.default_rng(0)
    volume = torch.from_numpy(spheres([(12, 12, 12), (12, 19, 13)], [4, 4]) * rng.uniform(0.6, 1, (32, 34, 36)))
    expected = run(volume.bfloat16().float())
    for same in (run(volume.bfloat16()), run(volume.bfloat16().permute(2, 0, 1).contiguous().permute(1, 2, 0))):
        assert np.array_equal(same.coordinates_zyx, expected.coordinates_zyx)
        assert np.array_equal(same.scores, expected.scores)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_to_the_last_bit():
    rng = np.random.default_rng(4)
    noise = ndimage.gaussian_filter(rng.standard_normal((40, 60, 80)), 2.5)
    volume = torch.from_numpy(1 / (1 + np.exp(-20 * noise))).float()
    ours, theirs = (find(volume.to(device), "watershed", **OPTIONS) for device in ("cpu", "cuda"))
    assert len(ours) > 20
    assert np.array_equal(ours.coordinates_zyx, theirs.coordinates_zyx) and np.array_equal(ours.scores, theirs.scores)


# --- Hyperparameters ----------------------------------------------------------------------------------
def test_confidence_threshold_is_obeyed_and_exclusive():
    volume = torch.zeros(6, 6, 6)
    volume[1, 1, 1], volume[4, 4, 4] = 0.5, 0.51
    assert by_place(run(volume)) == [(4, 4, 4)]
    assert len(run(volume, conf_threshold=0.4)) == 2


def test_small_parts_go_even_of_a_large_component():
    """A part of 27 voxels at the side of one of 343; the trained sphere has 268."""
    volume = torch.zeros(12, 12, 18)
    volume[1:8, 1:8, 1:8] = volume[3:6, 3:6, 9:12] = volume[4, 4, 8] = 1.0
    assert len(run(volume)) == 2
    assert len(run(volume, vol_frac_threshold=0.1)) == 2
    (place,) = by_place(run(volume, vol_frac_threshold=0.11))
    assert np.abs(np.array(place) - 4).max() < 0.1
    assert len(run(volume, vol_frac_threshold=1.3)) == 0


def test_size_is_counted_from_the_threshold_on():
    volume = torch.zeros(8, 8, 8)
    volume[2:5, 2:5, 2:5] = 1.0
    share = 27 / (4 / 3 * np.pi * 2**3)
    assert len(run(volume, trained_radius_voxels=2.0, vol_frac_threshold=share * (1 - 1e-9))) == 1
    assert len(run(volume, trained_radius_voxels=2.0, vol_frac_threshold=share * (1 + 1e-9))) == 0


def test_markers_lie_apart_by_a_share_of_the_trained_diameter():
    """Centres 8 voxels apart: exactly one diameter of the trained sphere."""
    mask = spheres([(12, 12, 10), (12, 12, 18)], [4.5, 4.5])
    assert len(run(mask, cluster_radius_fraction=1.0)) == 2
    assert len(run(mask, cluster_radius_fraction=1.001)) == 1
    assert len(run(mask, cluster_radius_fraction=1.0, trained_radius_voxels=4.1)) == 1


def test_suppression_keeps_the_surer_part():
    volume = torch.zeros(10, 10, 20)
    volume[2:7, 2:7, 2:7], volume[2:7, 2:7, 9:14] = 0.6, 0.9
    assert len(run(volume, nms_radius_fraction=0.87)) == 2
    assert by_place(run(volume, nms_radius_fraction=0.88)) == [(4, 4, 11)]
    assert by_place(run(volume, nms_radius_fraction=0.5, radius_voxels=14.0)) == [(4, 4, 11)]


# --- Scores and ties ----------------------------------------------------------------------------------
def test_the_score_is_the_mean_probability_of_the_part():
    rng = np.random.default_rng(0)
    values = rng.uniform(0.55, 1.0, (32, 34, 36))
    mask = spheres([(8, 8, 8), (20, 20, 20)], [4, 3])
    found = run(torch.from_numpy(np.where(mask, values, 0)))
    labels, _ = ndimage.label(mask)
    assert found.scores == pytest.approx(sorted(ndimage.mean(values, labels, [1, 2]), reverse=True), abs=1e-6)


def test_no_voxel_is_lost_and_parts_hang_together():
    rng = np.random.default_rng(3)
    mask = ndimage.gaussian_filter(rng.standard_normal((30, 32, 34)), 2) > 0.02
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    for number in range(1, count + 1):
        parts, _ = divide(labels == number, 4.0)
        assert np.array_equal(parts > 0, labels == number)
        for part in range(1, parts.max() + 1):
            assert ndimage.label(parts == part, np.ones((3, 3, 3)))[1] == 1
    assert len(run(mask)) > 20 and run(mask).sizes.sum() == mask.sum()


def test_a_voxel_between_two_equal_blocks_belongs_to_one_of_them():
    """Two blocks of 5 x 5 x 6 share the one voxel between them, whichever way they lie."""
    volume = torch.zeros(9, 9, 17)
    volume[2:7, 2:7, 2:8] = volume[2:7, 2:7, 9:15] = volume[4, 4, 8] = 1.0
    for axes in [(0, 1, 2), (2, 1, 0), (0, 2, 1)]:
        assert sorted(run(volume.permute(axes), cluster_radius_fraction=0.6).sizes) == [150, 151]
