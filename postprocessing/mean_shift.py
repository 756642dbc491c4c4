"""meanshift: clusters of the class voxels by flat-kernel mean shift, on the map's own device."""

import math

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from errors import InputError
from postprocessing import class_voxels
from postprocessing.ball_means import BallMeans
from postprocessing.class_voxels import flat_voxels_above, tiles, voxels_above, warn_of_diffuse_map
from postprocessing.detections import Detections, no_detections

# Side in bandwidths of the bins in which paths go on as one: half of what scikit-learn's bin_seeding uses. More paths
# take longer and end in places of ever smaller basins, such as the saddle between two particles that touch.
BIN_FRACTION = 0.5
# Where a path ends, as in scikit-learn: at a step below this share of the bandwidth, or after so many.
STOP_FRACTION = 1e-3
MAX_STEPS = 300
SCORE_PERCENTILE = 90
# What a tile of a map with very many voxels sees around itself: so far a path may lead into it.
HALO_BANDWIDTHS = 4
# Voxels of such a map for which the nearest mode is looked up at a time.
CHUNK_VOXELS = 2**20


def candidates(
    probability: Tensor, *, trained_radius_voxels: float, conf_threshold: float, cluster_radius_fraction: float
) -> Detections:
    """Modes of the density of the voxels with ``probability > conf_threshold``.

    Parameters
    ----------
    probability : (Z, Y, X) float tensor in 0..1, on any device
    trained_radius_voxels : radius of the targets that the network was trained on
    conf_threshold : voxels above it belong to the class
    cluster_radius_fraction : bandwidth of the mean shift in units of ``trained_radius_voxels``; above 0

    Returns
    -------
    Detections
        Converged modes, sub-voxel; scores are the 90th percentile of the probability over the voxels nearest to the
        mode, sizes their number; a mode without such voxels is none. Nothing above the threshold: no detections. The
        same on every device.

    Raises
    ------
    InputError : the bandwidth is not above 0
    """
    bandwidth = cluster_radius_fraction * trained_radius_voxels
    if not bandwidth > 0:
        raise InputError(f"cluster_radius_fraction must be above 0, got {cluster_radius_fraction}")
    flat = flat_voxels_above(probability, conf_threshold)
    if len(flat) == 0:
        return no_detections()
    if len(flat) > class_voxels.BLOCK_VOXELS:
        warn_of_diffuse_map(len(flat), conf_threshold)
        modes, cluster = _mean_shift_in_tiles(probability, conf_threshold, flat, bandwidth)
        sizes, scores = _sizes_and_scores_of_many(cluster, probability.reshape(-1)[flat].float(), len(modes))
    else:
        modes, cluster = mean_shift(torch.stack(torch.unravel_index(flat, probability.shape), dim=1), bandwidth)
        sizes, scores = sizes_and_scores(cluster, probability.reshape(-1)[flat].float(), len(modes))
    return Detections(modes, scores, sizes.astype(float))[sizes > 0]


def _mean_shift_in_tiles(
    probability: Tensor, threshold: float, flat_voxels: Tensor, bandwidth: float
) -> tuple[np.ndarray, Tensor]:
    """As :func:`mean_shift`, and (N,) int32: modes are those of the tiles in which they lie."""
    ends, numbers, side = [], [], BIN_FRACTION * bandwidth
    for core, around in tiles(probability.shape, math.ceil(HALO_BANDWIDTHS * bandwidth)):
        voxels = voxels_above(probability[around], threshold)
        if len(voxels) == 0:
            continue
        paths = voxels[Bins(voxels, side).first]
        found, number = _follow_paths(paths, BallMeans(voxels, bandwidth), side)
        found = found.cpu().numpy() + [sides.start for sides in around]
        nearest = np.rint(found)
        inside = np.all([(s.start <= n) & (n < s.stop) for s, n in zip(core, nearest.T, strict=True)], axis=0)
        ends.append(found[inside])
        numbers.append(number.cpu().numpy()[inside])
    modes = _merge(np.concatenate(ends), np.concatenate(numbers), bandwidth)
    tree, shape = KDTree(modes), probability.shape
    cluster = torch.empty(len(flat_voxels), dtype=torch.int32)
    for part, to in zip(flat_voxels.split(CHUNK_VOXELS), cluster.split(CHUNK_VOXELS), strict=True):
        to.copy_(torch.from_numpy(tree.query(torch.stack(torch.unravel_index(part, shape), dim=1).cpu().numpy())[1]))
    return modes, cluster.to(probability.device)


