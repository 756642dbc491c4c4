"""Suppression of the weaker of two detections that lie too close; never across classes."""

import numpy as np
from scipy.spatial import KDTree

from postprocessing.detections import Detections


def suppress(detections: Detections, radius_voxels: float) -> Detections:
    """Greedy suppression within a class, the highest score first.

    Parameters
    ----------
    detections : in any order
    radius_voxels : a detection within this distance (inclusive) of a kept, higher-scoring one goes

    Returns
    -------
    Detections
        Sorted by score; ties in the order of z, y, x. What is kept above a score does not depend on the
        detections below it, so that a threshold may be applied before or after.
    """
    detections = detections.sorted()
    if len(detections) < 2 or radius_voxels <= 0:
        return detections
    near = KDTree(detections.coordinates_zyx).query_ball_point(detections.coordinates_zyx, r=radius_voxels)
    keep = np.ones(len(detections), dtype=bool)
    for index, neighbours in enumerate(near):
        if keep[index]:
            weaker = np.asarray(neighbours)
            keep[weaker[weaker > index]] = False
    return Detections(detections.coordinates_zyx[keep], detections.scores[keep])
