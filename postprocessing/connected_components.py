"""cc3d: connected components of the class mask, at their centroids."""

from torch import Tensor

from postprocessing.class_voxels import class_components
from postprocessing.detections import Detections, no_detections


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
    components = class_components(probability, conf_threshold)
    return components.statistics() if components else no_detections()
