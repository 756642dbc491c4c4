"""Islands of a smoothed map: no voxel that reaches the level is left out, and they lie apart."""

import numpy as np
import pytest
import torch
from blobs import blobs, whole

from postprocessing import islands
from postprocessing.islands import cell_maxima, islands_that_reach
from postprocessing.smoothing import gaussian_weights, smooth


def covered(parts, shape):
    inside = torch.zeros(shape, dtype=torch.bool)
    for part in parts:
        inside[part.box] = True
    return inside


@pytest.mark.parametrize("sigma", [0.5, 1.2, 3.0])
@pytest.mark.parametrize("level", [0.03, 0.1, 0.4])
def test_islands_hold_all_that_reaches_the_level(sigma, level):
    volume, weights = blobs((30, 34, 50)), gaussian_weights(sigma)
    inside = covered(islands_that_reach(volume, weights, level, 1), volume.shape)
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
            assert covered(islands_that_reach(volume, weights, level, 1), volume.shape)[smoothed >= level].all()


def test_nothing_reaches_a_level_in_an_empty_map():
    assert islands_that_reach(torch.zeros(5, 6, 7), gaussian_weights(1.0), 1e-9, 1) == []


def test_cells_hold_their_maxima():
    volume = blobs((9, 10, 11))
    cells = cell_maxima(volume, 4)
    assert cells.shape == (3, 3, 3)
    for index in np.ndindex(3, 3, 3):
        assert cells[index] == volume[tuple(slice(4 * i, 4 * i + 4) for i in index)].max()


@pytest.mark.parametrize("distance_voxels", [1, 4, 7])
@pytest.mark.parametrize("axis", range(3))
def test_what_lies_within_the_distance_is_one_island(axis, distance_voxels):
    weights = gaussian_weights(0.5)
    for start in range(8):
        for gap in (1, 2, distance_voxels, 3 * max(4, distance_voxels)):
            volume = torch.zeros(40, 40, 40).narrow((axis + 1) % 3, 0, 6).contiguous()
            for place in (start, start + gap):
                volume.select(axis, place)[2:4, 2] = 1.0
            level = 0.9 * float(smooth(volume, weights, whole(volume)).max())
            parts = islands_that_reach(volume, weights, level, distance_voxels)
            assert len({str(part.island) for part in parts}) == 1 + (gap > 2 * max(4, distance_voxels))


def test_large_islands_come_in_parts(monkeypatch):
    monkeypatch.setattr(islands, "PART_CELLS", 2)
    volume, weights = torch.ones(9, 17, 30), gaussian_weights(0.5)
    parts = islands_that_reach(volume, weights, 0.01, 1)
    assert all(part.island == whole(volume) for part in parts) and len(parts) == 2 * 3 * 4
    times = torch.zeros(volume.shape)
    for part in parts:
        times[part.box] += 1
    assert (times == 1).all()
