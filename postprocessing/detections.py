"""What every detection method returns."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Detections:
    """Particles of one class.

    Attributes
    ----------
    coordinates_zyx : (N, 3) float64, sub-voxel; voxels of the probability map from a method, voxels of the
        tomogram from postprocessing.detect and postprocessing.candidates
    scores : (N,) float64 in 0..1
    sizes : (N,) float64, voxels of the same grid: of the component, of the part that the watershed cuts from it, of
        the cluster; of a peak those voxels of the trained sphere about it where the map holds more than half of its
        score
    """

    coordinates_zyx: np.ndarray
    scores: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: np.ndarray) -> "Detections":
        """Some of the detections, by numbers or by a mask."""
        return Detections(self.coordinates_zyx[index], self.scores[index], self.sizes[index])

    def on_fine_grid(self, stride: int) -> "Detections":
        """The same positions and sizes counted in voxels of a grid that is ``stride`` times finer.

        Voxel j of the coarse grid covers fine voxels ``stride * j`` to ``stride * (j + 1) - 1``; its centre is
        theirs.
        """
        return Detections((self.coordinates_zyx + 0.5) * stride - 0.5, self.scores, self.sizes * stride**3)


def no_detections() -> Detections:
    return Detections(np.empty((0, 3)), np.empty(0), np.empty(0))
