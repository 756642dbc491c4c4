"""All methods together: classes do not disturb each other."""

import numpy as np
import pytest
import torch

from data.masks import make_mask
from evaluation.arguments import HYPERPARAMETERS
from particle_config import PARTICLES
from postprocessing import METHODS, detect


def defaults(method):
    values = {row.keyword: row.default for row in HYPERPARAMETERS if method in row.methods}
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
