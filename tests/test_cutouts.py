"""Cut-outs: what lies where in angstrom stays there, whatever the voxels are; mean and profile are right."""

import numpy as np
import pytest

from evaluation.report.cutouts import FEWEST_SAMPLES, MOST_SAMPLES, Box, central_slice, cut_out, grey_scale

SIGMA = 30.0  # angstrom
SIZE = (700.0, 760.0, 840.0)
SPACINGS = [(10.0, 10.0, 10.0), (14.0, 9.0, 11.0), (7.0, 12.0, 12.0), (3.9, 4.1, 4.0)]


def drawn(spacing_zyx, centres, sigma=SIGMA):
    """Dark Gaussian balls; voxel i lies at i times the voxel size."""
    grid = [np.arange(round(n / s)) * s for n, s in zip(SIZE, spacing_zyx, strict=True)]
    volume = np.zeros([len(g) for g in grid])
    for centre in centres:
        z, y, x = (np.exp(-((g - c) ** 2) / (2 * sigma**2)) for g, c in zip(grid, centre, strict=True))
        volume -= z[:, None, None] * y[:, None] * x
    return volume.astype(np.float32)


def centre_of_mass(cube):
    places = np.indices(cube.shape).reshape(3, -1)
    return (places * cube.ravel()).sum(axis=1) / cube.sum()


