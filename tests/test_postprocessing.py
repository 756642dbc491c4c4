"""What holds for every method: classes apart, grids and half voxels, candidates and selection, hand-drawn maps."""

import numpy as np
import pytest
import torch
from one_class import find
from scipy.spatial import cKDTree
from torch.nn import functional

from data.masks import make_mask
from detection.arguments import HYPERPARAMETERS
from errors import InputError
from particle_config import PARTICLES
from postprocessing import METHODS, candidates, detect, radii_voxels
from postprocessing.detections import Detections
from postprocessing.selection import selected

STRUCTURE = {
    "watershed": {"conf_threshold": 0.5, "cluster_radius_fraction": 0.5, "vol_frac_threshold": 0.0},
    "meanshift": {"conf_threshold": 0.5, "cluster_radius_fraction": 1.2, "min_cluster_vol_frac": 0.0},
}


def defaults(method):
    values = {row.keyword: row.default_for(method) for row in HYPERPARAMETERS if method in row.methods}
    return {particle.name: values for particle in PARTICLES}


def run(probability, method, changes=None, **options):
    general = {"particles": PARTICLES, "voxel_spacing_angstrom": 10.0, "trained_radius_fraction": 0.5}
    hyperparameters = {name: {**values, **(changes or {})} for name, values in defaults(method).items()}
    return detect(probability, method=method, hyperparameters=hyperparameters, **{**general, **options})


def in_channel(volume, label):
    probability = torch.zeros(7, *volume.shape)
    probability[label] = volume
    return probability


def noise(shape):
    """(7, Z, Y, X) probabilities with blobs of every class."""
    coarse = torch.rand((1, 7, 12, 12, 12), generator=torch.Generator().manual_seed(0))
    return functional.interpolate(coarse, size=shape, mode="trilinear")[0].mul(8).softmax(dim=0)


def same(one, other):
    return all(np.array_equal(getattr(one, field), getattr(other, field)) for field in vars(one))


@pytest.mark.parametrize("method", METHODS)
def test_two_classes_at_the_same_place_are_both_found(method):
    probability = torch.zeros(7, 32, 32, 32)
    probability[1, 12:18, 12:18, 12:18] = 0.9
    probability[2, 12:18, 12:18, 13:19] = 0.8
    found = run(probability, method)
    assert {name: len(one) for name, one in found.items() if len(one)} == {"apo-ferritin": 1, "beta-amylase": 1}


@pytest.mark.parametrize("method", METHODS)
def test_nothing_anywhere(method):
    found = run(torch.zeros(7, 16, 16, 16), method)
    assert set(found) == {particle.name for particle in PARTICLES} and not any(map(len, found.values()))


@pytest.mark.parametrize("method", METHODS)
def test_single_voxel_training_does_not_switch_the_size_rules_off(method):
    """Radius fraction 0 counts as a sphere of one voxel."""
    probability = torch.zeros(7, 32, 32, 32)
    probability[4, 14:17, 14:17, 14:17] = 1.0
    assert len(run(probability, method, trained_radius_fraction=0.0)["ribosome"]) == 1


@pytest.mark.parametrize("method", METHODS)
def test_voxel_centres_survive_the_way_from_angstrom_to_map_and_back(method):
    """Spheres painted about sub-voxel centres are found where the picks said, without a half-voxel shift."""
    spacing, centres = 10.012, np.array([[120.3, 255.8, 311.1], [201.7, 98.2, 140.9], [77.5, 303.3, 99.4]])
    mask = make_mask((32, 40, 44), {"ribosome": centres}, voxel_spacing_angstrom=spacing, radius_fraction=0.5)
    probability = in_channel(torch.from_numpy(mask == 4).float(), 4)
    found = run(probability, method, voxel_spacing_angstrom=spacing)["ribosome"]
    places = found.coordinates_zyx * spacing
    errors = np.array([places[np.argmin(((places - centre) ** 2).sum(1))] - centre for centre in centres])
    assert len(places) == 3
    assert np.abs(errors).max() < 0.25 * spacing and np.abs(errors.mean(axis=0)).max() < 0.15 * spacing


