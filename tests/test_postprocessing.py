"""All methods together: classes do not disturb each other."""

import pytest
import torch

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
