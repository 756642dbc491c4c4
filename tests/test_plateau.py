"""The middle of the plateau, on curves drawn by hand."""

import numpy as np
import pytest

from metrics.plateau import middle_of_plateau


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.7], 0),
        ([0.0, 0.0, 0.0], 1),
        ([0.1, 0.8, 0.8, 0.8, 0.8, 0.8, 0.2], 3),
        ([0.1, 0.8, 0.8, 0.8, 0.8, 0.2], 2),  # two in the middle: the first
        ([0.1, 0.8, 0.805, 0.81, 0.805, 0.801, 0.2], 3),
        ([0.81, 0.1, 0.8, 0.8, 0.8, 0.1], 3),  # a spike beside a broad plateau
        ([0.8, 0.8, 0.1, 0.8, 0.81], 4),  # two plateaus alike: the higher one, and its higher place
        ([0.1, 0.2, 0.3, 0.4], 3),  # monotone
        ([0.4, 0.3, 0.2, 0.1], 0),
        ([0.5, 0.8, 0.5, 0.9], 3),  # what is better by more than the tolerance is better
    ],
)
def test_on_one_axis(values, expected):
    assert middle_of_plateau(np.array(values), 0.011) == (expected,)


def test_the_higher_of_two_in_the_middle():
    assert middle_of_plateau(np.array([0.8, 0.8, 0.81, 0.8]), 0.011) == (2,)


def test_on_two_axes_the_plateau_is_what_is_connected_along_them():
    values = np.array(
        [
            [0.9, 0.2, 0.2, 0.2, 0.2],
            [0.2, 0.9, 0.9, 0.9, 0.2],
            [0.2, 0.9, 0.9, 0.9, 0.2],
            [0.2, 0.9, 0.9, 0.9, 0.2],
        ]
    )
    assert middle_of_plateau(values, 0.01) == (2, 2)
    assert middle_of_plateau(values.T, 0.01) == (2, 2)


def test_the_middle_lies_on_the_plateau_itself():
    ring = np.ones((3, 3))
    ring[1, 1] = 0.0
    assert ring[middle_of_plateau(ring, 0.1)] == 1.0
