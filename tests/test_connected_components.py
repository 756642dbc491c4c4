"""Components on hand-drawn maps."""

import numpy as np
import pytest
import torch
from one_class import find

OPTIONS = {
    "radius_voxels": 6.0,
    "trained_radius_voxels": 2.0,
    "conf_threshold": 0.5,
    "vol_frac_threshold": 0.0,
    "nms_radius_fraction": 0.0,
}


def run(volume, **changes):
    return find(volume, "cc3d", **{**OPTIONS, **changes})


def test_empty_map():
    assert run(torch.zeros(5, 5, 5)).coordinates_zyx.shape == (0, 3)


def test_one_voxel():
    volume = torch.zeros(5, 6, 7)
    volume[1, 2, 6] = 0.8
    found = run(volume)
    assert found.coordinates_zyx.tolist() == [[1, 2, 6]] and found.scores.tolist() == [pytest.approx(0.8)]


def test_touching_at_a_corner_is_one_component():
    volume = torch.zeros(6, 6, 6)
    volume[1:3, 1:3, 1:3] = volume[3:5, 3:5, 3:5] = 0.9
    found = run(volume)
    assert found.coordinates_zyx.tolist() == [[2.5, 2.5, 2.5]]


def test_confidence_threshold_is_obeyed_and_exclusive():
    volume = torch.zeros(6, 6, 6)
    volume[1, 1, 1], volume[4, 4, 4] = 0.5, 0.51
    assert run(volume).coordinates_zyx.tolist() == [[4, 4, 4]]
    assert len(run(volume, conf_threshold=0.4)) == 2


def test_small_components_go():
    volume = torch.zeros(10, 10, 10)
    volume[1, 1, 1] = 1.0
    volume[4:7, 4:7, 4:7] = 1.0  # 27 voxels; the trained sphere has 33.5
    assert run(volume, vol_frac_threshold=0.8).coordinates_zyx.tolist() == [[5, 5, 5]]
    assert len(run(volume, vol_frac_threshold=0.81)) == 0


def test_suppression_keeps_the_surer_one():
    volume = torch.zeros(5, 5, 12)
    volume[2, 2, 2], volume[2, 2, 6] = 0.6, 0.9
    found = run(volume, nms_radius_fraction=1.0)
    assert np.array_equal(found.coordinates_zyx, [[2, 2, 6]])
