"""All methods together: classes do not disturb each other."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from data.masks import make_mask
from evaluation.arguments import HYPERPARAMETERS
from particle_config import PARTICLES
from postprocessing import METHODS, detect
from postprocessing.detections import Detections


def defaults(method):
    values = {row.keyword: row.default_for(method) for row in HYPERPARAMETERS if method in row.methods}
    return {particle.name: values for particle in PARTICLES}


def run(probability, method, fraction=0.5):
    return detect(
        probability,
        method=method,
        particles=PARTICLES,
        voxel_spacing_angstrom=10.0,
        trained_radius_fraction=fraction,
        hyperparameters=defaults(method),
    )


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
    assert len(run(probability, method, fraction=0.0)["ribosome"]) == 1


@pytest.mark.parametrize("method", METHODS)
def test_voxel_centres_survive_the_way_from_angstrom_to_map_and_back(method):
    """Spheres painted about sub-voxel centres are found where the picks said, without a half-voxel shift."""
    spacing, centres = 10.012, np.array([[120.3, 255.8, 311.1], [201.7, 98.2, 140.9], [77.5, 303.3, 99.4]])
    mask = make_mask((32, 40, 44), {"ribosome": centres}, voxel_spacing_angstrom=spacing, radius_fraction=0.5)
    probability = torch.zeros(7, *mask.shape)
    probability[4] = torch.from_numpy(mask == 4).float()
    found = detect(
        probability,
        method=method,
        particles=PARTICLES,
        voxel_spacing_angstrom=spacing,
        trained_radius_fraction=0.5,
        hyperparameters=defaults(method),
    )["ribosome"]
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
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand((1, 7, 12, 12, 12), generator=generator)
    probability = functional.interpolate(noise, scale_factor=3, mode="trilinear")[0].mul(8).softmax(dim=0)
    options = {
        "method": method,
        "particles": PARTICLES,
        "trained_radius_fraction": fraction,
        "hyperparameters": defaults(method),
    }
    coarse = detect(probability, voxel_spacing_angstrom=10.0, map_stride=2, **options)
    large = detect(probability, voxel_spacing_angstrom=20.0, **options)
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
        probability = torch.zeros(7, *cells.shape)
        probability[5] = cells
        found = detect(
            probability,
            method=method,
            particles=PARTICLES,
            voxel_spacing_angstrom=spacing,
            trained_radius_fraction=0.5,
            hyperparameters=defaults(method),
            map_stride=2,
        )["thyroglobulin"]
        assert len(found) == 1
        errors.append(found.coordinates_zyx[0] - centre)
    assert np.abs(errors).max() < 0.4 and np.abs(np.mean(errors, axis=0)).max() < 0.2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(40, 48, 44), (41, 47, 43)])
@pytest.mark.parametrize("centre", [(20.0, 22.0, 24.0), (20.5, 22.5, 23.5), (19.3, 23.8, 21.6), (20.1, 24.75, 22.4)])
def test_a_blob_on_a_coarse_map_is_found_to_a_fraction_of_a_voxel(method, shape, centre):
    z, y, x = np.ogrid[tuple(slice(side) for side in shape)]
    squared = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
    blob = torch.from_numpy(np.exp(-squared / (2 * 6.0**2)).astype(np.float32))
    probability = torch.zeros(7, *(-(-side // 2) for side in shape))
    probability[4] = functional.avg_pool3d(blob[None], 2, ceil_mode=True)[0]
    found = detect(
        probability,
        method=method,
        particles=PARTICLES,
        voxel_spacing_angstrom=10.0,
        trained_radius_fraction=0.5,
        hyperparameters=defaults(method),
        map_stride=2,
    )["ribosome"]
    # A centroid counts whole cells, a vertex weighs them.
    tolerance = 0.1 if method == "peak_local_max_gpu" else 0.25
    assert len(found) == 1 and np.abs(found.coordinates_zyx[0] - centre).max() < tolerance