def _sizes_and_scores_of_many(cluster: Tensor, values: Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`sizes_and_scores`, some clusters at a time, each of them whole."""
    sizes = torch.bincount(cluster, minlength=count)
    group = (sizes.cumsum(0) - 1) // class_voxels.BLOCK_VOXELS
    parts = []
    for number in range(int(group[-1]) + 1):
        [first, *_], length = (group == number).nonzero().flatten().tolist() or [0], int((group == number).sum())
        of_group = (cluster >= first) & (cluster < first + length)
        parts.append(sizes_and_scores(cluster[of_group].long() - first, values[of_group], length))
    return tuple(np.concatenate(one) for one in zip(*parts, strict=True))


def mean_shift(
    voxels_zyx: Tensor, bandwidth_voxels: float, bin_fraction: float = BIN_FRACTION
) -> tuple[np.ndarray, Tensor]:
    """Clusters of voxels by flat-kernel mean shift (Comaniciu & Meer, doi 10.1109/34.1000236).

    A path starts at every voxel and steps to the mean of the voxels within the bandwidth until it stays; its end is a
    mode. As in scikit-learn, of two modes within the bandwidth the one with fewer voxels around it goes, of equals
    the one that comes first in z, y, x.

    Parameters
    ----------
    voxels_zyx : (N, 3) int64 tensor, distinct, N at least 1
    bandwidth_voxels : radius of the kernel, inclusive; above 0
    bin_fraction : of the paths in a bin of this side, in bandwidths, one is followed. With 0 all of them are, and
        the clusters are those of scikit-learn's MeanShift with all points as seeds. Clear modes do not depend on it;
        where the kernel fits into a blob of even density with room to spare, the mode is any of many positions.

    Returns
    -------
    (K, 3) float64 modes, those with most voxels within the bandwidth first, and (N,) int64 index of each voxel's
    nearest mode
    """
    side = max(bin_fraction, STOP_FRACTION) * bandwidth_voxels
    bins = Bins(voxels_zyx, side)
    ends, numbers = _follow_paths(voxels_zyx[bins.first], BallMeans(voxels_zyx, bandwidth_voxels), side)
    modes = _merge(ends.cpu().numpy(), numbers.cpu().numpy(), bandwidth_voxels)
    return modes, _nearest_mode(voxels_zyx, bins, modes)


def _follow_paths(paths: Tensor, ball_means: BallMeans, side: float) -> tuple[Tensor, Tensor]:
    """Ends of the paths, and the number of voxels around the position before."""
    ends, numbers = [], []
    stop = STOP_FRACTION * ball_means.radius
    for step in range(MAX_STEPS + 1):
        means, number = ball_means(paths)
        squares = (means - paths).square()
        moving = squares[:, 0] + squares[:, 1] + squares[:, 2] > stop**2
        ended = ~moving if step < MAX_STEPS else torch.ones_like(moving)
        ends.append(means[ended])
        numbers.append(number[ended])
        paths = means[moving]
        if len(paths) == 0:
            break
        paths = paths[Bins(paths, side).first]
    return torch.cat(ends), torch.cat(numbers)


class Bins:
    """Points sorted into the bins of a grid that begins at the points: a map that is moved or cut gives the same.

    Attributes
    ----------
    first : (C,) index of the first point in each occupied bin
    of_point : (N,) index of each point's bin
    centres_zyx : (C, 3) float64
    """

    def __init__(self, points_zyx: Tensor, side: float) -> None:
        origin = points_zyx.amin(0)
        index = ((points_zyx - origin).double() / side).floor().long()
        shape = index.amax(0) + 1
        keys = (index[:, 0] * shape[1] + index[:, 1]) * shape[2] + index[:, 2]
        # Neighbours in the list share bins: each run of them is sorted once.
        begins = torch.ones_like(keys, dtype=torch.bool)
        begins[1:] = keys[1:] != keys[:-1]
        begin = begins.nonzero().squeeze(1)
        distinct, bin_of_run = keys[begin].unique(return_inverse=True)
        self.first = torch.full_like(distinct, len(keys)).scatter_reduce_(0, bin_of_run, begin, "amin")
        self.of_point = bin_of_run.index_select(0, begins.cumsum(0) - 1)
        self.centres_zyx = origin + (index[self.first].double() + 0.5) * side
        self.diagonal = math.sqrt(3) * side


def _merge(ends_zyx: np.ndarray, numbers: np.ndarray, bandwidth: float) -> np.ndarray:
    z, y, x = ends_zyx.T
    ends_zyx = ends_zyx[np.lexsort((x, y, z, numbers))[::-1]]
    tree = KDTree(ends_zyx)
    left = np.ones(len(ends_zyx), dtype=bool)
    kept = []
    for index in range(len(ends_zyx)):
        if left[index]:
            kept.append(index)
            left[tree.query_ball_point(ends_zyx[index], bandwidth)] = False
    return ends_zyx[kept]


def _nearest_mode(voxels_zyx: Tensor, bins: Bins, modes_zyx: np.ndarray) -> Tensor:
    """Bin by bin where the second mode is farther from the bin's centre by its diagonal, else voxel by voxel."""
    tree = KDTree(modes_zyx)
    distances, modes = tree.query(bins.centres_zyx.cpu().numpy(), k=2)
    mixed_bins = torch.from_numpy(distances[:, 1] - distances[:, 0] <= bins.diagonal * (1 + 1e-6))
    nearest = torch.from_numpy(modes[:, 0]).to(voxels_zyx.device).index_select(0, bins.of_point)
    mixed = mixed_bins.to(voxels_zyx.device).index_select(0, bins.of_point).nonzero().squeeze(1)
    nearest[mixed] = torch.from_numpy(tree.query(voxels_zyx[mixed].cpu().numpy())[1]).to(voxels_zyx.device)
    return nearest


def sizes_and_scores(cluster: Tensor, values: Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Voxels of each cluster and the percentile of their values, linear between neighbours; NaN without voxels."""
    sizes = torch.bincount(cluster, minlength=count)
    # The bits of floats from 0 up sort like the floats: one sort orders by cluster and value.
    ordered = ((cluster << 32) + values.view(torch.int32)).sort().values & 0xFFFFFFFF
    ordered = torch.cat(
        [ordered.int().view(torch.float32).double(), ordered.new_full((1,), torch.nan, dtype=torch.float64)]
    )
    rank = (sizes - 1).double() * (SCORE_PERCENTILE / 100)
    begin = sizes.cumsum(0) - sizes
    below = ordered[torch.where(sizes > 0, begin + rank.floor().long(), -1)]
    above = ordered[torch.where(sizes > 0, begin + rank.ceil().long(), -1)]
    scores = below + (above - below) * (rank - rank.floor())
    return sizes.cpu().numpy(), scores.cpu().numpy()
