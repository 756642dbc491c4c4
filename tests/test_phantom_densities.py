"""Laws of the densities: symmetry, hollow shells, centre, radius; and maps from files."""

from pathlib import Path

import mrcfile
import numpy as np
import pytest
from scipy.spatial import cKDTree

from data.phantom.densities import (
    MEMBRANE_LEAFLET_OFFSET_ANGSTROM,
    SHAPES,
    blob_cluster,
    density_of,
    symmetry_axes_zyx,
    symmetry_rotations_zyx,
    vesicle,
)
from data.phantom.density_maps import read_density_map, read_distractor_maps, read_particle_maps
from errors import InputError
from particle_config import PARTICLES, Particle, find_particle, normalised_name

REAL_MAPS = Path(__file__).parents[1].parent / "shared" / "data" / "densities"
NEW = Particle("my-new-enzyme", 72.0, 1.0, 7, "#000000")


def density_named(name):
    return density_of(find_particle(name))


def centre_of_mass(density):
    return np.average(density.offsets_zyx_angstrom, axis=0, weights=density.weights)


@pytest.mark.parametrize("particle", [*PARTICLES, NEW], ids=lambda p: p.name)
def test_density_is_centred_and_fills_the_radius_of_the_table(particle):
    density = density_of(particle)
    assert np.abs(centre_of_mass(density)).max() < 1e-6
    assert 0.85 * particle.radius_angstrom < density.radius_angstrom <= particle.radius_angstrom + 1e-9
    assert (density.weights > 0).all()


@pytest.mark.parametrize("particle", PARTICLES, ids=lambda p: p.name)
def test_density_equals_itself_under_its_symmetry(particle):
    group, _ = SHAPES[normalised_name(particle.name)]
    points = density_of(particle).offsets_zyx_angstrom
    tree = cKDTree(points)
    for rotation in symmetry_rotations_zyx(group):
        distance, mate = tree.query(points @ rotation.T)
        assert distance.max() < 1e-6
        assert len(np.unique(mate)) == len(points)


def test_elongated_dimer_has_no_symmetry_but_its_own():
    points = density_named("thyroglobulin").offsets_zyx_angstrom
    quarter_turn = points @ np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]).T
    assert cKDTree(points).query(quarter_turn)[0].mean() > 5


@pytest.mark.parametrize(("name", "inside", "outside"), [("apo-ferritin", 40, 60), ("vlp", 110, 135)])
def test_shells_are_hollow(name, inside, outside):
    distance = np.linalg.norm(density_named(name).offsets_zyx_angstrom, axis=1)
    assert distance.min() >= inside - 1e-6
    assert outside - 2 < distance.max() <= outside


def test_masses_are_those_of_the_molecules():
    """Protein weighs about 0.81 Da per cubic angstrom; rounded literature masses, kDa."""
    kilodalton = {p.name: density_of(p).weights.sum() * 0.81 / 1000 for p in PARTICLES}
    expected = {"apo-ferritin": 480, "beta-amylase": 200, "beta-galactosidase": 465, "thyroglobulin": 660}
    for name, mass in expected.items():
        assert kilodalton[name] == pytest.approx(mass, rel=0.2)
    assert kilodalton["ribosome"] > kilodalton["virus-like-particle"] > 1500


def test_symmetry_axes_of_the_icosahedron():
    assert [len(symmetry_axes_zyx("I", fold)) for fold in (5, 3)] == [12, 20]
    assert [len(symmetry_axes_zyx("O", fold)) for fold in (4, 3)] == [6, 8]


def test_new_row_gets_its_own_reproducible_density():
    first, again = density_of(NEW), density_of(NEW)
    np.testing.assert_array_equal(first.offsets_zyx_angstrom, again.offsets_zyx_angstrom)
    other = blob_cluster("another-enzyme", NEW.radius_angstrom)
    assert other.offsets_zyx_angstrom.shape != first.offsets_zyx_angstrom.shape


def test_vesicle_is_two_leaflets_of_the_right_area():
    radius, membrane = 200.0, vesicle(np.array([200.0, 200.0, 200.0]))
    distance = np.linalg.norm(membrane.offsets_zyx_angstrom, axis=1)
    np.testing.assert_allclose(np.abs(distance - radius), MEMBRANE_LEAFLET_OFFSET_ANGSTROM, atol=1e-6)
    assert membrane.weights.sum() == pytest.approx(2 * 4 * np.pi * radius**2 * 9.0, rel=1e-6)


# --- Maps ---------------------------------------------------------------------------------------------
def write_map(path, voxel_size=5.0, values=None):
    if values is None:
        values = np.zeros((12, 14, 16), np.float32)
        values[4:8, 5:9, 6:12] = 3.0
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(values)
        mrc.voxel_size = voxel_size
    return path


@pytest.mark.parametrize("voxel_size", [2.5, 5.0, 20.0])
def test_map_keeps_size_and_centre_at_any_voxel_size(tmp_path, voxel_size):
    density = read_density_map(write_map(tmp_path / "a.mrc", voxel_size))
    spread = np.ptp(density.offsets_zyx_angstrom, axis=0)
    assert np.abs(centre_of_mass(density)).max() < 1e-6
    np.testing.assert_allclose(spread, np.array([4, 4, 6]) * voxel_size, atol=2 * voxel_size)
    assert density.weights.sum() == pytest.approx(4 * 4 * 6 * voxel_size**3, rel=0.3)


def test_maps_are_found_by_the_particles_name(tmp_path):
    for particle in PARTICLES:
        write_map(tmp_path / f"{particle.name}_1abc.mrc")
    write_map(tmp_path / "decoys" / "9xyz.mrc")
    assert list(read_particle_maps(tmp_path, PARTICLES)) == [p.name for p in PARTICLES]
    assert list(read_distractor_maps(tmp_path)) == ["9xyz"]


def test_missing_or_double_map_is_named(tmp_path):
    for particle in PARTICLES[1:]:
        write_map(tmp_path / f"{particle.name}.mrc")
    with pytest.raises(InputError, match="no map for apo-ferritin"):
        read_particle_maps(tmp_path, PARTICLES)
    write_map(tmp_path / "ribosome_b.mrc")
    with pytest.raises(InputError, match="both name ribosome"):
        read_particle_maps(tmp_path, PARTICLES[1:])
    with pytest.raises(InputError, match="not a folder"):
        read_particle_maps(tmp_path / "nowhere", PARTICLES)


def test_unusable_maps_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="voxel size"):
        read_density_map(write_map(tmp_path / "zero.mrc", 0.0))
    with pytest.raises(InputError, match="no positive"):
        read_density_map(write_map(tmp_path / "empty.mrc", 5.0, np.zeros((4, 4, 4), np.float32)))


@pytest.mark.skipif(not REAL_MAPS.is_dir(), reason="the real maps are not here")
def test_real_maps_have_about_the_radii_of_the_table():
    densities = read_particle_maps(REAL_MAPS, PARTICLES)
    for particle in PARTICLES:
        assert densities[particle.name].radius_angstrom == pytest.approx(particle.radius_angstrom, rel=0.4)
