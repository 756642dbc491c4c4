"""The voxels of a class: all of them in order, their components, and what is said of parts of them."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from postprocessing.class_voxels import class_components, voxels_above


@pytest.mark.parametrize("shape", [(3, 4, 5), (4, 8, 16), (7, 11, 13), (1, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_voxels_above_are_all_of_them_in_order(shape, dtype):
    volume = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    for threshold in (0.0, 0.7, 1.0):
        assert torch.equal(voxels_above(volume, threshold), (volume > threshold).nonzero())


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 9), (6, 1, 5), (9, 11, 13)])
def test_components_and_statistics_are_those_of_scipy(shape, share):
    rng = np.random.default_rng(0)
    volume = np.where(rng.random(shape) < share, rng.uniform(0.5001, 1, shape), 0.1)
    mask = volume > 0.5
    components = class_components(torch.from_numpy(volume), 0.5)
    if not mask.any():
        assert components is None
        return
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    found, numbers = components.statistics(), range(1, count + 1)
    theirs = np.array(ndimage.center_of_mass(mask, labels, numbers))
    order, their_order = np.lexsort(found.coordinates_zyx.T), np.lexsort(theirs.T)
    np.testing.assert_allclose(found.coordinates_zyx[order], theirs[their_order])
    np.testing.assert_allclose(found.scores[order], np.array(ndimage.mean(volume, labels, numbers))[their_order])
    assert found.sizes[order].tolist() == np.bincount(labels.ravel())[1:][their_order].tolist()
    box = tuple(slice(a, a + side) for a, side in zip(components.origin_zyx, components.labels.shape, strict=True))
    assert np.array_equal(components.labels > 0, mask[box])
