"""One or several networks over one or several views -> one probability map."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from inference.sliding_window import count_windows, sliding_window
from tta.orientations import ORIENTATIONS

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class InferenceSettings:
    """How a tomogram goes through the networks.

    Attributes
    ----------
    window_zyx : voxels; shrunk to the tomogram, then up to what the network can take
    overlap : share of the window's side
    blend_mode : gaussian or constant
    batch_size : views of windows per call
    tta_group : a name in tta.orientations.ORIENTATIONS
    precision : fp32, bf16 or fp16
    """

    window_zyx: tuple[int, int, int]
    overlap: float
    blend_mode: str
    batch_size: int
    tta_group: str
    precision: str


@dataclass(frozen=True)
class Prediction:
    """What the networks say about a tomogram, on the grid that they answer at.

    Attributes
    ----------
    probability : (C, ceil(Z / s), ceil(Y / s), ceil(X / s)) float32 on the predictor's device; the sum over C is 1
    variance : of the same shape: of the probability over views and networks; None for one view of one network
    stride : s; place j lies at voxel (j + 0.5) * s - 0.5 of the tomogram
    """

    probability: Tensor
    variance: Tensor | None
    stride: int


class Predictor:
    """Networks on a device, ready to turn tomograms into probability maps.

    Parameters
    ----------
    networks : logits (B, C, Z / s, Y / s, X / s) from (B, 1, Z, Y, X), s the same for all of them; their
        probabilities are averaged
    settings : InferenceSettings
    device : where networks, volume and result live

    Attributes
    ----------
    output_stride : s; place j of the probability map lies at voxel (j + 0.5) * s - 0.5 of the tomogram
    """

    def __init__(self, networks: Sequence[nn.Module], settings: InferenceSettings, device: torch.device) -> None:
        # Channels last is the layout in which 3D convolutions are fastest, on GPUs and CPUs alike.
        self.networks = [network.to(device, memory_format=torch.channels_last_3d).eval() for network in networks]
        strides = sorted({network.output_stride for network in self.networks})
        if len(strides) > 1:
            raise ValueError(f"networks of different output strides {strides} cannot be averaged")
        self.output_stride = strides[0]
        self.settings = settings
        self.device = device

    def window_for(self, shape_zyx: Sequence[int]) -> tuple[int, int, int]:
        """The window used for a tomogram of that shape: no larger than needed, sides the networks can take."""
        divisor = math.lcm(self.output_stride, *(network.divisor for network in self.networks))
        return tuple(
            divisor * -(-min(side, wanted) // divisor)
            for side, wanted in zip(shape_zyx, self.settings.window_zyx, strict=True)
        )

    @torch.inference_mode()
    def __call__(
        self, volume: np.ndarray | Tensor, progress: Callable[[float], None] = lambda voxels: None
    ) -> Prediction:
        """From a normalised tomogram (Z, Y, X) float32; ``progress`` hears how many of its voxels were done since."""
        if not isinstance(volume, Tensor):
            volume = np.require(volume, requirements="W")  # torch warns of a memory-mapped file's read-only array
        window = self.window_for(volume.shape)
        windows = count_windows(volume.shape, window, self.settings.overlap, self.output_stride)
        voxels_of_window = math.prod(volume.shape) / windows
        probability = sliding_window(
            torch.as_tensor(volume, device=self.device),
            self._mean_probability,
            window_zyx=window,
            overlap=self.settings.overlap,
            blend_mode=self.settings.blend_mode,
            batch_size=self.settings.batch_size,
            views=ORIENTATIONS[self.settings.tta_group],
            output_stride=self.output_stride,
            progress=lambda done: progress(done * voxels_of_window),
        )
        return Prediction(probability, None, self.output_stride)

    def _mean_probability(self, batch: Tensor) -> Tensor:
        dtype = PRECISIONS[self.settings.precision]
        total = None
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            for network in self.networks:
                probability = torch.softmax(network(batch).float(), dim=1)
                total = probability if total is None else total + probability
        return total / len(self.networks)
