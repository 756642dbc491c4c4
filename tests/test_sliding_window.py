"""Windows: cover everything, add up to the whole, do not depend on how they are batched or how coarse they answer."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional

from inference.sliding_window import BLEND_MODES, count_windows, sliding_window, window_corners
from particle_config import PARTICLES
from postprocessing import detect
from tta.orientations import ORIENTATIONS

OPTIONS = {"overlap": 0.25, "blend_mode": "gaussian", "batch_size": 1}


def channels(batch):
    """A voxelwise predictor with two channels."""
    return torch.cat((batch, -batch), dim=1)


def pool(volume, stride):
    """Mean of each cell of (..., Z, Y, X); the last of an odd side sees the volume mirrored."""
    missing = [added for side in reversed(volume.shape[-3:]) for added in (0, -side % stride)]
    return functional.avg_pool3d(functional.pad(volume, missing, mode="reflect"), stride)


@pytest.fixture
def raw_windows(monkeypatch):
    """Windows reach the network as they are: what it answers does not depend on where they are cut."""
    monkeypatch.setattr("inference.sliding_window.standardize", lambda window: window)


@pytest.mark.parametrize(("side", "window", "overlap"), [(10, 10, 0.5), (11, 10, 0.5), (100, 16, 0.25), (37, 8, 0.0)])
def test_windows_cover_the_volume_with_the_overlap_and_stay_inside(side, window, overlap):
    starts = sorted({corner[0] for corner in window_corners((side, 4, 4), (window, 4, 4), overlap)})
    assert starts[0] == 0 and starts[-1] == side - window
    assert all(b - a <= window * (1 - overlap) for a, b in itertools.pairwise(starts))


def test_no_more_windows_than_needed():
    assert len(list(window_corners((64, 64, 64), (64, 64, 64), 0.5))) == 1
    assert len(list(window_corners((96, 64, 64), (64, 64, 64), 0.5))) == 2


@pytest.mark.parametrize("blend_mode", BLEND_MODES)
@pytest.mark.parametrize("shape", [(16, 16, 16), (17, 23, 40), (5, 9, 30), (1, 16, 16)])
def test_a_constant_prediction_stays_constant(shape, blend_mode):
    result = sliding_window(
        torch.randn(shape),
        lambda batch: torch.full((len(batch), 2, *batch.shape[-3:]), 0.3),
        window_zyx=(16, 16, 16),
        **{**OPTIONS, "blend_mode": blend_mode},
    )
    assert result.shape == (2, *shape) and torch.allclose(result, torch.full_like(result, 0.3), atol=1e-6)


def test_one_window_is_the_z_scored_volume():
    volume = torch.randn(8, 8, 8) * 3 + 7
    result = sliding_window(volume, channels, window_zyx=(8, 8, 8), **OPTIONS)
    expected = (volume - volume.mean()) / (volume.std(correction=0) + 1e-6)
    assert torch.allclose(result[0], expected, atol=1e-5)
    assert torch.allclose(result[1], -expected, atol=1e-5)


def test_views_of_a_voxelwise_predictor_change_nothing():
    volume = torch.randn(20, 24, 28)
    plain = sliding_window(volume, channels, window_zyx=(16, 16, 16), **OPTIONS)
    augmented = sliding_window(volume, channels, window_zyx=(16, 16, 16), views=ORIENTATIONS["d2h"], **OPTIONS)
    assert torch.allclose(plain, augmented, atol=1e-5)


def test_views_are_averaged_and_turned_back():
    """A predictor that answers with the place along x: over all flips the mean is the middle."""

    def place(batch):
        return torch.arange(8.0).expand(len(batch), 1, 8, 8, 8)

    result = sliding_window(torch.randn(8, 8, 8), place, window_zyx=(8, 8, 8), views=ORIENTATIONS["d2h"], **OPTIONS)
    assert torch.allclose(result, torch.full_like(result, 3.5))


@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_result_does_not_depend_on_the_batch_size(batch_size):
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 2, 3, padding=1)
    volume = torch.randn(20, 20, 20)

    def run(size):
        with torch.no_grad():
            return sliding_window(
                volume,
                network,
                window_zyx=(16, 16, 16),
                views=ORIENTATIONS["d2h"],
                **{**OPTIONS, "batch_size": size},
            )

    assert torch.allclose(run(1), run(batch_size), atol=1e-5)


def test_padding_is_cut_off_where_it_was_put_on():
    volume = torch.zeros(6, 16, 16)
    volume[2, 3, 4] = 100.0
    result = sliding_window(volume, channels, window_zyx=(16, 16, 16), **OPTIONS)[0]
    assert np.unravel_index(int(result.argmax()), result.shape) == (2, 3, 4)


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize(("side", "window", "overlap"), [(12, 12, 0.5), (44, 12, 0.5), (100, 16, 0.25), (40, 8, 0.0)])
def test_windows_begin_at_whole_cells(stride, side, window, overlap):
    starts = sorted({corner[0] for corner in window_corners((side, 4, 4), (window, 4, 4), overlap, stride)})
    assert not any(start % stride for start in starts)
    assert starts[0] == 0 and starts[-1] == side - window
    assert all(b - a <= window * (1 - overlap) for a, b in itertools.pairwise(starts))


@pytest.mark.parametrize("blend_mode", BLEND_MODES)
@pytest.mark.parametrize("views", ORIENTATIONS)
@pytest.mark.parametrize("shape", [(16, 16, 16), (20, 24, 28), (17, 23, 40), (16, 17, 21), (9, 16, 37)])
def test_pooling_windows_is_pooling_the_volume(shape, views, blend_mode, raw_windows):
    """Shorter than the window, odd, and both at once; d2h shows that views are turned back onto their cells."""
    volume = torch.randn(shape)
    result = sliding_window(
        volume,
        lambda batch: pool(channels(batch), 2),
        window_zyx=(16, 16, 16),
        views=ORIENTATIONS[views],
        output_stride=2,
        **{**OPTIONS, "blend_mode": blend_mode, "batch_size": 3},
    )
    expected = pool(channels(volume[None, None]), 2)[0]
    assert result.shape == expected.shape and torch.allclose(result, expected, atol=1e-5)


def test_the_coarse_map_is_the_pooled_fine_map():
    """Z-scored per window as in earnest: the same windows on either grid, so the same map."""
    volume, options = torch.randn(32, 48, 32), {**OPTIONS, "window_zyx": (16, 16, 16), "overlap": 0.0}
    fine = sliding_window(volume, channels, **options)
    coarse = sliding_window(volume, lambda batch: pool(channels(batch), 2), output_stride=2, **options)
    assert torch.allclose(coarse, pool(fine[None], 2)[0], atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(20, 16, 40), (21, 15, 41), (5, 40, 31)])
def test_windows_are_counted_before_they_are_seen(shape, stride):
    done = []
    sliding_window(
        torch.randn(shape),
        lambda batch: pool(batch, stride),
        window_zyx=(16, 16, 16),
        output_stride=stride,
        progress=done.append,
        **OPTIONS,
    )
    assert sum(done) == count_windows(shape, (16, 16, 16), 0.25, stride)


def test_a_coarse_cell_weighs_what_its_centre_weighs():
    """Two overlapping windows that answer differently: the seam runs along the Gaussian at the cells' centres."""
    answers = iter((0.0, 1.0))
    result = sliding_window(
        torch.randn(8, 8, 12),
        lambda batch: torch.full((1, 1, 4, 4, 4), next(answers)),
        window_zyx=(8, 8, 8),
        output_stride=2,
        **{**OPTIONS, "overlap": 0.5},
    )
    centres = np.array([4.5, 6.5])  # in voxels, of the two cells that both windows cover
    first, second = (np.exp(-0.5 * ((centres - start - 3.5) / 2.0) ** 2) for start in (0, 4))
    assert result[0, 2, 2].tolist() == pytest.approx([0, 0, *(second / (first + second)), 1, 1], abs=1e-6)


