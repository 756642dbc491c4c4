"""What every detection method returns."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Detections:
    """Particles of one class.

    Attributes
    ----------
    coordinates_zyx : (N, 3) float64, sub-voxel; voxels of the probability map from a method, voxels of the
        tomogram from postprocessing.detect
    scores : (N,) float64 in 0..1, highest first
    """

    coordinates_zyx: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def sorted(self) -> "Detections":
        """Highest score first; equal scores in the order of z, y, x, so that the result is reproducible."""
        z, y, x = self.coordinates_zyx.T
        order = np.lexsort((x, y, z, -self.scores))
        return Detections(self.coordinates_zyx[order], self.scores[order])

    def on_fine_grid(self, stride: int) -> "Detections":
        """The same places counted in voxels of a grid that is ``stride`` times finer.

        Voxel j of the coarse grid covers fine voxels ``stride * j`` to ``stride * (j + 1) - 1``; its centre is
        theirs.
        """
        return Detections((self.coordinates_zyx + 0.5) * stride - 0.5, self.scores)


def no_detections() -> Detections:
    return Detections(np.empty((0, 3)), np.empty(0))
