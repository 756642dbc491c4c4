"""Picks of different particles on one place, of which one at most is right."""

from collections.abc import Sequence

import numpy as np
from scipy.spatial import KDTree

# Of the sum of two radii. Particles keep at least 0.8 of it: neighbours of one kind are 1.65 radii apart.
OVERLAP_FRACTION = 0.75
# F4 punishes a particle that is missing sixteen times as much as a false pick: only what is most likely wrong goes.
CONFIDENCE_RATIO = 10.0


def not_outdone(
    coordinates: Sequence[np.ndarray], confidences: Sequence[np.ndarray], radii: Sequence[float]
) -> list[np.ndarray]:
    """Which picks stay: those that overlap with no pick of another kind of CONFIDENCE_RATIO times their confidence.

    Parameters
    ----------
    coordinates : for each kind of particle (N, 3), in the unit of the radii
    confidences : for each kind (N,) in 0..1; NaN where unknown: such picks stay, and no other goes because of them
    radii : one for each kind

    Returns
    -------
    For each kind (N,) bool. Picks that go count all the same against others, so that the order does not matter.
    """
    kept = [np.ones(len(one), dtype=bool) for one in coordinates]
    trees = [KDTree(one) if len(one) else None for one in coordinates]
    for first in range(len(trees)):
        for second in range(first):
            if trees[first] is None or trees[second] is None:
                continue
            reach = OVERLAP_FRACTION * (radii[first] + radii[second])
            pairs = trees[first].sparse_distance_matrix(trees[second], reach, output_type="ndarray")
            ours, theirs = confidences[first][pairs["i"]], confidences[second][pairs["j"]]
            kept[first][pairs["i"][theirs >= CONFIDENCE_RATIO * ours]] = False
            kept[second][pairs["j"][ours >= CONFIDENCE_RATIO * theirs]] = False
    return kept
