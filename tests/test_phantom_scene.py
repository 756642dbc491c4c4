"""Laws of the placement and of points becoming voxels."""

import numpy as np
import pytest
from scipy import ndimage

from data.phantom.densities import blob_cluster
from data.phantom.scene import (
    CLOSEST_APPROACH,
    ICE_FRACTION,
    Placement,
    Scene,
    Vesicle,
    add_points,
    check_inside,
    distance_to_membrane,
    make_scene,
    particle_counts,
    render_scene,
)
from errors import InputError
from particle_config import PARTICLES

SMALL_EXTENT = (np.array([96, 192, 192]) - 1) * 10.012


def scene_of(seed=0, **more):
    arguments = {
        "extent_zyx_angstrom": SMALL_EXTENT,
        "particles": PARTICLES,
        "distractor_radii_angstrom": {"a": 50.0, "b": 100.0},
    }
    return make_scene(np.random.default_rng(seed), **{**arguments, **more})


@pytest.mark.parametrize("ice_fraction", [ICE_FRACTION, 0.45])
def test_particles_hardly_touch_and_lie_in_the_ice(ice_fraction):
    scene = scene_of(ice_fraction=ice_fraction)
    centres = np.concatenate([p.coordinates_zyx_angstrom for p in scene.particles.values()])
    radii = np.concatenate([np.full(len(scene.particles[p.name].rotations_zyx), p.radius_angstrom) for p in PARTICLES])
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    allowed = CLOSEST_APPROACH * (radii[:, None] + radii[None])
    np.fill_diagonal(distances, np.inf)
    assert (distances >= allowed).all()
    assert (centres >= radii[:, None] - 1e-9).all()
    assert (centres <= SMALL_EXTENT - radii[:, None] + 1e-9).all()
    depth = np.abs(centres[:, 0] - SMALL_EXTENT[0] / 2) + radii
    assert depth.max() <= ice_fraction * SMALL_EXTENT[0] / 2 + 1e-9


def test_small_tomograms_hold_about_twelve_of_each_and_large_ones_the_real_number():
    small = {name: len(p.rotations_zyx) for name, p in scene_of().particles.items()}
    assert min(small.values()) >= 7
    large = particle_counts(np.random.default_rng(0), PARTICLES, 183 * 629 * 629 * 10.012**3)
    assert 30 <= large["apo-ferritin"] <= 60
    assert 30 <= large["ribosome"] <= 55
    assert 10 <= large["virus-like-particle"] <= 20


def test_orientations_are_rotations_and_not_all_alike():
    rotations = scene_of().particles["ribosome"].rotations_zyx
    identities = np.tile(np.eye(3), (len(rotations), 1, 1))
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), identities, atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(rotations), 1)
    assert np.abs(rotations.mean(axis=0)).max() < 0.7


def test_given_positions_are_kept_exactly():
    given = {"ribosome": np.array([[400.0, 500.5, 1300.25]]), "apo-ferritin": np.array([[401.0, 700.0, 900.0]])}
    scene = scene_of(given_zyx_angstrom=given)
    for name, placement in scene.particles.items():
        np.testing.assert_array_equal(placement.coordinates_zyx_angstrom, given.get(name, np.empty((0, 3))))


def test_positions_outside_are_an_input_error_that_counts_them():
    given = {"ribosome": np.array([[400.0, 500.0, 2500.0], [1.0, 2.0, 3.0]])}
    with pytest.raises(InputError, match=r"picks\.csv: 1 of 2 points lie outside .*x=2500"):
        check_inside(given, SMALL_EXTENT, "picks.csv")


def test_distance_to_membrane_of_a_sphere():
    sphere = Vesicle(np.zeros(3), np.full(3, 100.0))
    distances = [distance_to_membrane(np.array([0.0, d, 0.0]), sphere) for d in (0, 60, 100, 150)]
    assert distances == pytest.approx([-100, -40, 0, 50])


def test_points_keep_their_sum_and_centre_of_mass():
    rng = np.random.default_rng(1)
    points, weights = rng.uniform(4, 11, (50, 3)), rng.uniform(1, 2, 50)
    volume = np.zeros((16, 16, 16), np.float32)
    add_points(volume, points, weights)
    assert volume.sum() == pytest.approx(weights.sum(), rel=1e-5)
    expected = np.average(points, axis=0, weights=weights)
    np.testing.assert_allclose(ndimage.center_of_mass(volume), expected, atol=1e-4)


def test_a_point_on_a_voxel_spreads_alike_to_both_sides():
    volume = np.zeros((9, 9, 9), np.float32)
    add_points(volume, np.array([[4.0, 4.0, 4.0]]), np.ones(1))
    assert volume[4, 4, 4] == pytest.approx((2 / 3) ** 3)
    np.testing.assert_allclose(volume, volume[::-1, ::-1, ::-1])


def test_points_outside_are_cut_off():
    volume = np.zeros((8, 8, 8), np.float32)
    add_points(volume, np.array([[-5.0, 3, 3], [3, 30, 3]]), np.ones(2))
    assert volume.sum() == 0
    add_points(volume, np.array([[0.0, 4, 4]]), np.ones(1))
    assert 0.5 < volume.sum() < 1


def test_rendered_particle_lies_at_its_float_coordinate_turned_by_its_rotation():
    spacing, centre = 5.0, np.array([82.3, 101.7, 93.1])
    rotation = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # z -> y, y -> -z
    cluster = blob_cluster("something", 60.0)
    scene = Scene({"it": Placement(centre[None], rotation[None])}, {}, [], np.empty((0, 3)))
    volume = render_scene(scene, {"it": cluster}, (36, 40, 38), spacing)
    np.testing.assert_allclose(np.array(ndimage.center_of_mass(volume)) * spacing, centre, atol=1e-2)
    z, y = (np.indices(volume.shape)[i] * spacing - centre[i] for i in (0, 1))
    third_moment_y = (volume * y**3).sum() / volume.sum()
    expected = np.average(cluster.offsets_zyx_angstrom[:, 0] ** 3, weights=cluster.weights)
    assert third_moment_y == pytest.approx(expected, rel=0.02, abs=50)
    assert abs(expected) > 500, "the cluster must be lopsided for this to say anything"
    assert (volume * z**3).sum() / volume.sum() == pytest.approx(
        -np.average(cluster.offsets_zyx_angstrom[:, 1] ** 3, weights=cluster.weights), rel=0.02, abs=50
    )
