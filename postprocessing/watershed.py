"""watershed: the class mask, parted where it narrows by flooding its distance transform from the deepest voxels."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from postprocessing.detections import Detections, no_detections
from postprocessing.suppression import unsuppressed
from postprocessing.voxel_list import VoxelList, connected_components, squared_distances, voxels_above

# In trained radii: no particle is so thick that it matters how much deeper a voxel lies.
MAX_DEPTH_FRACTION = 4.0
# Voxels that touch at a corner are one maximum, however small the fraction.
MIN_MARKER_DISTANCE_VOXELS = 2.0
# Probabilities are added as whole numbers, whose sum does not depend on the order in which a GPU adds.
PROBABILITY_STEPS = 2**32
NEVER = 2**62
CHUNK_VOXELS = 2**18


def candidates(
    probability: Tensor, *, trained_radius_voxels: float, conf_threshold: float, cluster_radius_fraction: float
) -> Detections:
    """Parts of ``probability > conf_threshold``, found by a marker-controlled watershed.

    Markers are maxima of the Euclidean distance to the background; from them the mask is flooded, deepest voxels
    first (26 neighbours).

    Parameters
    ----------
    probability : (Z, Y, X) float tensor in 0..1, on any device
    trained_radius_voxels : radius of the targets that the network was trained on
    conf_threshold : voxels above it belong to the class
    cluster_radius_fraction : smallest distance of two markers in a component, as a share of the trained sphere's
        diameter

    Returns
    -------
    Detections
        Centroids; scores are the mean probability of the part, sizes its voxels. What lies outside of the volume does
        not count as background. Where two floods meet in a voxel, the one that comes from a deeper neighbour takes it,
        then the one with the deeper marker. Of equally deep voxels near each other the first in z, y, x order is the
        marker, so that a flat plate is one part. Nothing above the threshold: no detections.

    References
    ----------
    Beucher and Meyer, in Mathematical Morphology in Image Processing (1993), chapter 12: flooding from markers.
    Shih and Mitchell, IEEE Trans. Image Process. 1 (1992), doi 10.1109/83.136596: distances by decomposed parabolas.
    """
    voxels = voxels_above(probability, conf_threshold)
    if len(voxels) == 0:
        return no_detections()
    components, _ = connected_components(voxels)
    depths = squared_distances(voxels, math.ceil(MAX_DEPTH_FRACTION * trained_radius_voxels))
    markers = find_markers(voxels, components, depths, 2 * cluster_radius_fraction * trained_radius_voxels)
    parts = flood(voxels, components, depths, markers)
    return _statistics(probability, voxels, parts, len(markers))


def find_markers(voxels: VoxelList, components: Tensor, depths: Tensor, distance_voxels: float) -> Tensor:
    """(M,) positions in the list: maxima of the depth, at least one in every component.

    Parameters
    ----------
    voxels : N voxels; components, depths : (N,) their component and squared distance to the background
    distance_voxels : two markers of a component are at least as far apart; the deeper one stays
    """
    distance_voxels = max(distance_voxels, MIN_MARKER_DISTANCE_VOXELS)
    # No two voxels rank alike, so that a plateau has one maximum.
    rank = depths * 2**32 - torch.arange(len(voxels), device=depths.device)
    highest = rank
    # A cube inside the sphere of that radius, as far as steps within the mask lead.
    for axis in range(3):
        before, after = voxels.neighbours(axis)
        for _ in range(int(distance_voxels / math.sqrt(3))):
            known = torch.cat([highest, rank.new_full((2,), -NEVER)])
            highest = torch.maximum(highest, torch.maximum(known[before], known[after]))
    maxima = (highest == rank).nonzero().squeeze(1)
    return _far_apart(voxels, components, maxima, depths[maxima], distance_voxels)


def _far_apart(voxels: VoxelList, components: Tensor, maxima: Tensor, depths: Tensor, distance: float) -> Tensor:
    """The maxima without those that have a deeper one nearby in their component; deepest first."""
    # Components are moved apart along z, so that one suppression serves all of them.
    period = voxels.shape_zyx[0] + math.ceil(distance) + 1
    coordinates = voxels.selected(maxima).coordinates_zyx()
    coordinates[:, 0] += components[maxima] * period
    # Squared distances are whole numbers: everything below the distance goes, the distance itself stays.
    radius = math.sqrt(math.ceil(distance**2) - 0.5)
    kept = unsuppressed(coordinates.double().cpu().numpy(), depths.double().cpu().numpy(), radius)
    return maxima[torch.from_numpy(kept).to(maxima.device)]


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
    # A flood comes with its urgency: how far from the deepest it comes, then its number. One more for non-voxels.
    from_depth = (depths.max() - depths) * len(markers)
    urgency = torch.full((len(voxels) + 1,), NEVER, device=depths.device)
    urgency[markers] = from_depth[markers] + marker_numbers
    may_flood = torch.zeros_like(urgency, dtype=torch.bool)
    inner = contested.nonzero().squeeze(1)
    order = inner[torch.argsort(depths[inner], descending=True, stable=True)]
    _, level_sizes = depths[order].unique_consecutive(return_counts=True)
    for level in order.split(level_sizes.tolist()):
        beside = level[urgency[level] == NEVER]
        may_flood[beside] = True
        while len(beside):
            first = torch.cat([urgency[around].amin(dim=1) for around in _neighbourhoods(voxels, beside)])
            now = beside[first < NEVER]
            urgency[now] = from_depth[now] + first[first < NEVER] % len(markers)
            may_flood[now] = False
            # A voxel that still waits has no flood beside it but those of this ring.
            rings = [around[may_flood[around]] for around in _neighbourhoods(voxels, now)]
            beside = torch.cat([now[:0], *rings]).unique()
    parts[inner] = urgency[inner] % len(markers)
    return parts


def _neighbourhoods(voxels: VoxelList, index: Tensor) -> Iterator[Tensor]:
    """(P, 27) positions of the voxels about those of the index, N: not in the list; in pieces that fit in memory."""
    plane, row, column = (torch.tensor([-1, 0, 1], device=index.device) * stride for stride in voxels.strides)
    steps = (plane[:, None, None] + row[:, None] + column).flatten()
    for piece in index.split(CHUNK_VOXELS):
        yield voxels.index_of(voxels.places[piece][:, None] + steps)


def _statistics(probability: Tensor, voxels: VoxelList, parts: Tensor, count: int) -> Detections:
    coordinates = voxels.coordinates_zyx()
    values = (probability[tuple(coordinates.T)].double() * PROBABILITY_STEPS).round().long()
    sizes = torch.bincount(parts, minlength=count).double()
    sums = parts.new_zeros(count, 4).index_add_(0, parts, torch.cat([coordinates, values[:, None]], dim=1))
    means = (sums.double() / sizes[:, None]).cpu().numpy()
    return Detections(means[:, :3], means[:, 3] / PROBABILITY_STEPS, sizes.cpu().numpy())
