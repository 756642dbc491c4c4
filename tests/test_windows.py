"""Windows: they cover everything, see the volume mirrored at its borders, and their weights add up to 1."""

import itertools

import numpy as np
import pytest
import torch

from inference.windows import BLEND_MODES, WindowGrid, count_windows, overlap_voxels

SIDES = [(10, 10, 5, 1), (11, 10, 5, 1), (100, 16, 4, 1), (37, 8, 0, 1), (44, 12, 6, 2), (101, 16, 5, 2), (40, 8, 3, 4)]


def grid_of(side, width, overlap, stride=1):
    return WindowGrid((side, 4, 4), (width, 4, 4), (overlap, 0, 0), stride)


@pytest.mark.parametrize(("side", "width", "overlap", "stride"), SIDES)
def test_windows_cover_the_volume_with_the_overlap_and_stay_inside(side, width, overlap, stride):
    spans = grid_of(side, width, overlap, stride).spans(0)
    assert len(spans) == count_windows(side, width, overlap, stride)
    assert spans[0].map_voxels.start == 0 and spans[-1].map_voxels.stop == -(-side // stride)
    assert all(
        (one.map_voxels.stop - other.map_voxels.start) * stride >= overlap for one, other in itertools.pairwise(spans)
    )
    for span in spans:
        assert span.voxels.stop - span.voxels.start + sum(span.mirrored) == width
        assert span.voxels.start % stride == 0 and span.voxels.start == span.map_voxels.start * stride
        assert span.inner == slice(0, width // stride)


def test_no_more_windows_than_needed():
    assert len(WindowGrid((64, 64, 64), (64, 64, 64), (32, 32, 32))) == 1
    assert len(WindowGrid((96, 64, 64), (64, 64, 64), (32, 32, 32))) == 2
    assert [count_windows(side, 32, 8) for side in (20, 32, 33, 56, 57, 100)] == [1, 1, 2, 2, 3, 4]


@pytest.mark.parametrize("blend_mode", BLEND_MODES)
@pytest.mark.parametrize(("side", "width", "overlap", "stride"), [*SIDES, (5, 16, 4, 1), (7, 16, 8, 2)])
def test_weights_of_a_cell_add_up_to_one(side, width, overlap, stride, blend_mode):
    grid = grid_of(side, width, overlap, stride)
    total = torch.zeros(grid.map_shape_zyx)
    z, y, x = grid.weights(blend_mode)
    for window in grid:
        k, j, i = window.index
        total[window.map_voxels] += z[k][:, None, None] * y[j][:, None] * x[i]
    torch.testing.assert_close(total, torch.ones_like(total))


def test_a_window_counts_less_towards_its_border_and_only_where_it_overlaps():
    """Two windows of 16 over 24: 8 in common, half and half in their middle, symmetric."""
    first, second = grid_of(24, 16, 8).weights("gaussian")[0]
    assert torch.equal(first, second.flip(0))
    assert first[:8].tolist() == [1] * 8 and (first[8:].diff() < 0).all()
    assert first[11].item() + first[12].item() == pytest.approx(1) and first[-1] < 2e-3
    # At 0.5 and 7.5 of the 8 voxels in common: missing 7.5 and 0.5 voxels of the flank, whose sigma is 2.
    low, high = np.exp(-0.5 * (np.array([7.5, 0.5]) / 2.0) ** 2)
    assert first[-1].item() == pytest.approx(low / (low + high), rel=1e-5)
    assert grid_of(24, 16, 8).weights("constant")[0][0].tolist() == [1] * 8 + [0.5] * 8


def test_a_coarse_cell_weighs_what_its_centre_weighs():
    fine, coarse = grid_of(96, 64, 32), grid_of(96, 64, 32, 2)
    expected = fine.weights("gaussian")[0][0].reshape(32, 2).mean(1)
    torch.testing.assert_close(coarse.weights("gaussian")[0][0], expected, atol=3e-3, rtol=0)


@pytest.mark.parametrize("shape", [(9, 12, 37), (16, 16, 16), (17, 23, 40)])
@pytest.mark.parametrize("stride", [1, 2])
def test_windows_see_the_volume_mirrored_about_its_last_voxel(shape, stride):
    volume = torch.randn(shape)
    for window in WindowGrid(shape, (16, 16, 16), (4, 4, 4), stride):
        index = []
        for span, side in zip(window.spans, shape, strict=True):
            place = np.arange(span.voxels.start - span.mirrored[0], span.voxels.stop + span.mirrored[1])
            index.append((side - 1) - np.abs((side - 1) - np.abs(place)))
        assert np.array_equal(window.cut(volume).numpy(), volume.numpy()[np.ix_(*index)])


def test_a_volume_too_thin_to_be_mirrored_repeats_its_border():
    [window] = WindowGrid((1, 16, 16), (16, 16, 16), (4, 4, 4))
    volume = torch.randn(1, 16, 16)
    assert torch.equal(window.cut(volume), volume.expand(16, -1, -1))


def test_windows_that_are_not_whole_cells_are_refused():
    with pytest.raises(ValueError, match="multiples of 2"):
        grid_of(8, 7, 0, 2)


def test_overlap_is_a_share_of_the_side_up_to_what_is_enough():
    assert overlap_voxels((64, 128, 630), 0.25) == (16, 32, 158)
    assert overlap_voxels((64, 128, 630), 0.25, 40) == (16, 32, 40)
    assert overlap_voxels((1, 8, 8), 0.99) == (0, 7, 7)
