"""One or several networks over one or several views -> one probability map."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from errors import InputError, is_out_of_memory
from inference.compilation import compiled, forget_graphs
from inference.memory import NetworkCost, free_memory_bytes, network_cost, predicted_bytes
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
        self.settings = settings = settings.on(device)
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
        """The windows of a tomogram of that shape; chosen once, whatever memory is free.

        Raises
        ------
        InputError : --max_memory_gb is too low for the windows asked for, or for any.
        """
        shape = tuple(shape_zyx)
        if shape not in self._plans:
            self._plans[shape] = self._chosen_plan(shape)
        return self._plans[shape]

    def use_window(self, shape_zyx: Sequence[int], window_zyx: Sequence[int]) -> None:
        """Take windows of that size for tomograms of that shape from now on."""
        if self.window_for(shape_zyx) != tuple(window_zyx):
            self._plans[tuple(shape_zyx)] = self._planner.plan(shape_zyx, window_zyx)

    def fit(self, shape_zyx: Sequence[int]) -> None:
        """Change to smaller batches or windows, with a warning, where those of :meth:`plan_for` do not fit now.

        Raises
        ------
        InputError : nothing fits into the memory that is free.
        """
        shape, plan = tuple(shape_zyx), self.plan_for(shape_zyx)
        free = free_memory_bytes(self.device, math.prod(shape), graphs=self.settings.compile)
        if self.predicted_bytes(plan) <= free:
            return
        smaller = next((one for one in self._smaller(plan) if self.predicted_bytes(one) <= free), None)
        if smaller is None:
            raise InputError(
                f"{self._needs(shape, [plan, *self._smaller(plan)])}, {max(0, free) / 1e9:.2f} GB are free; "
                "use fewer views, or a machine with more memory"
            )
        if smaller.grid.window_zyx != plan.grid.window_zyx:
            warnings.warn(
                f"windows of {smaller} voxels, not {plan}, since {free / 1e9:.2f} GB are free: probabilities differ a "
                "little from those on a machine with more memory",
                stacklevel=2,
            )
        self._plans[shape] = smaller

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
            if self.settings.compile:
                forget_graphs()
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
                full_batches=self.settings.compile,
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
        """The best of those within the limit; a window that was asked for is taken unless a limit was given, too."""
        limit_gb = self.settings.max_memory_gb
        if self._window != "auto" and limit_gb is None:
            return self._planner.plan(shape, self._window)
        default_gb = self.settings.gpu_memory_gb if self.device.type == "cuda" else self.settings.cpu_memory_gb
        limit = 1e9 * (default_gb if limit_gb is None else limit_gb)
        plans = self._planner.plans(shape) if self._window == "auto" else [self._planner.plan(shape, self._window)]
        plans = [batch for plan in plans for batch in self._planner.batches(plan)]
        for plan in plans:
            if self.predicted_bytes(plan) <= limit:
                return plan
        if limit_gb is not None:
            raise InputError(
                f"{self._needs(shape, plans)}; raise --max_memory_gb, or use fewer views or smaller windows"
            )
        return min(plans, key=self.predicted_bytes)

    def _smaller(self, plan: Plan) -> Iterator[Plan]:
        """What to change to where a plan does not fit, best first."""
        yield from self._planner.batches(plan)
        if self._window == "auto":
            for other in self._planner.plans(plan.grid.shape_zyx):
                yield from self._planner.batches(other)
        else:
            while plan := self._planner.smaller(plan):
                yield plan

    def _needs(self, shape: Sequence[int], plans: Sequence[Plan]) -> str:
        least = min(map(self.predicted_bytes, plans))
        return f"a tomogram of {' x '.join(map(str, shape))} voxels needs {least / 1e9:.2f} GB of memory"

    def predicted_bytes(self, plan: Plan) -> int:
        """Memory that a tomogram cut so takes on top of what is taken before."""
        window, views = plan.grid.window_zyx, self.views
        return predicted_bytes(
            plan.grid,
            self._cost,
            batch_size=plan.batch_size,
            num_views=len(self.views),
            merge=self._merge,
            with_variance=len(self.views) * len(self._networks) > 1,
            device=self.device.type,
            graphs=len({tuple(window[axis] for axis in view.order) for view in views}) if self.settings.compile else 0,
        )

    @cached_property
    def _cost(self) -> NetworkCost:
        window = self._planner.plan((COUNTED_SIDE,) * 3, (COUNTED_SIDE,) * 3).grid.window_zyx
        return network_cost(self._networks, window, PRECISIONS[self.settings.precision], self.device)


def depends_on_window(networks: Sequence[nn.Module]) -> bool:
    """Whether a network takes means over its whole input, as instance norm does."""
    return any(isinstance(module, nn.InstanceNorm3d) for network in networks for module in network.modules())
