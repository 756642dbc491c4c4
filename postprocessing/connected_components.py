"""cc3d: connected components of the class mask, at their centroids."""

import cc3d
import numpy as np
from torch import Tensor

from postprocessing.detections import Detections, no_detections
from postprocessing.voxel_list import voxels_above


def candidates(probability: Tensor, *, trained_radius_voxels: float, conf_threshold: float) -> Detections:
    """26-connected components of ``probability > conf_threshold``.

    Parameters
    ----------
    probability : (Z, Y, X) float tensor in 0..1, on any device (the components are found on the CPU)
    trained_radius_voxels : as for every method; components do not depend on it
    conf_threshold : voxels above it belong to the class

    Returns
    -------
    Detections
        Centroids; scores are the mean probability of the component, sizes its voxels. Nothing above the threshold: no
        detections.
    """
    voxels = voxels_above(probability, conf_threshold).coordinates_zyx()
    if len(voxels) == 0:
        return no_detections()
    # Only the voxels of the class leave the device, and only they are counted and added.
    values, voxels = probability[tuple(voxels.T)].double().cpu().numpy(), voxels.cpu().numpy()
    origin = voxels.min(axis=0)
    inside = tuple((voxels - origin).T)
    # A margin of one voxel: cc3d fails on two voxels in a box of three.
    mask = np.zeros(voxels.max(axis=0) - origin + 2, dtype=bool)
    mask[inside] = True
    labels = cc3d.connected_components(mask, connectivity=26)[inside]
    sizes = np.bincount(labels)[1:].astype(float)
    sums = np.stack([np.bincount(labels, weights=column)[1:] for column in (*voxels.T, values)], axis=1)
    means = sums / sizes[:, None]
    return Detections(means[:, :3], means[:, 3], sizes)
