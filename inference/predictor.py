"""One or several networks over one or several views -> one probability map."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from errors import InputError
from inference.compilation import compiled
from inference.memory import NetworkCost, memory_limit_bytes, network_cost, predicted_bytes
from inference.planning import Plan, Planner
from inference.settings import PRECISIONS, InferenceSettings
from inference.sliding_window import sliding_window
from models.folding import fold_norms
from tta.orientations import ORIENTATIONS, turned
from tta.views import MERGES

# Voxels of the window on which the memory of a network is counted: what a voxel takes is the same in larger ones.
COUNTED_SIDE = 96


@dataclass(frozen=True)
class Prediction:
    """Probabilities of a tomogram's voxels, on the grid of the networks' output.

    Attributes
    ----------
    probability : (C, ceil(Z / s), ceil(Y / s), ceil(X / s)) float32 on the predictor's device; the sum over C is 1
    variance : of the same shape: of the probability over views and networks; None for one view of one network
    stride : s; voxel j lies at voxel (j + 0.5) * s - 0.5 of the tomogram
    """

    probability: Tensor
    variance: Tensor | None
    stride: int


class Predictor:
    """Networks on a device, ready to turn tomograms into probability maps.

    Parameters
    ----------
    networks : logits (B, C, Z / s, Y / s, X / s) from (B, 1, Z, Y, X), s the same for all of them; they stay as they
        are, copies made for inference live on the device
    settings : InferenceSettings
    device : where networks, volume and result live

    Attributes
    ----------
    output_stride : s; voxel j of the probability map lies at voxel (j + 0.5) * s - 0.5 of the tomogram
    views : the orientations of every window that the networks predict
    """

    def __init__(self, networks: Sequence[nn.Module], settings: InferenceSettings, device: torch.device) -> None:
        strides = sorted({network.output_stride for network in networks})
        if len(strides) > 1:
            raise ValueError(f"networks of different output strides {strides} cannot be averaged")
        self.output_stride = strides[0]
        self.settings = settings
        self.device = device
        self.views = turned(ORIENTATIONS[settings.tta_group], settings.tilt_axis)
        # The mean of one is itself, without the rounding of its logarithm.
        self._merge = settings.tta_merge if len(self.views) * len(networks) > 1 else MERGES[0]
        # Channels last is the layout in which 3D convolutions are fastest, on GPUs and CPUs alike.
        self._networks = [
            fold_norms(network.eval()).to(device, memory_format=torch.channels_last_3d) for network in networks
        ]
        self._planner = Planner(
            settings,
            divisor=math.lcm(self.output_stride, *(network.divisor for network in networks)),
            stride=self.output_stride,
            num_views=len(self.views),
            on_gpu=device.type == "cuda",
        )
        self._plans: dict[tuple[int, ...], Plan] = {}
        self._window = self._resolved_window()
        self._calls = [compiled(network, device) if settings.compile else network for network in self._networks]

    def window_for(self, shape_zyx: Sequence[int]) -> tuple[int, int, int]:
        """The window used for a tomogram of that shape."""
        return self.plan_for(shape_zyx).grid.window_zyx

    def plan_for(self, shape_zyx: Sequence[int]) -> Plan:
        """The windows of a tomogram of that shape; chosen once, by the memory that there is then."""
        shape = tuple(shape_zyx)
        if shape not in self._plans:
            self._plans[shape] = self._chosen_plan(shape)
        return self._plans[shape]

    @torch.inference_mode()
    def __call__(
        self, volume: np.ndarray | Tensor, progress: Callable[[float], None] = lambda voxels: None
    ) -> Prediction:
        """From a normalised tomogram (Z, Y, X) float32; ``progress`` hears how many of its voxels were done since.

        Where memory runs out, the tomogram is begun again with smaller batches or windows, which stay for the next
        one of its shape; ``progress`` then takes back what it heard.
        """
        if not isinstance(volume, Tensor):
            volume = np.require(volume, requirements="W")  # torch warns of a memory-mapped file's read-only array
        volume = torch.as_tensor(volume, device=self.device)
        plan = self.plan_for(volume.shape)
        done: list[float] = []

        def count(voxels: float) -> None:
            done.append(voxels)
            progress(voxels)

        while True:
            try:
                return self._predict(volume, plan, count)
            except (RuntimeError, MemoryError) as error:
                smaller = self._planner.smaller(plan) if is_out_of_memory(error) else None
                if smaller is None:
                    raise
            # Only here, when the error is forgotten, is the memory free that its stack of calls held.
            warnings.warn(
                f"out of memory with windows of {plan}, {plan.batch_size} per call; "
                f"going on with {smaller}, {smaller.batch_size} per call",
                stacklevel=2,
            )
            progress(-sum(done))
            done.clear()
            plan = self._plans[tuple(volume.shape)] = smaller
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _predict(self, volume: Tensor, plan: Plan, progress: Callable[[float], None]) -> Prediction:
        dtype = PRECISIONS[self.settings.precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            probability, variance = sliding_window(
                volume,
                self._calls,
                grid=plan.grid,
                blend_mode=self.settings.blend_mode,
                batch_size=plan.batch_size,
                views=self.views,
                merge=self._merge,
                progress=progress,
            )
        return Prediction(probability, variance, self.output_stride)

    def _resolved_window(self) -> Literal["auto"] | tuple[int, int, int]:
        window, trained = self.settings.window, self.settings.trained_window_zyx
        if window == "auto" and depends_on_window(self._networks):
            warnings.warn(
                f"windows of {' x '.join(map(str, trained))} voxels as in training: the output of instance norm "
                "depends on the window (give --inference_window D H W for others)",
                stacklevel=3,
            )
            return trained
        return trained if window == "train" else window

    def _chosen_plan(self, shape: tuple[int, ...]) -> Plan:
        """The best of the plans that fits; a window that was asked for is taken unless a limit was given, too."""
        limit_gb = self.settings.max_memory_gb
        if self._window == "auto":
            plans = self._planner.plans(shape)
        else:
            plans = [self._planner.plan(shape, self._window)]
            if limit_gb is None:
                return plans[0]
        limit = memory_limit_bytes(self.device, limit_gb, math.prod(shape))
        needed = [self.predicted_bytes(plan) for plan in plans]
        for plan, bytes_ in zip(plans, needed, strict=True):
            if bytes_ <= limit:
                return plan
        raise InputError(
            f"a tomogram of {' x '.join(map(str, shape))} voxels needs {min(needed) / 1e9:.2f} GB of memory, "
            f"{max(0, limit) / 1e9:.2f} GB are there; raise --max_memory_gb, or use fewer views or smaller windows"
        )

    def predicted_bytes(self, plan: Plan) -> int:
        """Memory that a tomogram cut so takes on top of what is taken before."""
        return predicted_bytes(
            plan.grid,
            self._cost,
            batch_size=plan.batch_size,
            num_views=len(self.views),
            merge=self._merge,
            with_variance=len(self.views) * len(self._networks) > 1,
            device=self.device.type,
        )

    @cached_property
    def _cost(self) -> NetworkCost:
        window = self._planner.plan((COUNTED_SIDE,) * 3, (COUNTED_SIDE,) * 3).grid.window_zyx
        return network_cost(self._networks, window, PRECISIONS[self.settings.precision], self.device)


def depends_on_window(networks: Sequence[nn.Module]) -> bool:
    """Whether a network takes means over its whole input, as instance norm does."""
    return any(isinstance(module, nn.InstanceNorm3d) for network in networks for module in network.modules())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, as torch says it on a GPU and on a CPU."""
    text = str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in text
