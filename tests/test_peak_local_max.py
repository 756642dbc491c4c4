"""Peaks on hand-drawn maps, and against scikit-image on the same smoothed map."""

import numpy as np
import pytest
import torch
from one_class import find
from skimage.feature import peak_local_max as skimage_peaks
from torch.nn import functional

from postprocessing import blocks, peak_local_max
from postprocessing.peak_local_max import filled_voxels, first_of_plateaus, parabola_offsets
from postprocessing.smoothing import gaussian_weights, smooth

OPTIONS = {"radius_voxels": 6.0, "trained_radius_voxels": 3.0, "peak_threshold": 0.1, "nms_radius_fraction": 0.8}


def run(volume, **changes):
    return find(volume, "peak_local_max_gpu", **{**OPTIONS, **changes})


def spheres(*centres, shape=(24, 28, 32), radius=3.0):
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    inside = np.zeros(shape, dtype=bool)
    for centre in centres:
        inside |= ((grid - np.array(centre)) ** 2).sum(-1) <= radius**2
    return torch.from_numpy(inside.astype(np.float32))


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


def whole(volume):
    return tuple(slice(0, side) for side in volume.shape)


def noise(shape, seed=0, sigma=1.2):
    """Bumps of every height, some at the border."""
    volume = torch.from_numpy(np.random.default_rng(seed).random(shape, dtype=np.float32))
    smoothed = smooth(volume, gaussian_weights(sigma), whole(volume))
    return ((smoothed - smoothed.min()) / (smoothed.max() - smoothed.min())) ** 3


@pytest.mark.parametrize("trained_radius_voxels", [1.0, 2.0, 4.0, 6.0])
@pytest.mark.parametrize("floor", [0.05, 0.3])
def test_same_peaks_as_scikit_image_on_the_smoothed_map(trained_radius_voxels, floor):
    """The same voxels and heights: a minimum distance is the half side of a cube there as well."""
    volume = noise((40, 60, 70))
    smoothed = smooth(volume, gaussian_weights(max(0.4 * trained_radius_voxels, 0.5)), whole(volume)).numpy()
    reach = max(1, int(trained_radius_voxels / 3**0.5))
    theirs = skimage_peaks(smoothed, min_distance=reach, threshold_abs=floor, exclude_border=False)
    ours = peak_local_max.candidates(volume, trained_radius_voxels=trained_radius_voxels, floor=floor)
    assert sorted(map(tuple, np.rint(ours.coordinates_zyx).astype(int))) == sorted(map(tuple, theirs))
    assert np.array_equal(np.sort(ours.scores), np.sort(smoothed[tuple(theirs.T)].astype(float))) and len(theirs) > 3


@pytest.mark.parametrize(("cell", "part"), [(3, 2), (4, 1), (5, 3), (4, 100)])
@pytest.mark.parametrize("trained_radius_voxels", [1.0, 6.0])
@pytest.mark.parametrize("floor", [0.2, 0.7])
def test_where_the_map_is_cut_makes_no_difference(monkeypatch, cell, part, trained_radius_voxels, floor):
    monkeypatch.setattr(blocks, "BLOCK_SIDE", part)
    monkeypatch.setattr(blocks, "MIN_SIDE_VOXELS", cell)
    volume = noise((25, 31, 38), sigma=1.5)
    volume[3:12, 5:16, 4:20] = 1.0  # stays even inside
    weights = gaussian_weights(max(0.4 * trained_radius_voxels, 0.5))
    reach = max(1, int(trained_radius_voxels / 3**0.5))
    everything = blocks.Block(whole(volume), whole(volume))
    expected = peak_local_max.peaks_in_block(volume, everything, weights, reach, floor).numpy()
    found = peak_local_max.candidates(volume, trained_radius_voxels=trained_radius_voxels, floor=floor)
    assert np.array_equal(found.scores, expected[:, 6]) and len(found) > 0
    assert np.array_equal(found.coordinates_zyx, expected[:, :3].astype(float) + expected[:, 3:6])


@pytest.mark.parametrize("start", range(4))
@pytest.mark.parametrize("axis", range(3))
def test_the_neighbours_of_a_peak_count_even_where_they_are_too_low(start, axis):
    """At a floor of nearly its height a peak is an island by itself, and yet refined by what lies beside it."""
    volume = torch.zeros(12, 12, 12)
    volume.select(axis, 4 + start)[6, 6], volume.select(axis, 5 + start)[6, 6] = 1.0, 0.5
    low, high = (
        peak_local_max.candidates(volume, trained_radius_voxels=1.0, floor=share * 0.5195) for share in (0.1, 1.0)
    )
    assert len(high) == 1 and np.array_equal(high.coordinates_zyx, low.coordinates_zyx)


def test_plateaus_begin_at_their_first_voxel():
    peaks = torch.zeros(6, 7, 8, dtype=torch.bool)
    peaks[1:4, 2:5, 3:6] = peaks[0, 0, 7] = peaks[5, 6, 0] = peaks[4, 5, 1] = True
    assert first_of_plateaus(peaks).nonzero().tolist() == [[0, 0, 7], [1, 2, 3], [4, 5, 1]]
    for step in np.ndindex(3, 3, 3):
        pair = torch.zeros(3, 3, 3, dtype=torch.bool)
        pair[1, 1, 1] = pair[step] = True
        assert first_of_plateaus(pair).nonzero().tolist() == [list(min(step, (1, 1, 1)))]


def test_an_even_map_is_one_peak():
    found = peak_local_max.candidates(torch.full((80, 90, 100), 0.5), trained_radius_voxels=3.0, floor=0.1)
    assert len(found) == 1


def test_sizes_are_voxels_above_half_of_the_peak_within_the_sphere():
    volume = spheres((10, 10, 10), (10, 10, 31), radius=3.0, shape=(20, 20, 32))
    volume[2, 2, 2] = 1.0
    whole_sphere = int(volume[5:16, 5:16, 5:16].sum())
    levels = torch.full((4,), 0.5)
    centres = torch.tensor([[10, 10, 10], [10, 10, 31], [2, 2, 2], [0, 0, 0]])
    assert filled_voxels(volume, centres, levels, 3.0).tolist() == [whole_sphere, (whole_sphere + 29) // 2, 1, 0]
    assert filled_voxels(volume, centres, levels + 0.5, 3.0).tolist() == [0, 0, 0, 0]
    assert filled_voxels(volume, centres, levels, 1.0).tolist() == [7, 6, 1, 0]
    assert run(spheres((10, 10, 10))).sizes.tolist() == [whole_sphere]


def test_parabola_is_exact_for_a_parabola():
    x = torch.arange(9.0)
    volume = (10 - (x - 4.3) ** 2)[None, None, :].expand(3, 3, 9).contiguous()
    volume = functional.pad(volume, [1] * 6, value=-torch.inf)
    offsets = parabola_offsets(volume, torch.tensor([[2, 2, 5], [1, 3, 5]]))
    assert offsets.numpy() == pytest.approx(np.array([[0, 0, 0.3], [0, 0, 0.3]]), abs=1e-5)
