"""Means over balls against distances to every voxel."""

import pytest
import torch

from postprocessing.ball_means import BallMeans

GENERATOR = torch.Generator().manual_seed(0)


def by_distance(voxels, radius, centres):
    inside = torch.cdist(centres.double(), voxels.double(), compute_mode="donot_use_mm_for_euclid_dist") <= radius
    number = inside.sum(1)
    return inside.double() @ voxels.double() / number[:, None], number


@pytest.mark.parametrize("radius", [0.4, 1.0, 1.7, 3.0, 5.2, 40.0])
def test_as_by_distance_to_the_last_bit(radius):
    voxels = (torch.rand((16, 20, 150), generator=GENERATOR) < 0.2).nonzero() + 7
    between = 7 + torch.rand((200, 3), generator=GENERATOR, dtype=torch.float64) * torch.tensor([15, 19, 149])
    for centres in (voxels[::10], between):
        means, number = BallMeans(voxels, radius)(centres)
        expected, expected_number = by_distance(voxels, radius, centres)
        assert torch.equal(number, expected_number)
        assert torch.equal(means.nan_to_num(-1), expected.nan_to_num(-1))


def test_the_radius_itself_is_inside():
    voxels = torch.tensor([[0, 0, 0], [0, 0, 3], [0, 4, 0]])
    assert BallMeans(voxels, 5.0)(voxels)[1].tolist() == [3, 3, 3]
    assert BallMeans(voxels, 4.99)(voxels)[1].tolist() == [3, 2, 2]
    thirds = torch.tensor([[0.0, 0.0, 0.1 * 3]], dtype=torch.float64)
    assert BallMeans(voxels, 0.3)(thirds)[1].tolist() == [1]  # 0.1 * 3 > 0.3


def test_nothing_around_is_no_mean():
    means, number = BallMeans(torch.tensor([[0, 0, 0], [9, 0, 9]]), 2.0)(torch.tensor([[5.0, 0.0, 5.0]]).double())
    assert number.tolist() == [0] and means.isnan().all()


def test_places_far_from_the_origin_and_far_apart():
    voxels = torch.tensor([[3, 500, 2], [3, 500, 3], [3, 501, 600], [90, 4, 601]])
    means, number = BallMeans(voxels, 2.0)(voxels)
    assert number.tolist() == [2, 2, 1, 1]
    assert means.tolist() == [[3, 500, 2.5], [3, 500, 2.5], [3, 501, 600], [90, 4, 601]]


def test_sums_of_a_very_large_ball_do_not_overflow():
    voxels = torch.stack([torch.zeros(700).long(), torch.zeros(700).long(), torch.arange(700)], dim=1)
    means, number = BallMeans(voxels, 400.0)(voxels[:1])
    assert number.tolist() == [401] and means.tolist() == [[0, 0, 200]]
