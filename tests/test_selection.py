"""Which picks are wanted, by hand-drawn tables and masks."""

import numpy as np
import pandas as pd
import pytest

from data.picks import picks_table
from evaluation.selection import INSIDE, OUTSIDE, Selection, is_inside, select

SHAPE, SIZE = (10, 20, 30), (10.0, 10.0, 10.0)
BOTH = ("ribosome", "apo-ferritin")


def table(particle, points_zyx, scores, confidences=None):
    nothing = np.full(len(scores), np.nan)
    confidences = nothing if confidences is None else confidences
    return picks_table("TS_1", particle, np.array(points_zyx, dtype=float), scores, nothing, nothing, confidences)


def chosen(picks, mask=None, shape=SHAPE, size=SIZE, **changes):
    selection = Selection(**{"particles": BOTH, **changes})
    found = select(picks, selection, shape_zyx=shape, voxel_size_zyx_angstrom=size, mask=mask)
    return found["score"].tolist()


RIBOSOMES = table("ribosome", [(50, 100, 150)] * 4, [0.2, 0.9, 0.5, 0.9], [0.1, 0.8, 0.5, 0.7])


def test_all_are_wanted_where_nothing_is_asked():
    assert chosen(RIBOSOMES) == [0.2, 0.9, 0.5, 0.9]
    assert chosen(RIBOSOMES, particles=("apo-ferritin",)) == []
    assert list(select(RIBOSOMES, Selection(BOTH), shape_zyx=SHAPE, voxel_size_zyx_angstrom=SIZE).columns) == list(
        RIBOSOMES.columns
    )


def test_confidence_at_the_limit_is_enough_and_an_unknown_one_is_not():
    assert chosen(RIBOSOMES, min_confidence=0.5) == [0.9, 0.5, 0.9]
    assert chosen(table("ribosome", [(50, 100, 150)], [0.9]), min_confidence=0.0) == []


def test_the_best_of_each_particle_stay_in_their_order():
    both = pd.concat([RIBOSOMES, table("apo-ferritin", [(50, 100, 150)] * 2, [0.1, 0.3])], ignore_index=True)
    assert chosen(both, max_per_tomogram=1) == [0.9, 0.3]
    assert chosen(both, max_per_tomogram=3) == [0.9, 0.5, 0.9, 0.1, 0.3]
    # Of those that the other choices leave.
    assert chosen(RIBOSOMES, max_per_tomogram=1, min_confidence=0.75) == [0.9]


def test_the_edge_begins_at_the_faces_of_the_outer_voxels():
    """The faces lie half a voxel beyond the outer centres: z from -5 to 95 angstrom."""
    picks = table(
        "ribosome", [(14, 100, 150), (15, 100, 150), (75, 100, 150), (76, 100, 150), (50, 100, 285)], range(5)
    )
    assert chosen(picks, exclude_edge_angstrom=20.0) == [1, 2]
    assert chosen(picks, exclude_edge_angstrom=0.0) == [0, 1, 2, 3, 4]


def test_voxels_that_are_no_cubes():
    picks = table("ribosome", [(0, 100, 150), (20, 100, 150)], [1, 2])
    assert chosen(picks, size=(40.0, 10.0, 10.0), exclude_edge_angstrom=25.0) == [2]


@pytest.mark.parametrize(("side", "expected"), [(INSIDE, [1]), (OUTSIDE, [0, 2])])
def test_a_mask_keeps_one_of_its_sides(side, expected):
    mask = np.zeros(SHAPE)
    mask[5, 10, 15] = 3
    picks = table("ribosome", [(50, 100, 144), (46, 104, 154), (50, 110, 150)], range(3))
    assert chosen(picks, mask, mask_side=side) == expected


def test_a_mask_in_voxels_of_another_size_covers_the_same_volume():
    """Binned by two, voxel 2 holds voxels 4 and 5 of the tomogram: from 35 to 55 angstrom."""
    binned = np.zeros((5, 10, 15))
    binned[2, 5, 7] = 1
    at = np.array([(34, 100, 150), (36, 100, 150), (54, 100, 150), (56, 100, 150)])
    assert chosen(table("ribosome", at, range(4)), binned) == [1, 2]


def test_positions_beyond_a_mask_count_as_its_outermost_voxels():
    mask = np.zeros((2, 2, 2))
    mask[0, 0, 0] = mask[1, 1, 1] = 1
    assert is_inside(mask, np.array([[-0.1, 0.0, 0.2], [1.0, 1.0, 1.2], [1.0, 0.0, 0.0]])).tolist() == [
        True,
        True,
        False,
    ]
    assert is_inside(mask, np.empty((0, 3))).shape == (0,)


def test_no_picks_stay_none():
    empty = RIBOSOMES.iloc[:0]
    mask = np.ones(SHAPE)
    options = {"min_confidence": 0.5, "max_per_tomogram": 2, "exclude_edge_angstrom": 5.0}
    assert chosen(empty, mask, **options) == []