def test_the_centre_of_a_cell_is_the_mean_of_its_voxels():
    coarse = np.arange(5.0)
    for stride in (1, 2, 3):
        moved = Detections(np.stack([coarse] * 3, axis=1), np.ones(5), np.ones(5)).on_fine_grid(stride)
        assert moved.sizes.tolist() == [stride**3] * 5
        assert np.array_equal(moved.coordinates_zyx[:, 2], np.arange(5 * stride).reshape(5, stride).mean(axis=1))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_a_coarse_map_is_a_map_of_larger_voxels(method, fraction):
    """Radii, sizes and suppression are those of a tomogram of that spacing; only the places are told otherwise."""
    probability = noise((36, 36, 36))
    coarse = run(probability, method, map_stride=2, trained_radius_fraction=fraction)
    large = run(probability, method, voxel_spacing_angstrom=20.0, trained_radius_fraction=fraction)
    assert sum(map(len, coarse.values())) > 10
    for name, found in large.items():
        assert np.array_equal(coarse[name].scores, found.scores)
        assert np.array_equal(coarse[name].coordinates_zyx, found.coordinates_zyx * 2 + 0.5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(32, 40, 44), (31, 39, 43)])
def test_spheres_on_a_coarse_map_are_found_where_the_picks_said(method, shape):
    """What a perfect network of stride 2 answers: a cell belongs to the particle when one of its voxels does."""
    generator, spacing, errors = np.random.default_rng(0), 10.012, []
    for _ in range(8):
        centre = generator.uniform(10, 21, size=3)
        picks = {"thyroglobulin": centre[None] * spacing}
        mask = make_mask(shape, picks, voxel_spacing_angstrom=spacing, radius_fraction=0.5)
        cells = functional.max_pool3d(torch.from_numpy(mask == 5)[None].float(), 2, ceil_mode=True)[0]
        probability = in_channel(cells, 5)
        found = run(probability, method, voxel_spacing_angstrom=spacing, map_stride=2)["thyroglobulin"]
        assert len(found) == 1
        errors.append(found.coordinates_zyx[0] - centre)
    assert np.abs(errors).max() < 0.4 and np.abs(np.mean(errors, axis=0)).max() < 0.2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(40, 48, 44), (41, 47, 43)])
@pytest.mark.parametrize("centre", [(20.0, 22.0, 24.0), (20.5, 22.5, 23.5), (19.3, 23.8, 21.6), (20.1, 24.75, 22.4)])
@pytest.mark.parametrize(("map_stride", "internal_downsample"), [(2, 1), (1, 2), (2, 2), (1, 3)])
def test_a_blob_on_a_coarse_map_is_found_to_a_fraction_of_a_voxel(
    method, shape, centre, map_stride, internal_downsample
):
    z, y, x = np.ogrid[tuple(slice(side) for side in shape)]
    squared = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
    blob = torch.from_numpy(np.exp(-squared / (2 * 6.0**2)).astype(np.float32))
    found = run(
        in_channel(functional.avg_pool3d(blob[None], map_stride, ceil_mode=True)[0], 4),
        method,
        map_stride=map_stride,
        internal_downsample=internal_downsample,
    )["ribosome"]
    # A centroid counts whole cells, a vertex weighs them.
    tolerance = (0.05 if method == "peak_local_max_gpu" else 0.125) * map_stride * internal_downsample
    assert len(found) == 1 and np.abs(found.coordinates_zyx[0] - centre).max() < tolerance


@pytest.mark.parametrize("method", METHODS)
def test_downsampling_is_the_search_in_the_map_of_means(method):
    """Radii, sizes and places are those of a map whose voxels are the cells."""
    probability = noise((25, 31, 34))
    cells = functional.avg_pool3d(probability, 2, ceil_mode=True)
    inside = run(probability, method, internal_downsample=2)
    outside = run(cells, method, map_stride=2)
    assert sum(map(len, inside.values())) > 10
    for name, found in outside.items():
        assert same(inside[name], found)


