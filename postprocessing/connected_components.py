"""cc3d: connected components of the class mask, kept from a minimum size up, at their centroids."""

import math

import cc3d
import numpy as np
from torch import Tensor

from postprocessing.detections import Detections, no_detections
from postprocessing.suppression import suppress


def detect(
    probability: Tensor,
    *,
    radius_voxels: float,
    trained_radius_voxels: float,
    conf_threshold: float,
    vol_frac_threshold: float,
    nms_radius_fraction: float,
) -> Detections:
    """26-connected components of ``probability > conf_threshold``.

    Parameters
    ----------
    probability : (Z, Y, X) float tensor in 0..1, on any device (the components are found on the CPU)
    radius_voxels : physical particle radius
    trained_radius_voxels : radius of the targets that the network was trained on
    conf_threshold : voxels above it belong to the class
    vol_frac_threshold : smallest accepted component, as a share of the trained sphere's volume
    nms_radius_fraction : suppression radius in units of ``radius_voxels``

    Returns
    -------
    Detections
        Centroids; scores are the mean probability of the component. Nothing above the threshold: no detections.
    """
    values = probability.float().cpu().numpy()
    labels, count = cc3d.connected_components(values > conf_threshold, connectivity=26, return_N=True)
    if count == 0:
        return no_detections()
    statistics = cc3d.statistics(labels)
    sizes = statistics["voxel_counts"][1:].astype(float)
    sums = np.bincount(labels.ravel(), weights=values.ravel(), minlength=count + 1)[1:]
    kept = sizes >= vol_frac_threshold * 4 / 3 * math.pi * trained_radius_voxels**3
    found = Detections(statistics["centroids"][1:][kept].astype(float), (sums / sizes)[kept])
    return suppress(found, nms_radius_fraction * radius_voxels)
