"""Lists of voxels: places, neighbours, components as cc3d finds them, distances as scipy does."""

import cc3d
import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from postprocessing.voxel_list import connected_components, squared_distances, voxels_above, voxels_where


def random_masks():
    rng = np.random.default_rng(0)
    for shape in [(1, 1, 1), (1, 7, 9), (6, 1, 5), (5, 8, 1), (9, 11, 13), (20, 17, 23)]:
        for share in (0.05, 0.3, 0.6, 0.95):
            mask = rng.random(shape) < share
            if mask.any():
                yield mask
    corner = np.indices((14, 15, 16)).sum(0)
    yield (corner % 9 < 6) & (corner > 3)


def on_grid(voxels, values):
    grid = torch.zeros(voxels.shape_zyx, dtype=values.dtype)
    grid[tuple(voxels.coordinates_zyx().T)] = values
    return grid.numpy()


@pytest.mark.parametrize("mask", list(random_masks()), ids=lambda mask: f"{mask.shape}-{mask.sum()}")
class TestAgreement:
    def test_coordinates_are_those_of_the_mask_in_order(self, mask):
        voxels = voxels_where(torch.from_numpy(mask))
        assert np.array_equal(voxels.coordinates_zyx().numpy(), np.argwhere(mask))
        assert (voxels.places.diff() > 0).all()
        assert torch.equal(voxels.index_of(voxels.places), torch.arange(len(voxels)))

    def test_neighbours(self, mask):
        voxels = voxels_where(torch.from_numpy(mask))
        index = np.full(mask.shape, len(voxels))
        index[mask] = np.arange(len(voxels))
        index = np.pad(index, 1, constant_values=len(voxels) + 1)
        for axis in range(3):
            for step, ours in zip((-1, 1), voxels.neighbours(axis), strict=True):
                theirs = np.roll(index, -step, axis)[1:-1, 1:-1, 1:-1][mask]
                assert np.array_equal(ours.numpy(), theirs)

    def test_components_are_those_of_cc3d(self, mask):
        voxels = voxels_where(torch.from_numpy(mask))
        labels, count = connected_components(voxels)
        theirs, their_count = cc3d.connected_components(mask, connectivity=26, return_N=True)
        assert count == their_count
        pairs = np.unique(np.stack([labels.numpy(), theirs[mask]]), axis=1)
        assert pairs.shape[1] == count
        first_voxels = [int((labels == label).nonzero()[0]) for label in range(count)]
        assert first_voxels == sorted(first_voxels)

    def test_distances_are_those_of_scipy(self, mask):
        voxels = voxels_where(torch.from_numpy(mask))
        ours = squared_distances(voxels, 100)
        if mask.all():  # no background: scipy has no answer
            assert (ours == 100**2).all()
            return
        theirs = np.rint(distance_transform_edt(mask) ** 2)
        assert np.array_equal(on_grid(voxels, ours), theirs)
        bounded = squared_distances(voxels, 2)
        assert np.array_equal(on_grid(voxels, bounded), np.minimum(theirs, 4))


@pytest.mark.parametrize("shape", [(3, 4, 5), (4, 8, 16), (7, 11, 13)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_voxels_above_are_all_of_them_in_order(shape, dtype):
    volume = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(voxels_above(volume, 0.7).coordinates_zyx(), (volume > 0.7).nonzero())


def test_an_empty_mask():
    voxels = voxels_where(torch.zeros(3, 4, 5, dtype=torch.bool))
    assert len(voxels) == 0 and voxels.coordinates_zyx().shape == (0, 3)


def test_a_spiral_is_one_component():
    """Many rounds of joining, against the order of the runs."""
    mask = torch.zeros(1, 41, 41, dtype=torch.bool)
    y, x, dy, dx = 20, 20, 0, 1
    for length in range(2, 40, 2):
        for _ in range(2):
            for _ in range(length):
                mask[0, y, x] = True
                y, x = y + dy, x + dx
            dy, dx = dx, -dy
    _, count = connected_components(voxels_where(mask.narrow(1, 0, 40)))
    assert count == cc3d.connected_components(mask[:, :40].numpy(), connectivity=26, return_N=True)[1] == 1
