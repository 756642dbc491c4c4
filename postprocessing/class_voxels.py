"""The voxels of a class: work on them costs what the class fills, not what the volume holds."""

from dataclasses import dataclass

import cc3d
import numpy as np
import torch
from torch import Tensor

from postprocessing.detections import Detections

# Compared first are the maxima of runs of so many voxels: nearly all of a map is far below.
RUN_VOXELS = 64


def voxels_above(volume: Tensor, threshold: float) -> Tensor:
    """(N, 3) int64 voxels of a (Z, Y, X) tensor that lie above the threshold, in the order of z, y, x."""
    flat = volume.reshape(-1)
    whole = flat.numel() // RUN_VOXELS * RUN_VOXELS
    runs = flat[:whole].view(-1, RUN_VOXELS)
    busy = (runs.amax(1) > threshold).nonzero().squeeze(1)
    run, within = (runs.index_select(0, busy) > threshold).nonzero().unbind(1)
    rest = (flat[whole:] > threshold).nonzero().squeeze(1)
    found = torch.cat([busy[run] * RUN_VOXELS + within, whole + rest])
    return torch.stack(torch.unravel_index(found, volume.shape), dim=1)


@dataclass(frozen=True)
class Components:
    """The 26-connected components of ``probability > threshold``, on the CPU.

    Attributes
    ----------
    voxels_zyx : (N, 3) of the class, N at least 1
    values : (N,) their probabilities
    origin_zyx : of the box that holds them, with a margin of one voxel wherever the volume goes on
    labels : the box: 0, or 1 to the number of components; who parts a component gives its parts further numbers
    """

    voxels_zyx: np.ndarray
    values: np.ndarray
    origin_zyx: np.ndarray
    labels: np.ndarray

    def statistics(self) -> Detections:
        """Centroid, mean probability and number of voxels of each label."""
        numbers = self.labels[tuple((self.voxels_zyx - self.origin_zyx).T)]
        sizes = np.bincount(numbers)[1:].astype(float)
        columns = (*self.voxels_zyx.T, self.values)
        sums = np.stack([np.bincount(numbers, weights=column)[1:] for column in columns], axis=1)
        means = sums / sizes[:, None]
        return Detections(means[:, :3], means[:, 3], sizes)


def class_components(probability: Tensor, threshold: float) -> Components | None:
    """Those of a (Z, Y, X) map, from whose device only voxels of the class are taken; None without any voxel."""
    voxels = voxels_above(probability, threshold)
    if len(voxels) == 0:
        return None
    values, voxels = probability[tuple(voxels.T)].double().cpu().numpy(), voxels.cpu().numpy()
    origin = np.maximum(voxels.min(axis=0) - 1, 0)
    end = np.minimum(voxels.max(axis=0) + 2, probability.shape)
    # One voxel more: cc3d fails on two voxels in a box of three.
    mask = np.zeros(end - origin + 1, dtype=bool)
    mask[tuple((voxels - origin).T)] = True
    z, y, x = end - origin
    labels = cc3d.connected_components(mask, connectivity=26, out_dtype=np.uint32)
    return Components(voxels, values, origin, labels[:z, :y, :x])
