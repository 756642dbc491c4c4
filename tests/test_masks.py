"""Masks: hand-drawn spheres, and the laws of painting."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.masks import make_mask, mask_folder, mask_path, paint_spheres, pool_labels, read_mask, unpainted
from errors import InputError
from particle_config import PARTICLES, Particle


def test_no_points_no_labels():
    mask = paint_spheres((3, 4, 5), {1: np.empty((0, 3))}, {1: 2.0})
    assert mask.dtype == np.uint8
    assert mask.shape == (3, 4, 5)
    assert not mask.any()
    assert unpainted((3, 4, 5), np.empty((0, 3)), 2.0).shape == (0,)


def test_a_sphere_drawn_by_hand():
    # Radius exactly 1: the centre and its six neighbours, since the border counts as inside.
    mask = paint_spheres((3, 3, 3), {4: [[1, 1, 1]]}, {4: 1.0})
    flat = [[0, 0, 0], [0, 4, 0], [0, 0, 0]]
    cross = [[0, 4, 0], [4, 4, 4], [0, 4, 0]]
    np.testing.assert_array_equal(mask, [flat, cross, flat])


def test_the_centre_is_not_rounded():
    # Between two voxels, each 0.5 away.
    mask = paint_spheres((1, 1, 4), {1: [[0, 0, 1.5]]}, {1: 0.5})
    np.testing.assert_array_equal(mask, [[[0, 1, 1, 0]]])


@settings(max_examples=50, deadline=None)
@given(
    st.tuples(*[st.floats(-4, 12) for _ in range(3)]),
    st.floats(0.01, 5),
)
def test_painting_is_the_definition(centre, radius):
    shape = (6, 7, 8)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    expected = ((grid - centre) ** 2).sum(axis=-1) <= radius**2
    mask = paint_spheres(shape, {3: [centre]}, {3: radius})
    np.testing.assert_array_equal(mask == 3, expected)
    assert unpainted(shape, [centre], radius).tolist() == [not expected.any()]


def test_radius_zero_is_the_nearest_voxel_and_ties_go_to_the_even():
    points = [[0.4, 1.6, 2.0], [2, 0.5, 1.5]]
    mask = paint_spheres((3, 3, 4), {2: points}, {2: 0.0})
    assert np.argwhere(mask == 2).tolist() == [[0, 2, 2], [2, 0, 2]]


def test_later_labels_overwrite_earlier_ones():
    centres = {1: [[0, 0, 1]], 2: [[0, 0, 3]]}
    np.testing.assert_array_equal(paint_spheres((1, 1, 6), centres, {1: 2, 2: 1}), [[[1, 1, 2, 2, 2, 0]]])


def test_borders_clip_and_points_outside_leave_no_trace():
    points = np.array([[0, 0, -1.0], [0, 0, -9.0], [0, 0, 50.0]])
    mask = paint_spheres((1, 1, 5), {1: points}, {1: 2})
    np.testing.assert_array_equal(mask, [[[1, 1, 0, 0, 0]]])
    assert unpainted((1, 1, 5), points, 2).tolist() == [False, True, True]


def test_a_label_that_does_not_fit():
    with pytest.raises(ValueError, match="uint8"):
        paint_spheres((2, 2, 2), {256: [[0, 0, 0]]}, {256: 1})


# --- from picks ---------------------------------------------------------------------------------------
def test_axes_and_units():
    picks = {"apo-ferritin": np.array([[20.0, 50.0, 110.0]])}  # zyx in angstrom
    mask = make_mask((5, 9, 15), picks, voxel_spacing_angstrom=10.0, radius_fraction=0.0)
    assert np.argwhere(mask).tolist() == [[2, 5, 11]]
    assert mask[2, 5, 11] == 1


def test_the_radius_is_a_fraction_of_the_particles():
    picks = {"apo-ferritin": np.array([[100.0, 100, 100]])}
    mask = make_mask((21, 21, 21), picks, voxel_spacing_angstrom=10.0, radius_fraction=0.5)
    assert np.flatnonzero(mask[10, 10]).tolist() == list(range(7, 14)), "60 A * 0.5 = 3 voxels, border inside"
    finer = make_mask((41, 41, 41), picks, voxel_spacing_angstrom=5.0, radius_fraction=0.5)
    assert np.flatnonzero(finer[20, 20]).tolist() == list(range(14, 27))


def test_the_order_is_that_of_the_table_not_of_the_picks():
    here = np.array([[20.0, 20, 20]])
    for names in (("apo-ferritin", "ribosome"), ("ribosome", "apo-ferritin")):
        picks = dict.fromkeys(names, here)
        mask = make_mask((5, 5, 5), picks, voxel_spacing_angstrom=10.0, radius_fraction=0.5)
        assert mask[2, 2, 2] == 4


def test_another_table_and_an_unknown_particle():
    table = (Particle("proteasome", 20.0, 1.0, 1, "#000000"),)
    picks = {"proteasome": np.array([[10.0, 10, 10]])}
    mask = make_mask((3, 3, 3), picks, voxel_spacing_angstrom=10, radius_fraction=0.5, particles=table)
    assert (mask == 1).sum() == 7
    with pytest.raises(InputError, match="'proteasome' is not in the particle table"):
        make_mask((3, 3, 3), picks, voxel_spacing_angstrom=10, radius_fraction=0.5)


def test_every_particle_gets_its_own_label():
    picks = {p.name: np.array([[0.0, 0.0, 400.0 * p.label]]) for p in PARTICLES}
    mask = make_mask((1, 1, 300), picks, voxel_spacing_angstrom=10, radius_fraction=0.5)
    assert [int(mask[0, 0, 40 * p.label]) for p in PARTICLES] == [p.label for p in PARTICLES]


# --- coarser grids ------------------------------------------------------------------------------------
@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("centre", [[15.0, 16, 17], [15.5, 15.5, 15.5], [16.3, 14.8, 15.1]])
def test_a_pooled_sphere_keeps_its_centre(stride, centre):
    """Cell j lies at (j + 0.5) * s - 0.5: without the half voxels the centre would be off by (s - 1) / 2."""
    mask = torch.from_numpy(paint_spheres((32, 32, 32), {3: [centre]}, {3: 3.5 * stride}))[None]
    pooled = pool_labels(mask, stride)
    assert pooled.dtype == torch.uint8 and pooled.shape == (1, *[32 // stride] * 3)
    found = (pooled[0].argwhere().double().mean(dim=0) + 0.5) * stride - 0.5
    assert np.abs(found.numpy() - centre).max() < 0.15 * stride


@pytest.mark.parametrize("fraction", [0.3, 0.4, 0.5])
def test_a_pooled_sphere_keeps_its_volume(fraction):
    """Spheres of every particle at random places: the volume that filters and bandwidths reckon with.

    With the highest label of each cell that of apo-ferritin at half its radius would be 1.9 times as large.
    """
    rng, side = np.random.default_rng(0), 24
    for radius in (fraction * particle.radius_angstrom / 10.012 for particle in PARTICLES):
        centres = side / 2 + rng.uniform(0, 2, (200, 3))
        masks = torch.stack([torch.from_numpy(paint_spheres((side,) * 3, {1: [c]}, {1: radius})) for c in centres])
        cells = pool_labels(masks, 2).flatten(1).sum(1).double()
        assert cells.min() > 0
        assert 8 * cells.mean() == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.1)


def test_a_single_voxel_gives_the_one_cell_that_holds_it():
    for place in np.random.default_rng(0).integers(0, 12, (30, 3)):
        mask = torch.zeros(1, 12, 12, 12, dtype=torch.uint8)
        mask[(0, *place)] = 5
        pooled = pool_labels(mask, 2, single_voxels=True)
        assert pooled.argwhere().tolist() == [[0, *(place // 2)]] and pooled.max() == 5


def test_a_cell_belongs_to_a_particle_when_half_of_its_voxels_do():
    label = torch.tensor([[[[1, 3, 0, 0, 2, 0], [0, 2, 1, 0, 0, 2]]]], dtype=torch.uint8).expand(1, 2, 2, 6)
    assert pool_labels(label, 2).tolist() == [[[[3, 0, 2]]]]
    assert pool_labels(label, 2, single_voxels=True).tolist() == [[[[3, 1, 2]]]]


def test_stride_1_changes_nothing_and_sides_must_fit():
    label = torch.randint(0, 7, (2, 4, 6, 8), dtype=torch.uint8)
    assert torch.equal(pool_labels(label, 1), label)
    with pytest.raises(ValueError, match="multiples of the stride 4"):
        pool_labels(label, 4)


# --- files --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("fraction", "name"), [(0.5, "0.5"), (0.0, "0.0"), (0, "0.0"), (1, "1.0"), (0.35, "0.35")])
def test_folder_names(tmp_path, fraction, name):
    assert mask_folder(tmp_path, fraction) == tmp_path / f"segmentations_{name}"
    assert mask_path(tmp_path, "TS_1", fraction) == tmp_path / f"segmentations_{name}" / "TS_1.npy"


def test_read_mask(tmp_path):
    path = tmp_path / "TS_1.npy"
    with pytest.raises(InputError, match=r"make it with prepare_mask_czi\.py"):
        read_mask(path, (1, 2, 3))
    mask = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    np.save(path, mask)
    np.testing.assert_array_equal(read_mask(path, (1, 2, 3)), mask)
    with pytest.raises(InputError, match="the tomogram has"):
        read_mask(path, (3, 2, 1))
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InputError, match="not a readable mask"):
        read_mask(path, (1, 2, 3))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.5, 1.0, 2.5]), st.data())
def test_a_region_is_the_same_as_cut_from_the_whole(seed, radius, data):
    shape, rng = (9, 11, 13), np.random.default_rng(seed)
    points = {label: np.round(rng.uniform(-3, 15, (6, 3)) * 2) / 2 for label in (2, 1)}  # halves: ties of rounding
    ends = [sorted(data.draw(st.lists(st.integers(0, side), min_size=2, max_size=2, unique=True))) for side in shape]
    region, radii = tuple(slice(*pair) for pair in ends), dict.fromkeys(points, radius)
    whole = paint_spheres(shape, points, radii)
    np.testing.assert_array_equal(paint_spheres(shape, points, radii, region), whole[region])