# --- Candidates ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("map_stride", "internal_downsample"), [(1, 1), (2, 1), (1, 2)])
def test_detections_are_selected_candidates(method, map_stride, internal_downsample):
    """Thresholds, then suppression; whatever they are, the candidates are the same."""
    probability, known = noise((26, 32, 36)), METHODS[method]
    grids = {"map_stride": map_stride, "internal_downsample": internal_downsample}
    proposed = candidates(
        probability,
        method=method,
        particles=PARTICLES,
        voxel_spacing_angstrom=10.0,
        trained_radius_fraction=0.5,
        structural=defaults(method),
        floor=0.01,
        **grids,
    )
    for score, size, nms in [(0.02, 0.0, 0.0), (0.1, 0.2, 0.8), (0.3, 0.05, 1.5)]:
        changes = {known.score_keyword: score, known.size_keyword: size, "nms_radius_fraction": nms}
        changes.pop(None, None)
        found = run(probability, method, changes, **grids)
        for particle in PARTICLES:
            kept = selected(
                proposed[particle.name],
                **radii_voxels(particle, 10.0, 0.5, voxel_width=map_stride * internal_downsample),
                nms_radius_fraction=nms,
                smallest_score=score if known.score_keyword else None,
                smallest_volume_fraction=size if known.size_keyword else None,
            )
            assert same(proposed[particle.name][kept], found[particle.name])
        assert sum(map(len, found.values())) > 3


def test_every_hyperparameter_has_its_part():
    """Structural, on the score, on the size, or the radius of suppression: none is missing, none is left over."""
    for name, method in METHODS.items():
        parts = [*method.structural, method.score_keyword, method.size_keyword, "nms_radius_fraction"]
        expected = [row.keyword for row in HYPERPARAMETERS if name in row.methods]
        assert sorted(part for part in parts if part) == sorted(expected)


# --- Hand-drawn maps ----------------------------------------------------------------------------------
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def ball(*centres, radius=4.0, shape=(28, 36, 44)):
    z, y, x = np.ogrid[tuple(slice(side) for side in shape)]
    inside = [(z - c[0]) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2 <= radius**2 for c in centres]
    return 0.9 * torch.from_numpy(np.any(inside, axis=0)).float()


