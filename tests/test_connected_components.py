"""Components on hand-drawn maps, and against cc3d on the whole map."""

import cc3d
import numpy as np
import pytest
import torch
from one_class import find

from postprocessing.connected_components import candidates

OPTIONS = {
    "radius_voxels": 6.0,
    "trained_radius_voxels": 2.0,
    "conf_threshold": 0.5,
    "vol_frac_threshold": 0.0,
    "nms_radius_fraction": 0.0,
}


def run(volume, **changes):
    return find(volume, "cc3d", **{**OPTIONS, **changes})


@pytest.mark.parametrize("shape", [(20, 30, 40), (1, 9, 70), (7, 11, 13)])
@pytest.mark.parametrize("conf_threshold", [0.5, 0.7, 0.95])
def test_components_are_those_of_cc3d_on_the_whole_map(shape, conf_threshold):
    """The same partition: number, sizes and centroids, and the mean probability within each."""
    values = np.random.default_rng(0).random(shape, dtype=np.float32) ** 0.3
    values[:, : shape[1] // 4] = 0  # the class does not fill the volume
    labels = cc3d.connected_components(values > conf_threshold, connectivity=26)
    theirs = cc3d.statistics(labels)
    found = candidates(torch.from_numpy(values), trained_radius_voxels=2.0, conf_threshold=conf_threshold)
    assert np.array_equal(found.sizes, theirs["voxel_counts"][1:])
    assert found.coordinates_zyx == pytest.approx(theirs["centroids"][1:], abs=1e-9)
    sums = np.bincount(labels.ravel(), weights=values.ravel().astype(float))[1:]
    assert found.scores == pytest.approx(sums / found.sizes, abs=1e-12)


def test_one_voxel():
    volume = torch.zeros(5, 6, 7)
    volume[1, 2, 6] = 0.8
    found = run(volume)
    assert found.coordinates_zyx.tolist() == [[1, 2, 6]] and found.scores.tolist() == [pytest.approx(0.8)]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_two_voxels_with_one_between(axis):
    volume = torch.zeros(7, 7, 7)
    first, second = [3, 3, 3], [3, 3, 3]
    second[axis] = 5
    volume[tuple(first)], volume[tuple(second)] = 0.9, 0.8
    assert run(volume).coordinates_zyx.tolist() == [first, second]


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
