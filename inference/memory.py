"""How much memory a window takes, known before it is taken."""

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from inference.available_memory import available_memory_bytes
from inference.windows import WindowGrid

# What allocators, reordered weights and workspaces of convolutions take on top of the tensors. The workspaces of cuDNN
# cannot be foreseen; it does with less where there is no more. On a CPU the peaks measured lie between 0.7 and 1.0 of
# those predicted (deepfinder2 and resnet18, both strides, bf16 and fp32, one window and four, 1 to 8 views).
ALLOWANCE = {"cpu": 1.1, "cuda": 1.3}
# Slabs of the merger, and what torch keeps for small tensors.
FIXED_BYTES = 128 * 2**20
# Of main memory and voxel of a tomogram while the next is read: grey values, normalised values, percentiles.
READING_BYTES = 12
# Of what main memory has free windows leave a rest to others.
FREE_SHARE = 0.85
FLOAT = 4


@dataclass(frozen=True)
class NetworkCost:
    """Of the most demanding of the networks: bytes per voxel of a call at its peak, input and output included."""

    bytes_per_voxel: float
    num_classes: int


class LiveBytes(TorchDispatchMode):
    """Counts the storage that is alive while operations run."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(results):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return results

    def _count(self, storage: torch.UntypedStorage) -> None:
        address, size = storage._cdata, storage.nbytes()
        if address not in self._alive:
            self._alive[address] = weakref.ref(storage, lambda _: self._forget(address, size))
            self.now += size
            self.peak = max(self.peak, self.now)

    def _forget(self, address: int, size: int) -> None:
        del self._alive[address]
        self.now -= size


def network_cost(
    networks: Sequence[nn.Module], window_zyx: Sequence[int], dtype: torch.dtype, device: torch.device
) -> NetworkCost:
    """Let the networks run over a window of tensors that have a shape but no voxels, and count."""
    peak = 0
    for network in networks:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode(), LiveBytes() as live:
            window = torch.empty(1, 1, *window_zyx, device=device)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                num_classes = network(window).shape[1]
        peak = max(peak, live.peak)
    return NetworkCost(peak / math.prod(window_zyx), num_classes)


def predicted_bytes(
    grid: WindowGrid,
    cost: NetworkCost,
    *,
    batch_size: int,
    num_views: int,
    merge: str,
    with_variance: bool,
    device: str,
    graphs: int = 0,
) -> int:
    """Memory that sliding_window takes at its peak besides volume and networks, its result included.

    Parameters
    ----------
    graphs : CUDA graphs, one for each shape that views give a window; they work in one common pool, and each keeps an
        input and an output of its own
    """
    window_voxels = math.prod(grid.window_zyx)
    windows = min(len(grid), max(1, batch_size // num_views))
    calls = min(batch_size, windows * num_views)
    # Buffers of the merger, see tta.views.ViewMerger.
    per_voxel = FLOAT * cost.num_classes * ((1 + with_variance) if merge == "probability" else (1 + 2 * with_variance))
    maps = windows * math.prod(grid.window_map_shape_zyx) * per_voxel
    if len(grid) > 1:
        maps += math.prod(grid.map_shape_zyx) * FLOAT * cost.num_classes * (1 + with_variance)
    inputs = FLOAT * window_voxels * (windows + calls)
    working = cost.bytes_per_voxel * window_voxels * calls
    kept = graphs * FLOAT * calls * (window_voxels + cost.num_classes * math.prod(grid.window_map_shape_zyx))
    return int(maps + inputs + kept + ALLOWANCE[device] * working + FIXED_BYTES)


def free_memory_bytes(device: torch.device, volume_voxels: int, *, graphs: bool = False) -> int:
    """What windows may take now: of a CPU beside the tomogram that is read at the same time, of a GPU beside theirs.

    ``graphs`` : there are CUDA graphs, to whose pool all that the allocator holds may belong
    """
    if device.type == "cuda":
        cached = 0 if graphs else torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached - FLOAT * volume_voxels
    return int(FREE_SHARE * available_memory_bytes()) - READING_BYTES * volume_voxels
