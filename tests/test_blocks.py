"""Blocks of a smoothed map: no voxel that reaches the level is left out, and regions lie apart."""

import numpy as np
import pytest
import torch
from blobs import blobs, whole

from postprocessing import blocks
from postprocessing.blocks import blocks_that_reach, coarse_maxima
from postprocessing.smoothing import gaussian_weights, smooth


def covered(found, shape):
    inside = torch.zeros(shape, dtype=torch.bool)
    for block in found:
        inside[block.box] = True
    return inside


@pytest.mark.parametrize("sigma", [0.5, 1.2, 3.0])
@pytest.mark.parametrize("level", [0.03, 0.1, 0.4])
def test_blocks_hold_all_that_reaches_the_level(sigma, level):
    volume, weights = blobs((30, 34, 50)), gaussian_weights(sigma)
    inside = covered(blocks_that_reach(volume, weights, level, 1), volume.shape)
    assert inside[smooth(volume, weights, whole(volume)) >= level].all()
    assert inside.float().mean() < 0.9


@pytest.mark.parametrize("sigma", [0.5, 1.2])
def test_a_lone_voxel_is_found_wherever_it_lies_in_its_coarse_voxel(sigma):
    weights = gaussian_weights(sigma)
    for place in np.ndindex(4, 4, 4):
        volume = torch.zeros(12, 12, 12)
        volume[tuple(4 + step for step in place)] = 1.0
        smoothed = smooth(volume, weights, whole(volume))
        for share in (1.0, 0.3, 0.01):
            level = share * float(smoothed.max())
            assert covered(blocks_that_reach(volume, weights, level, 1), volume.shape)[smoothed >= level].all()


def test_nothing_reaches_a_level_in_an_empty_map():
    assert blocks_that_reach(torch.zeros(5, 6, 7), gaussian_weights(1.0), 1e-9, 1) == []


def test_coarse_voxels_hold_their_maxima():
    volume = blobs((9, 10, 11))
    maxima = coarse_maxima(volume, 4)
    assert maxima.shape == (3, 3, 3)
    for index in np.ndindex(3, 3, 3):
        assert maxima[index] == volume[tuple(slice(4 * i, 4 * i + 4) for i in index)].max()


@pytest.mark.parametrize("distance_voxels", [1, 4, 7])
@pytest.mark.parametrize("axis", range(3))
def test_what_lies_within_the_distance_is_one_region(axis, distance_voxels):
    weights = gaussian_weights(0.5)
    for start in range(8):
        for gap in (1, 2, distance_voxels, 3 * max(4, distance_voxels)):
            volume = torch.zeros(40, 40, 40).narrow((axis + 1) % 3, 0, 6).contiguous()
            for place in (start, start + gap):
                volume.select(axis, place)[2:4, 2] = 1.0
            level = 0.9 * float(smooth(volume, weights, whole(volume)).max())
            found = blocks_that_reach(volume, weights, level, distance_voxels)
            assert len({str(one.region) for one in found}) == 1 + (gap > 2 * max(4, distance_voxels))


def test_large_regions_come_in_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_SIDE", 2)
    volume, weights = torch.ones(9, 17, 30), gaussian_weights(0.5)
    found = blocks_that_reach(volume, weights, 0.01, 1)
    assert all(one.region == whole(volume) for one in found) and len(found) == 2 * 3 * 4
    times = torch.zeros(volume.shape)
    for one in found:
        times[one.box] += 1
    assert (times == 1).all()
