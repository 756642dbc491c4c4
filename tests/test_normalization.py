"""Percentile clipping and z-scores."""

import numpy as np
import pytest
import torch

from data.normalization import clip_to_percentiles, in_float32_range, standardize
from errors import InputError


def test_clip_maps_the_percentiles_to_0_and_1():
    volume = np.arange(101, dtype=np.float32).reshape(1, 1, 101) * 1e-5
    clipped = clip_to_percentiles(volume, 10, 90)
    assert clipped.dtype == np.float32
    assert clipped[0, 0, :11].max() == 0 and clipped[0, 0, 90:].min() == 1
    assert clipped[0, 0, 50] == pytest.approx(0.5, abs=1e-5)


def test_constant_volume_becomes_zero():
    assert not clip_to_percentiles(np.full((2, 2, 2), 7.0), 0, 100).any()


@pytest.mark.parametrize("bounds", [(50, 50), (90, 10), (-1, 50), (5, 101)])
def test_percentiles_out_of_order_are_refused(bounds):
    with pytest.raises(InputError, match="percentiles"):
        clip_to_percentiles(np.zeros((2, 2, 2)), *bounds)


def test_each_patch_is_scored_by_itself():
    patches = torch.randn(3, 1, 4, 5, 6) * torch.tensor([1.0, 10.0, 100.0]).view(3, 1, 1, 1, 1) + 5
    together = standardize(patches)
    assert torch.allclose(together.mean(dim=(1, 2, 3, 4)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(together.std(dim=(1, 2, 3, 4), correction=0), torch.ones(3), atol=1e-4)
    for k in range(3):
        assert torch.equal(together[k : k + 1], standardize(patches[k : k + 1]))


@pytest.mark.parametrize("unit", [1e-9, 1e-5, 1e4])
def test_the_unit_of_the_grey_values_does_not_matter(unit):
    patches = torch.randn(2, 1, 6, 7, 8) - 0.3
    assert torch.allclose(standardize(patches * unit), standardize(patches), atol=1e-4)


@pytest.mark.parametrize("unit", [1e-44, 1e-30, 1e-12, 1e12, 1e30, 1e38])
def test_grey_values_that_float32_can_hardly_hold_are_normalised_as_others(unit):
    """Squares of 1e30 are infinite: a z-score would be 0 everywhere, and nothing would be found."""
    volume = np.random.default_rng(0).uniform(-3, 3, (6, 7, 8)).astype(np.float32)
    extreme = (volume.astype(np.float64) * unit).astype(np.float32)
    scored, usual = (standardize(torch.from_numpy(in_float32_range(one))[None, None]) for one in (extreme, volume))
    # Numbers below 1e-38 have few digits.
    assert torch.allclose(scored, usual, atol=0.1 if unit < 1e-38 else 1e-4)
    np.testing.assert_allclose(
        clip_to_percentiles(extreme, 1, 99), clip_to_percentiles(volume, 1, 99), atol=0.05 if unit < 1e-38 else 1e-5
    )


def test_usual_grey_values_stay_as_they_are():
    for value in (0.0, 1e-5, 3.0, 1e4):
        volume = np.full((2, 2, 2), value, dtype=np.float32)
        assert in_float32_range(volume) is volume


@pytest.mark.parametrize("value", [0.0, 3.0, -1e-5])
def test_constant_patch_becomes_zero(value):
    assert not standardize(torch.full((1, 1, 2, 2, 2), value)).any()


def test_what_rounding_leaves_of_a_constant_patch_stays_small():
    assert standardize(torch.full((1, 1, 48, 50, 52), 0.1)).abs().max() < 0.2