def find_one(volume, method, device="cpu", **changes):
    options = {"radius_voxels": 8.0, "trained_radius_voxels": 4.0, **next(iter(defaults(method).values()))}
    return find(volume.to(device), method, **{**options, **changes})


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("method", METHODS)
class TestHandDrawn:
    @pytest.mark.parametrize("shape", [(5, 6, 7), (1, 1, 1), (0, 6, 7), (5, 6, 0)])
    def test_empty(self, method, device, shape):
        found = find_one(torch.zeros(shape), method, device)
        assert found.coordinates_zyx.shape == (0, 3) and found.scores.shape == found.sizes.shape == (0,)

    @pytest.mark.parametrize("place", [(2, 3, 4), (0, 0, 0), (4, 5, 6), (0, 3, 6)])
    def test_one_voxel(self, method, device, place):
        volume = torch.zeros(5, 6, 7)
        volume[place] = 1.0
        keywords = {"peak_threshold": 0.02, "vol_frac_threshold": 0.0, "min_cluster_vol_frac": 0.0}
        changes = {keyword: keywords[keyword] for keyword in keywords.keys() & defaults(method)["ribosome"].keys()}
        found = find_one(volume, method, device, trained_radius_voxels=1.0, **changes)
        assert found.coordinates_zyx == pytest.approx(np.array([place])) and found.sizes.tolist() == [1]
        assert 0 < found.scores[0] <= 1

    def test_two_that_touch(self, method, device):
        """Their voxels are neighbours: one component, two of everything else."""
        centres = [(13, 17, 16), (13, 17, 25)]
        found = find_one(ball(*centres), method, device).coordinates_zyx
        expected = [(13, 17, 20.5)] if method == "cc3d" else centres
        assert found[np.argsort(found[:, 2])] == pytest.approx(np.array(expected, dtype=float), abs=0.5)

    @pytest.mark.parametrize("corner", [(0, 0, 0), (27, 35, 43), (0, 35, 20)])
    def test_at_the_border(self, method, device, corner):
        """What is left of it is found, and within the volume."""
        found = find_one(ball(corner), method, device, **{"peak_threshold": 0.1} if "peak" in method else {})
        assert len(found) == 1 and np.linalg.norm(found.coordinates_zyx[0] - corner) < 4
        assert (found.coordinates_zyx >= -0.5).all() and (found.coordinates_zyx <= np.array([27, 35, 43]) + 0.5).all()

    @pytest.mark.parametrize("level", [0.6, 1.0])
    def test_a_plateau_is_one(self, method, device, level):
        """A cube without a highest voxel, and everywhere the same value."""
        volume = torch.zeros(20, 20, 20)
        volume[8:12, 8:12, 8:12] = level
        assert find_one(volume, method, device).coordinates_zyx == pytest.approx(np.full((1, 3), 9.5), abs=0.01)
        even = torch.full((9, 9, 9), level)
        assert len(find_one(even, method, device, nms_radius_fraction=2.0)) == 1

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.1, 1.1, 7.0])
    @pytest.mark.parametrize("place", [(0, 0, 0), (13, 20, 21), (27, 35, 43)])
    def test_what_is_no_probability_is_refused(self, method, device, value, place):
        volume = ball((13, 13, 12))
        volume[place] = value
        with pytest.raises(InputError, match="must lie in 0"):
            find_one(volume, method, device)

    def test_rounding_out_of_range_is_accepted(self, method, device):
        volume = ball((13, 13, 12)) * 1.002 / 0.9
        volume[0, 0, 0] = -1e-4
        assert len(find_one(volume, method, device)) == 1

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
    def test_other_precisions_give_the_same(self, method, device, dtype):
        volume = noise((25, 31, 34))[3].to(dtype)
        expected = find_one(volume.float(), method, device)
        assert len(expected) > 2
        assert find_one(volume, method, device).coordinates_zyx == pytest.approx(expected.coordinates_zyx, abs=1e-4)

    def test_sizes_are_voxels(self, method, device):
        volume = ball((6, 8, 9), (20, 25, 30))
        found = find_one(volume, method, device)
        voxels = int((volume > 0).sum()) / 2
        assert found.sizes == pytest.approx([voxels, voxels], rel=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_finds_the_same(method):
    probability = noise((40, 50, 60))
    ours, theirs = run(probability, method), run(probability.cuda(), method)
    for name, found in ours.items():
        assert found.coordinates_zyx == pytest.approx(theirs[name].coordinates_zyx, abs=1e-3)
        assert found.scores == pytest.approx(theirs[name].scores, abs=1e-5)
        assert np.array_equal(found.sizes, theirs[name].sizes)


# --- Maps with very many voxels of a class ------------------------------------------------------------
@pytest.mark.parametrize("method", ["watershed", "meanshift"])
def test_particles_that_all_touch_are_found_tile_by_tile(method, monkeypatch):
    """A lattice of spheres in one piece: those at the border of tiles are neither lost nor found twice."""
    places = np.arange(6, 60, 11)
    centres = np.stack(np.meshgrid(places, places, places, indexing="ij"), -1).reshape(-1, 3)
    grid = np.stack(np.indices((66, 66, 66)), -1)
    volume = torch.from_numpy(0.9 * (cKDTree(centres).query(grid)[0] <= 6.0)).float()
    options = {"radius_voxels": 12.0, "trained_radius_voxels": 6.0, "nms_radius_fraction": 0.0, **STRUCTURE[method]}
    whole = find(volume, method, **options)
    monkeypatch.setattr("postprocessing.class_voxels.BLOCK_VOXELS", 20_000)
    monkeypatch.setattr("postprocessing.class_voxels.TILE_SIDE", 24)
    with pytest.warns(UserWarning, match="0.1 million voxels .* the map is diffuse"):
        tiled = find(volume, method, **options)
    for found in (whole, tiled):
        assert len(found) == len(centres) and found.sizes.sum() == int((volume > 0.5).sum())
        assert cKDTree(found.coordinates_zyx).query(centres)[0].max() < 0.8
        np.testing.assert_allclose(found.scores, 0.9, rtol=1e-6)
