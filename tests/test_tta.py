"""Views: undo(apply(x)) == x, groups are groups, and the wedge stays where it is."""

import numpy as np
import pytest
import torch

from tta.orientations import IDENTITY, ORIENTATIONS, Orientation
from tta.views import apply, undo

ALL = sorted({o for group in ORIENTATIONS.values() for o in group}, key=str)
TURN = Orientation((0, 2, 1), (False, True, False))


@pytest.mark.parametrize("orientation", [*ALL, TURN, Orientation((2, 0, 1), (True, False, True))], ids=str)
def test_undo_inverts_apply(orientation):
    volume = torch.randn(2, 3, 4, 5, 6)
    assert torch.equal(undo(apply(volume, orientation), orientation), volume)


def test_views_differ():
    volume = torch.randn(4, 4, 4)
    for name, group in ORIENTATIONS.items():
        views = {tuple(apply(volume, orientation).flatten().tolist()) for orientation in group}
        assert len(views) == len(group), name


def test_sizes():
    assert len(ORIENTATIONS["none"]) == 1 and len(ORIENTATIONS["d2h"]) == 8
    assert ORIENTATIONS["d2h"][0] == IDENTITY


def test_d2h_is_closed():
    volume = torch.randn(3, 3, 3)
    views = {tuple(apply(volume, o).flatten().tolist()) for o in ORIENTATIONS["d2h"]}
    products = {
        tuple(apply(apply(volume, a), b).flatten().tolist()) for a in ORIENTATIONS["d2h"] for b in ORIENTATIONS["d2h"]
    }
    assert products == views


def missing_wedge(size=33, degrees=60.0):
    """True where nothing was measured: |kz| > tan(range) |kx|, arrays (kz, ky, kx), zero frequency in the middle."""
    k = np.arange(size) - size // 2
    return torch.from_numpy(
        np.broadcast_to(np.abs(k)[:, None, None] > np.tan(np.radians(degrees)) * np.abs(k), (size, size, size)).copy()
    )


def test_d2h_leaves_the_missing_wedge_unchanged_and_a_quarter_turn_does_not():
    wedge = missing_wedge()
    assert all(torch.equal(apply(wedge, orientation), wedge) for orientation in ORIENTATIONS["d2h"])
    assert not torch.equal(apply(wedge, TURN), wedge)
