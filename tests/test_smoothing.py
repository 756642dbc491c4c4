"""Smoothing by boxes: the same everywhere, and no voxel that matters is left out."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from postprocessing.smoothing import boxes_that_reach, cell_maxima, gaussian_weights, grown, smooth


def blobs(shape, seed=0, count=5):
    rng = np.random.default_rng(seed)
    volume = 0.005 * rng.random(shape)
    for _ in range(count):
        low = rng.integers(0, np.subtract(shape, 3))
        volume[tuple(slice(a, a + 3) for a in low)] = rng.random()
    return torch.from_numpy(volume).float()


def covered(boxes, shape):
    inside = torch.zeros(shape, dtype=torch.bool)
    for box in boxes:
        inside[box] = True
    return inside


def whole(volume):
    return tuple(slice(0, side) for side in volume.shape)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.7])
def test_weights_are_a_symmetric_average(sigma):
    weights = gaussian_weights(sigma)
    assert sum(weights) == pytest.approx(1.0) and weights == weights[::-1]
    assert weights[len(weights) // 2] / weights[len(weights) // 2 + 1] == pytest.approx(np.exp(0.5 / sigma**2))


@pytest.mark.parametrize("shape", [(9, 10, 11), (3, 20, 1)])
def test_smoothing_is_that_of_scipy(shape):
    volume, weights = blobs((12, 12, 12))[: shape[0], : shape[1], : shape[2]], gaussian_weights(1.3)
    expected = volume.double().numpy()
    for axis in range(3):
        expected = correlate1d(expected, weights, axis, mode="constant")
    assert np.abs(smooth(volume, weights, whole(volume)).numpy() - expected).max() < 1e-6


def test_a_box_is_cut_from_the_whole_to_the_last_bit():
    volume, weights = blobs((17, 19, 23)), gaussian_weights(1.7)
    everything = smooth(volume, weights, whole(volume))
    for low, high in [((0, 0, 0), (4, 5, 6)), ((3, 7, 2), (4, 19, 21)), ((10, 0, 13), (17, 1, 23))]:
        box = tuple(map(slice, low, high))
        assert torch.equal(smooth(volume, weights, box), everything[box])


@pytest.mark.parametrize("sigma", [0.5, 1.2, 3.0])
@pytest.mark.parametrize("level", [0.03, 0.1, 0.4])
def test_boxes_hold_all_that_reaches_the_level(sigma, level):
    volume, weights = blobs((30, 34, 50)), gaussian_weights(sigma)
    inside = covered(boxes_that_reach(volume, weights, level), volume.shape)
    assert inside[smooth(volume, weights, whole(volume)) >= level].all()
    assert inside.float().mean() < 0.9


@pytest.mark.parametrize("sigma", [0.5, 1.2])
def test_a_lone_voxel_is_found_at_every_place_of_its_cell(sigma):
    weights = gaussian_weights(sigma)
    for place in np.ndindex(4, 4, 4):
        volume = torch.zeros(12, 12, 12)
        volume[tuple(4 + step for step in place)] = 1.0
        smoothed = smooth(volume, weights, whole(volume))
        for share in (1.0, 0.3, 0.01):
            level = share * float(smoothed.max())
            assert covered(boxes_that_reach(volume, weights, level), volume.shape)[smoothed >= level].all()


def test_nothing_reaches_a_level_in_an_empty_map():
    assert boxes_that_reach(torch.zeros(5, 6, 7), gaussian_weights(1.0), 1e-9) == []


def test_cells_hold_their_maxima():
    volume = blobs((9, 10, 11))
    cells = cell_maxima(volume, 4)
    assert cells.shape == (3, 3, 3)
    for index in np.ndindex(3, 3, 3):
        assert cells[index] == volume[tuple(slice(4 * i, 4 * i + 4) for i in index)].max()


def test_boxes_grow_to_the_border():
    assert grown((slice(2, 5), slice(0, 3), slice(1, 9)), 3, (10, 4, 9)) == (slice(0, 8), slice(0, 4), slice(0, 9))