@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
def test_the_mean_of_balls_is_centred_and_their_profile_that_of_the_formula(spacing):
    rng = np.random.default_rng(1)
    centres = rng.uniform(200, np.array(SIZE) - 200, (12, 3))
    box = Box.of(70.0, min(spacing))
    cubes = [cut_out(drawn(spacing, [centre]), spacing, centre, box) for centre in centres]
    mean = np.mean(cubes, axis=0)
    assert np.abs(centre_of_mass(mean) - box.samples // 2).max() < 0.1
    assert np.argwhere(mean == mean.min()).tolist() == [[box.samples // 2] * 3]
    profile = np.mean([box.radial_profile(cube) for cube in cubes], axis=0)
    expected = -np.exp(-(box.shell_radii_angstrom**2) / (2 * SIGMA**2))
    np.testing.assert_allclose(profile, expected, atol=0.012)
    assert box.shell_radii_angstrom[0] == 0 and box.shell_radii_angstrom[-1] > 1.4 * 70


@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
@pytest.mark.parametrize("axis", range(3))
def test_what_lies_ahead_along_an_axis_is_seen_there(spacing, axis):
    pick, offset = np.array([350.3, 377.0, 421.9]), np.zeros(3)
    offset[axis] = 60.0
    box = Box.of(70.0, min(spacing))
    cube = cut_out(drawn(spacing, [pick + offset], sigma=20.0), spacing, pick, box)
    steps = (np.array(np.unravel_index(cube.argmin(), cube.shape)) - box.samples // 2) * box.step_angstrom
    np.testing.assert_allclose(steps, offset, atol=0.6 * max(box.step_angstrom, 0.5 * max(spacing)))


def test_slices_have_rows_y_or_z_and_columns_x():
    box = Box.of(60.0, 10.0)
    middle, ahead = box.samples // 2, box.samples - 3
    for axis, shown in enumerate(("yx", "zx", "zy")):
        for place, name in enumerate(shown):
            cube = np.zeros((box.samples,) * 3)
            where = [middle] * 3
            where["zyx".index(name)] = ahead
            cube[tuple(where)] = 1
            at = [middle, middle]
            at[place] = ahead
            assert np.argwhere(central_slice(cube, box, axis)).tolist() == [at]


def test_a_slice_is_the_mean_of_its_slab():
    box = Box.of(60.0, 10.0)
    cube = np.broadcast_to(np.arange(box.samples)[:, None, None] ** 2, (box.samples,) * 3).astype(float)
    planes = np.array(box.slab) ** 2
    assert central_slice(cube, box, 0) == pytest.approx(planes.mean())
    assert box.slab_angstrom == pytest.approx(40, abs=box.step_angstrom)


def test_outside_of_the_tomogram_is_blank_and_inside_nothing_changes():
    rng = np.random.default_rng(0)
    large = rng.normal(size=(60, 70, 80)).astype(np.float32)
    box, spacing = Box.of(60.0, 10.0), (10.0, 10.0, 10.0)
    pick = np.array([251.0, 304.0, 330.0])
    small = large[20:, 25:, :38]  # its first voxel lies at (200, 250, 0)
    cube, whole = cut_out(small, spacing, pick - (200, 250, 0), box), cut_out(large, spacing, pick, box)
    assert not np.isnan(whole).any() and not box.holds_particle(cube)
    places = [pick[axis] + box.offsets_angstrom for axis in range(3)]
    inside = [places[0] >= 195, places[1] >= 245, places[2] <= 375]
    expected = inside[0][:, None, None] & inside[1][:, None] & inside[2]
    np.testing.assert_array_equal(np.isfinite(cube), expected)
    deep = [places[0] >= 220, places[1] >= 270, places[2] <= 350]  # beyond the reach of the filter
    same = deep[0][:, None, None] & deep[1][:, None] & deep[2]
    np.testing.assert_allclose(cube[same], whole[same], atol=1e-5)
    assert np.isfinite(central_slice(cube, box, 0)).any() and np.isnan(central_slice(cube, box, 0)).any()


@pytest.mark.parametrize("pick", [(-400, 300, 300), (300, 9000, 300), (300, 300, -95)])
def test_a_pick_far_outside_is_blank(pick):
    box = Box.of(60.0, 10.0)
    cube = cut_out(np.ones((40, 60, 60), np.float32), (10.0,) * 3, np.array(pick, float), box)
    assert np.isnan(cube).all() and np.isnan(central_slice(cube, box, 1)).all()
    assert np.isnan(box.radial_profile(cube)).all()


def test_a_particle_is_whole_up_to_its_radius():
    box, volume = Box.of(60.0, 10.0), np.ones((40, 60, 60), np.float32)
    held = [box.holds_particle(cut_out(volume, (10.0,) * 3, np.array([z, 300.0, 300.0]), box)) for z in (50.0, 62.0)]
    assert held == [False, True]


def test_blank_samples_do_not_count_in_the_profile():
    box = Box.of(60.0, 10.0)
    cube = np.full((box.samples,) * 3, 3.0)
    cube[: box.samples // 2] = np.nan
    np.testing.assert_allclose(box.radial_profile(cube), 3.0)


def test_voxels_finer_than_the_samples_are_averaged():
    voxels = np.indices((180, 180, 180)).sum(axis=0) % 2 * 2.0 - 1
    box = Box.of(150.0, 2.0)
    assert box.samples == MOST_SAMPLES
    cube = cut_out(voxels, (2.0,) * 3, np.array([181.0, 175.0, 180.0]), box)
    assert np.nanmax(np.abs(cube[10:-10, 10:-10, 10:-10])) < 0.05


@pytest.mark.parametrize(("radius", "finest", "samples"), [(60, 10, FEWEST_SAMPLES), (150, 10, 45), (150, 1, 65)])
def test_a_box_has_a_central_sample_and_its_side(radius, finest, samples):
    box = Box.of(radius, finest)
    assert box.samples == samples and box.samples * box.step_angstrom == pytest.approx(3 * radius)
    assert box.offsets_angstrom[box.samples // 2] == 0


def test_the_grey_scale_of_a_tomogram_is_not_that_of_its_gold():
    voxels = np.random.default_rng(0).normal(5.0, 2.0, (80, 120, 130))
    mean, deviation = grey_scale(voxels)
    voxels[:4, :40, :40] = -1e4
    with_gold = grey_scale(voxels)
    assert (mean, deviation) == pytest.approx((5.0, 2.0), rel=0.03)
    assert with_gold == pytest.approx((mean, deviation), rel=0.03)
    assert grey_scale(np.full((4, 4, 4), 7)) == (7.0, 1.0)
    padded = np.zeros((100, 100, 100))
    padded[:10] = voxels[10:20, :100, :100]
    assert grey_scale(padded) == (0.0, padded.std())


def test_whole_numbers_are_cut_as_well():
    voxels = np.zeros((40, 40, 40), np.int8)
    voxels[20, 20, 20] = -100
    cube = cut_out(voxels, (10.0,) * 3, np.array([200.0, 200.0, 200.0]), Box.of(60.0, 10.0))
    assert cube.min() == pytest.approx(-100, abs=0.1)
