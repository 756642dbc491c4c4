"""watershed: the class mask, parted where it narrows by flooding its distance transform from the deepest voxels."""

import math

import cc3d
import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.segmentation import watershed
from torch import Tensor

from postprocessing import class_voxels
from postprocessing.class_voxels import class_components, tiles, warn_of_diffuse_map
from postprocessing.detections import Detections, no_detections
from postprocessing.suppression import unsuppressed

# Distances of two markers that a tile of a large component sees around itself.
HALO_DISTANCES = 4
# Voxels that touch at a corner are one maximum, however small the fraction.
MIN_MARKER_DISTANCE_VOXELS = 2.0


def candidates(
    probability: Tensor, *, trained_radius_voxels: float, conf_threshold: float, cluster_radius_fraction: float
) -> Detections:
    """Parts of ``probability > conf_threshold``, found by a marker-controlled watershed in every component.

    Markers are maxima of the Euclidean distance to the background; from them the mask is flooded, deepest voxels
    first (26 neighbours).

    Parameters
    ----------
    probability : (Z, Y, X) float tensor in 0..1, on any device (the parts are found on the CPU)
    trained_radius_voxels : radius of the targets that the network was trained on
    conf_threshold : voxels above it belong to the class
    cluster_radius_fraction : smallest distance of two markers in a component, as a share of the trained sphere's
        diameter

    Returns
    -------
    Detections
        Centroids; scores are the mean probability of the part, sizes its voxels. What lies outside of the volume does
        not count as background. Of equally deep voxels near each other the first in z, y, x order is the marker, so
        that a flat plate is one part. Nothing above the threshold: no detections.

    References
    ----------
    Beucher and Meyer, in Mathematical Morphology in Image Processing (1993), chapter 12: flooding from markers.
    """
    components = class_components(probability, conf_threshold)
    if components is None:
        return no_detections()
    distance = max(2 * cluster_radius_fraction * trained_radius_voxels, MIN_MARKER_DISTANCE_VOXELS)
    labels = components.labels
    count = int(labels.max())
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if sum((side.stop - side.start) ** 2 for side in box) <= distance**2:
            continue  # no room for two markers
        # With the background around it, which ends where the volume does.
        grown = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
        component = labels[grown] == number
        if component.size > class_voxels.BLOCK_VOXELS:
            warn_of_diffuse_map(np.count_nonzero(component), conf_threshold)
            count = _divide_in_tiles(component, distance, labels[grown], number, count)
            continue
        divided, markers = divide(component, distance)
        others = divided > 1
        labels[grown][others] = divided[others] + (count - 1)
        count += len(markers) - 1
    return components.statistics()


def _divide_in_tiles(component: np.ndarray, distance_voxels: float, labels: np.ndarray, number: int, count: int) -> int:
    """Number the parts of a large component, the first as the component; how many numbers there are then.

    A part is known by its marker, so that one that reaches into several tiles is one. Markers and depths are those of
    the whole component wherever it is less deep than a tile sees around it.
    """
    numbers: dict[tuple[int, ...], int] = {}
    for core, around in tiles(component.shape, math.ceil(HALO_DISTANCES * distance_voxels)):
        # With a margin, for cc3d fails on two voxels in a box of three.
        pieces = cc3d.connected_components(np.pad(component[around], 1), connectivity=26)[1:-1, 1:-1, 1:-1]
        parts, places = np.zeros(pieces.shape, dtype=np.uint32), [()]
        for piece, box in enumerate(ndimage.find_objects(pieces), start=1):
            grown = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
            divided, markers = divide(pieces[grown] == piece, distance_voxels)
            parts[grown][divided > 0] = divided[divided > 0] + (len(places) - 1)
            first = [a.start + b.start for a, b in zip(around, grown, strict=True)]
            places.extend(map(tuple, (markers + first).tolist()))
        inner = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(core, around, strict=True))
        table = np.zeros(len(places), dtype=np.uint32)
        for part in np.unique(parts[inner][component[core]]):
            table[part] = numbers.setdefault(places[part], count + len(numbers) if numbers else number)
        np.copyto(labels[core], table[parts[inner]], where=component[core])
    return count + len(numbers) - 1


def divide(component: np.ndarray, distance_voxels: float) -> tuple[np.ndarray, np.ndarray]:
    """Parts 1, 2, ... of a (Z, Y, X) bool component: one for each maximum of its depth; 0 is background.

    ``distance_voxels`` : two markers are at least as far apart; the deeper one stays

    Returns
    -------
    The parts, and (K, 3) the voxels of their markers, in the order of the parts.
    """
    if component.all():  # nothing that depth could be measured from
        return component.astype(int), np.zeros((1, 3), dtype=int)
    depth = ndimage.distance_transform_edt(component)
    # No two voxels rank alike, so that a plateau has one maximum. A cube inside the sphere of that radius.
    rank = np.where(component, np.rint(depth**2) * depth.size - np.arange(depth.size).reshape(depth.shape), -np.inf)
    reach = max(1, int(distance_voxels / math.sqrt(3)))
    maxima = peak_local_max(rank, min_distance=reach, threshold_abs=-depth.size, exclude_border=False)
    # Squared distances are whole numbers: everything below the distance goes, the distance itself stays.
    radius = math.sqrt(math.ceil(distance_voxels**2) - 0.5)
    maxima = maxima[unsuppressed(maxima.astype(float), depth[tuple(maxima.T)], radius)]
    if len(maxima) == 1:
        return component.astype(int), maxima
    markers = np.zeros(component.shape, dtype=int)
    markers[tuple(maxima.T)] = np.arange(1, len(maxima) + 1)
    return watershed(-depth, markers, mask=component, connectivity=np.ones((3, 3, 3))), maxima
