"""watershed: the class mask, parted where it narrows by flooding its distance transform from the deepest voxels."""

import math

import torch
from torch import Tensor

from errors import InputError
from postprocessing.detections import Detections, no_detections
from postprocessing.suppression import suppress
from postprocessing.voxel_list import VoxelList, connected_components, squared_distances, voxels_where

# In trained radii: no particle is so thick that it matters how much deeper a voxel lies.
MAX_DEPTH_FRACTION = 4.0
# Voxels that touch at a corner are one maximum, however small the fraction.
MIN_MARKER_DISTANCE_VOXELS = 2.0
# Distances are smoothed as whole sixteenths of a voxel, and probabilities added as whole 2**-32.
DISTANCE_STEPS = 16
PROBABILITY_STEPS = 2**32
CHUNK_VOXELS = 2**18
NOT_REACHED = 2**62


def detect(
    probability: Tensor,
    *,
    radius_voxels: float,
    trained_radius_voxels: float,
    conf_threshold: float,
    vol_frac_threshold: float,
    cluster_radius_fraction: float,
    nms_radius_fraction: float,
) -> Detections:
    """Parts of ``probability > conf_threshold``, found by a marker-controlled watershed.

    Markers are maxima of the Euclidean distance to the background; from them the mask is flooded, deepest voxels
    first (26 neighbours).

    Parameters
    ----------
    probability : (Z, Y, X) float tensor in 0..1, on any device
    radius_voxels : physical particle radius
    trained_radius_voxels : radius of the targets that the network was trained on
    conf_threshold : voxels above it belong to the class
    vol_frac_threshold : smallest accepted part, as a share of the trained sphere's volume
    cluster_radius_fraction : smallest distance of two markers in a component, as a share of the trained sphere's
        diameter
    nms_radius_fraction : suppression radius in units of ``radius_voxels``

    Returns
    -------
    Detections
        Centroids; scores are the mean probability of the part. What lies outside of the volume does not count as
        background. A voxel that two parts reach at once goes to the one with the deeper marker; markers of the same
        depth are ranked, and a flat maximum is stood for, by their first voxel in z, y, x order. Nothing above the
        threshold: no detections.

    Raises
    ------
    InputError
        For a map with NaN or infinite values.

    References
    ----------
    Beucher and Meyer, in Mathematical Morphology in Image Processing (1993), chapter 12: flooding from markers.
    Shih and Mitchell, IEEE Trans. Image Process. 1 (1992), doi 10.1109/83.136596: distances by decomposed parabolas.
    """
    if not math.isfinite(float(probability.sum(dtype=torch.float32))):
        raise InputError("the probability map holds NaN or infinite values; is the network's checkpoint broken?")
    voxels = voxels_where(probability.float() > conf_threshold)
    smallest = vol_frac_threshold * 4 / 3 * math.pi * trained_radius_voxels**3
    if len(voxels):
        components, count = connected_components(voxels)
        # No part is larger than its component.
        large = (torch.bincount(components, minlength=count) >= smallest)[components]
        voxels, components = voxels.selected(large), components[large]
    if len(voxels) == 0:
        return no_detections()
    depths = squared_distances(voxels, math.ceil(MAX_DEPTH_FRACTION * trained_radius_voxels))
    markers = find_markers(voxels, components, depths, 2 * cluster_radius_fraction * trained_radius_voxels)
    parts = flood(voxels, components, depths, markers)
    found = _statistics(probability, voxels, parts, len(markers), smallest)
    return suppress(found, nms_radius_fraction * radius_voxels)


def find_markers(voxels: VoxelList, components: Tensor, depths: Tensor, distance_voxels: float) -> Tensor:
    """(M,) positions in the list: maxima of the lightly smoothed depth, in every component at least one.

    Parameters
    ----------
    voxels : N voxels; components, depths : (N,) their component and squared distance to the background
    distance_voxels : two markers of a component are at least as far apart; the deeper one stays
    """
    distance_voxels = max(distance_voxels, MIN_MARKER_DISTANCE_VOXELS)
    sides = [voxels.neighbours(axis) for axis in range(3)]
    height = (depths.double().sqrt() * DISTANCE_STEPS).round().long()
    for before, after in sides:
        known = torch.cat([height, height.new_zeros(2)])
        height = 2 * height + known[before] + known[after]
    # No two voxels rank alike, so that a plateau has one maximum.
    rank = height * 2**32 - torch.arange(len(voxels), device=height.device)
    highest = rank
    # The cube lies inside the sphere of that radius.
    for before, after in sides:
        for _ in range(max(1, int(distance_voxels / math.sqrt(3)))):
            known = torch.cat([highest, highest.new_full((2,), -1 << 62)])
            highest = torch.maximum(highest, torch.maximum(known[before], known[after]))
    maxima = (highest == rank).nonzero().squeeze(1)
    return _far_apart(voxels, components, maxima, height[maxima], distance_voxels)


