"""Windows: cover everything, add up to the whole, do not depend on how they are batched."""

import itertools

import numpy as np
import pytest
import torch

from inference.sliding_window import BLEND_MODES, sliding_window, window_corners
from tta.orientations import ORIENTATIONS

OPTIONS = {"overlap": 0.25, "blend_mode": "gaussian", "batch_size": 1}


def channels(batch):
    """A voxelwise predictor with two channels."""
    return torch.cat((batch, -batch), dim=1)


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


def test_progress_counts_every_window():
    done = []
    sliding_window(torch.randn(20, 16, 40), channels, window_zyx=(16, 16, 16), progress=done.append, **OPTIONS)
    assert sum(done) == len(list(window_corners((20, 16, 40), (16, 16, 16), 0.25)))
