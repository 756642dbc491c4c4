"""How tomograms go through networks."""

from dataclasses import dataclass, replace

import torch

from inference.device import usable_precision
from tta.orientations import ORIENTATIONS

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Sides = tuple[int, int, int]


@dataclass(frozen=True)
class InferenceSettings:
    """How a tomogram goes through the networks.

    Attributes
    ----------
    window : voxels Z Y X, shrunk to the tomogram, then up to what the networks take; ``train``: as in training;
        ``auto``: the largest that pays within the memory named below, for networks whose output depends on it as in
        training
    overlap : share of the window's side
    blend_mode : gaussian or constant
    batch_size : views of windows per call; None: one on a CPU, on a GPU as many as keep it busy
    tta_group : a name in tta.orientations.ORIENTATIONS
    precision : fp32, bf16 or fp16; of the last two the one that the device computes in, see :meth:`on`
    max_overlap_voxels : no more overlap than that; None: the share alone
    trained_window_zyx : voxels of a training patch; needed where the window is that of training
    tta_merge : of views and networks, a name in tta.views.MERGES
    tilt_axis : of the data, a name in tta.missing_wedge.TILT_AXES
    compile : networks to CUDA graphs
    max_memory_gb : that windows may take of the device that computes, on top of what is taken before, in 10^9 bytes
    cpu_memory_gb, gpu_memory_gb : the same where no limit is given; not what is free, so that the window and with it
        the map are the same on every machine that has as much. More is taken where even the smallest windows need it.
    """

    window: str | Sides
    overlap: float
    blend_mode: str
    batch_size: int | None
    tta_group: str
    precision: str
    max_overlap_voxels: int | None = None
    trained_window_zyx: Sides | None = None
    tta_merge: str = "probability"
    tilt_axis: str = "y"
    compile: bool = False
    max_memory_gb: float | None = None
    cpu_memory_gb: float = 8.0
    gpu_memory_gb: float = 8.0

    @property
    def num_views(self) -> int:
        return len(ORIENTATIONS[self.tta_group])

    def on(self, device: torch.device) -> "InferenceSettings":
        """The settings as they are used on a device, which may be another machine's than where they were read."""
        return replace(self, precision=usable_precision(self.precision, device))
