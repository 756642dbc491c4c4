"""Peaks on hand-drawn maps, and against scikit-image on the same smoothed map."""

import numpy as np
import pytest
import torch
from one_class import find
from skimage.feature import peak_local_max as skimage_peaks

from postprocessing.peak_local_max import gaussian_smooth, max_pool, parabola_offsets

OPTIONS = {"radius_voxels": 6.0, "trained_radius_voxels": 3.0, "peak_threshold": 0.1, "nms_radius_fraction": 0.8}


def run(volume, **changes):
    return find(volume, "peak_local_max_gpu", **{**OPTIONS, **changes})


def spheres(*centres, shape=(24, 28, 32), radius=3.0):
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    inside = np.zeros(shape, dtype=bool)
    for centre in centres:
        inside |= ((grid - np.array(centre)) ** 2).sum(-1) <= radius**2
    return torch.from_numpy(inside.astype(np.float32))


def test_empty_map():
    found = run(torch.zeros(8, 9, 10))
    assert found.coordinates_zyx.shape == (0, 3) and found.scores.shape == (0,)
    assert len(run(torch.zeros(0, 4, 4))) == 0


def test_sphere_centres_are_found_in_zyx_order():
    found = run(spheres((5, 9, 20), (16, 20, 8)))
    assert sorted(map(tuple, np.rint(found.coordinates_zyx))) == [(5, 9, 20), (16, 20, 8)]


def test_places_are_finer_than_a_voxel():
    grid = np.stack(np.meshgrid(*[np.arange(24)] * 3, indexing="ij"), -1)
    centre = np.array([11.3, 12.6, 10.8])
    blob = torch.from_numpy(np.exp(-((grid - centre) ** 2).sum(-1) / 18).astype(np.float32))
    found = run(blob)
    assert len(found) == 1 and np.abs(found.coordinates_zyx[0] - centre).max() < 0.05


def test_one_voxel_and_the_corner():
    volume = torch.zeros(12, 12, 12)
    volume[0, 0, 11] = 1.0
    found = run(volume, trained_radius_voxels=1.0, peak_threshold=0.01)
    assert np.abs(found.coordinates_zyx - [[0, 0, 11]]).max() <= 0.5


def test_a_plateau_gives_one_detection():
    volume = torch.zeros(20, 20, 20)
    volume[8:12, 8:12, 8:12] = 1.0
    assert len(run(volume)) == 1
    assert len(run(torch.ones(9, 9, 9), nms_radius_fraction=3.0)) == 1


def test_threshold_is_on_the_smoothed_map():
    volume = spheres((10, 10, 10))
    height = run(volume).scores[0]
    assert 0.5 < height < 1
    assert len(run(volume, peak_threshold=float(height) - 1e-4)) == 1
    assert len(run(volume, peak_threshold=float(height) + 1e-4)) == 0


def test_neighbours_within_the_suppression_radius_become_one():
    pair = spheres((10, 10, 8), (10, 10, 15), radius=2.0)
    assert len(run(pair)) == 2  # 7 voxels apart, 4.8 suppressed
    assert len(run(pair, nms_radius_fraction=1.2)) == 1


def test_same_peaks_as_scikit_image():
    rng = np.random.default_rng(1)
    volume = gaussian_smooth(torch.from_numpy(rng.random((20, 24, 28), dtype=np.float32)), 1.5)
    ours = ((volume == max_pool(volume, 2)) & (volume > 0.45)).nonzero().tolist()
    theirs = skimage_peaks(volume.numpy(), min_distance=2, threshold_abs=0.45, exclude_border=False)
    assert sorted(map(tuple, ours)) == sorted(map(tuple, theirs.tolist())) and len(ours) > 20


def test_smoothing_keeps_the_sum_and_is_symmetric():
    volume = torch.zeros(21, 21, 21)
    volume[10, 10, 10] = 1.0
    smoothed = gaussian_smooth(volume, 1.5)
    assert float(smoothed.sum()) == pytest.approx(1.0, abs=1e-5)
    assert torch.allclose(smoothed, smoothed.flip(0)) and torch.allclose(smoothed, smoothed.transpose(0, 2))


def test_parabola_is_exact_for_a_parabola():
    x = torch.arange(9.0)
    volume = (10 - (x - 4.3) ** 2)[None, None, :].expand(3, 3, 9).contiguous()
    offsets = parabola_offsets(volume, torch.tensor([[1, 1, 4]]))
    assert offsets[0, 2] == pytest.approx(0.3, abs=1e-5) and offsets[0, 0] == 0
