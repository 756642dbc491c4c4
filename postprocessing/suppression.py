"""Suppression of the weaker of two candidates that lie too close; never across classes."""

import numpy as np
from scipy.spatial import KDTree


def unsuppressed(coordinates_zyx: np.ndarray, scores: np.ndarray, radius: float) -> np.ndarray:
    """Greedy suppression within a class, the highest score first.

    Parameters
    ----------
    coordinates_zyx : (N, 3) in any order
    scores : (N,)
    radius : a candidate within this distance (inclusive) of a kept, higher-scoring one goes; 0 or less: all stay

    Returns
    -------
    (K,) indices of those that are kept, the highest score first; ties in the order of z, y, x. What is kept above a
    score does not depend on the candidates below it, so that a threshold may be applied before or after.
    """
    z, y, x = coordinates_zyx.T
    order = np.lexsort((x, y, z, -scores))
    if len(order) < 2 or radius <= 0:
        return order
    pairs = KDTree(coordinates_zyx[order]).query_pairs(radius, output_type="ndarray")
    stronger, weaker = pairs[np.argsort(pairs[:, 0], kind="stable")].T
    kept = np.ones(len(order), dtype=bool)
    first, begin = np.unique(stronger, return_index=True)
    for index, beaten in zip(first, np.split(weaker, begin[1:]), strict=False):
        if kept[index]:
            kept[beaten] = False
    return order[kept]