@pytest.mark.parametrize("shape", [(24, 26, 40), (25, 27, 41), (15, 26, 41)])
@pytest.mark.parametrize("centre", [(11.0, 12.0, 17.0), (10.5, 11.5, 17.5), (11.3, 12.8, 16.6), (10.1, 13.7, 18.25)])
def test_a_blob_is_found_where_it_was_put(shape, centre, raw_windows):
    """Through a network of stride 2, windows, views and detection: the half voxel is neither lost nor added."""
    if shape[0] == 15:
        centre = (centre[0] - 3, *centre[1:])
    z, y, x = np.ogrid[tuple(slice(side) for side in shape)]
    squared = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
    particle = next(particle for particle in PARTICLES if particle.name == "apo-ferritin")
    probability = sliding_window(
        torch.from_numpy(np.exp(-squared / (2 * 3.0**2)).astype(np.float32)),
        lambda batch: pool(torch.cat((1 - batch, batch), dim=1), 2),
        window_zyx=(16, 16, 16),
        views=ORIENTATIONS["d2h"],
        output_stride=2,
        **OPTIONS,
    )
    found = detect(
        probability,
        method="peak_local_max_gpu",
        particles=[particle],
        voxel_spacing_angstrom=10.0,
        trained_radius_fraction=0.5,
        hyperparameters={particle.name: {"peak_threshold": 0.1, "nms_radius_fraction": 0.8}},
        map_stride=2,
    )[particle.name]
    assert len(found) == 1
    assert np.abs(found.coordinates_zyx[0] - centre).max() < 0.1


def test_windows_that_are_not_whole_cells_and_answers_on_another_grid_are_refused():
    with pytest.raises(ValueError, match="multiples of 2"):
        sliding_window(torch.zeros(8, 8, 8), channels, window_zyx=(8, 8, 7), output_stride=2, **OPTIONS)
    with pytest.raises(ValueError, match="answered"):
        sliding_window(torch.zeros(8, 8, 8), channels, window_zyx=(8, 8, 8), output_stride=2, **OPTIONS)