def _far_apart(voxels: VoxelList, components: Tensor, maxima: Tensor, height: Tensor, distance: float) -> Tensor:
    """The maxima without those that have a higher one nearby in their component; highest first."""
    # Components are moved apart along z, so that one suppression serves all of them.
    period = voxels.shape_zyx[0] + math.ceil(distance) + 1
    coordinates = VoxelList(voxels.places[maxima], voxels.shape_zyx).coordinates_zyx()
    coordinates[:, 0] += components[maxima] * period
    # Squared distances are whole numbers: everything below the distance goes, the distance itself stays.
    radius = math.sqrt(math.ceil(distance**2) - 0.5)
    kept = suppress(Detections(coordinates.double().cpu().numpy(), height.double().cpu().numpy()), radius)
    z, y, x = torch.from_numpy(kept.coordinates_zyx).long().to(maxima.device).T + 1
    plane, row, _ = voxels.strides
    return voxels.index_of((z - 1) % period * plane + plane + y * row + x)


def flood(voxels: VoxelList, components: Tensor, depths: Tensor, markers: Tensor) -> Tensor:
    """(N,) the marker, 0 to M - 1, whose flood reaches each voxel first."""
    marker_numbers = torch.arange(len(markers), device=markers.device)
    per_component = torch.bincount(components[markers])
    only_marker = torch.zeros_like(per_component)
    only_marker[components[markers]] = marker_numbers
    parts = only_marker[components]
    # Most components have one marker, and are done.
    contested = (per_component > 1)[components]
    if not contested.any():
        return parts
    inner, depths = voxels.selected(contested), depths[contested]
    is_inner = contested[markers]
    starts = inner.index_of(voxels.places[markers[is_inner]])
    # A flood comes with its urgency: the depth that it comes from, then its number. One more for voxels outside.
    urgency = torch.full((len(inner) + 1,), NOT_REACHED, device=markers.device)
    from_depth = (depths.max() - depths) * len(markers)
    urgency[starts] = from_depth[starts] + marker_numbers[is_inner]
    order = torch.argsort(depths, descending=True, stable=True)
    _, level_sizes = depths[order].unique_consecutive(return_counts=True)
    waiting = order[:0]
    for level in order.split(level_sizes.tolist()):
        waiting = torch.cat([waiting, level])
        waiting = waiting[urgency[waiting] == NOT_REACHED]
        while len(waiting):
            first = _most_urgent_beside(inner, urgency, waiting)
            flooded = first < NOT_REACHED
            if not flooded.any():
                break
            now = waiting[flooded]
            urgency[now] = from_depth[now] + first[flooded] % len(markers)
            waiting = waiting[~flooded]
    parts[contested] = urgency[:-1] % len(markers)
    return parts


def _most_urgent_beside(voxels: VoxelList, urgency: Tensor, waiting: Tensor) -> Tensor:
    """The lowest urgency number among the 26 neighbours of the waiting voxels."""
    plane, row, _ = voxels.strides
    steps = torch.tensor([-1, 0, 1], device=waiting.device)
    around = (steps[:, None, None] * plane + steps[:, None] * row + steps).flatten()
    return torch.cat(
        [
            urgency[voxels.index_of(voxels.places[chunk][:, None] + around)].amin(dim=1)
            for chunk in waiting.split(CHUNK_VOXELS)
        ]
    )


def _statistics(probability: Tensor, voxels: VoxelList, parts: Tensor, count: int, smallest: float) -> Detections:
    coordinates = voxels.coordinates_zyx()
    values = (probability[tuple(coordinates.T)].double() * PROBABILITY_STEPS).round().long()
    sizes = torch.bincount(parts, minlength=count)
    sums = sizes.new_zeros(count, 4).index_add_(0, parts, torch.cat([coordinates, values[:, None]], dim=1))
    kept = sizes >= smallest
    means = (sums[kept].double() / sizes[kept, None].double()).cpu().numpy()
    return Detections(means[:, :3], means[:, 3] / PROBABILITY_STEPS)
