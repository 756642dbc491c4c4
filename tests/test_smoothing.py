"""Smoothing: as scipy does it, and the same in every box."""

import numpy as np
import pytest
import torch
from blobs import blobs, whole
from scipy.ndimage import correlate1d

from postprocessing.smoothing import common, gaussian_weights, grown, smooth


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


def test_boxes_grow_to_the_border():
    assert grown((slice(2, 5), slice(0, 3), slice(1, 9)), 3, (10, 4, 9)) == (slice(0, 8), slice(0, 4), slice(0, 9))


def test_common_voxels_of_two_boxes():
    box, other = (slice(2, 5), slice(0, 3), slice(1, 9)), (slice(0, 4), slice(1, 2), slice(5, 20))
    assert common(box, other) == (slice(2, 4), slice(1, 2), slice(5, 9))
