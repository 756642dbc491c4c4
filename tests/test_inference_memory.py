"""What a window takes is known beforehand."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from inference import memory
from inference.memory import free_memory_bytes, network_cost, predicted_bytes
from inference.windows import WindowGrid
from models import build_model

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]


class Wide(nn.Module):
    """One float in, eight out, then three: at the peak the twelve that the last layer needs."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv3d(1, 8, 3, padding=1), nn.Conv3d(8, 3, 1)

    def forward(self, volume):
        return self.last(self.first(volume))


@pytest.mark.parametrize(("dtype", "per_float"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_a_network_is_counted_by_hand(dtype, per_float):
    """The window stays while the network runs; in half precision its copy is gone when the second layer begins."""
    cost = network_cost([Wide()], (16, 16, 16), dtype, CPU)
    assert cost.num_classes == 3
    assert cost.bytes_per_voxel == pytest.approx(4 + 11 * per_float, rel=0.2)


def test_the_most_demanding_network_counts():
    networks = [nn.Conv3d(1, 3, 1), Wide()]
    assert network_cost(networks, (16, 16, 16), torch.float32, CPU) == network_cost(
        networks[1:], (16, 16, 16), torch.float32, CPU
    )


def test_the_cost_of_a_voxel_does_not_depend_on_the_window():
    network = build_model("deepfinder2", num_classes=7).eval()
    small, large = (network_cost([network], window, torch.bfloat16, CPU) for window in ((64,) * 3, (184, 632, 632)))
    assert small.bytes_per_voxel == pytest.approx(large.bytes_per_voxel, rel=0.02)


def test_memory_is_maps_windows_and_network():
    cost = memory.NetworkCost(bytes_per_voxel=100.0, num_classes=7)
    one = WindowGrid((64, 64, 64), (64, 64, 64), (16, 16, 16))
    voxels = 64**3

    def predicted(grid, **changes):
        options = {"batch_size": 1, "num_views": 1, "merge": "probability", "with_variance": False, "device": "cpu"}
        return predicted_bytes(grid, cost, **{**options, **changes}) - memory.FIXED_BYTES

    plain = predicted(one)
    assert plain == pytest.approx((7 * 4 + 2 * 4 + 1.1 * 100) * voxels)
    assert predicted(one, with_variance=True, num_views=8) == pytest.approx(plain + 7 * 4 * voxels)
    assert predicted(one, with_variance=True, num_views=8, merge="logit") == pytest.approx(plain + 2 * 7 * 4 * voxels)
    assert predicted(one, batch_size=8) == plain  # there is one view of one window
    assert predicted(one, num_views=8, batch_size=8) == pytest.approx(plain + 7 * (4 + 110) * voxels)
    many = WindowGrid((64, 64, 640), (64, 64, 64), (16, 16, 16))
    assert predicted(many) == pytest.approx(plain + 7 * 4 * 10 * voxels)
    coarse = WindowGrid((64, 64, 64), (64, 64, 64), (16, 16, 16), 2)
    assert predicted(coarse) == pytest.approx(plain - 7 * 4 * voxels * 7 / 8)


def test_what_is_free_leaves_room_for_others_and_for_reading(monkeypatch):
    monkeypatch.setattr(memory, "available_memory_bytes", lambda: 20 * 10**9)
    assert free_memory_bytes(CPU, 10**8) == 17 * 10**9 - 12 * 10**8


def test_a_gpu_has_what_its_allocator_holds_and_needs_room_for_the_tomogram(monkeypatch):
    for name, value in (("memory_reserved", 7), ("memory_allocated", 4), ("mem_get_info", (10, 12))):
        scaled = tuple(one * 10**9 for one in value) if name == "mem_get_info" else value * 10**9
        monkeypatch.setattr(torch.cuda, name, lambda _, scaled=scaled: scaled)
    assert free_memory_bytes(torch.device("cuda"), 10**8) == 13 * 10**9 - 4 * 10**8
    # What the allocator holds may be the pool of CUDA graphs, which nobody else can use.
    assert free_memory_bytes(torch.device("cuda"), 10**8, graphs=True) == 10 * 10**9 - 4 * 10**8


MEASURED = """
from pathlib import Path
import numpy as np, torch
from inference.predictor import Predictor
from inference.settings import InferenceSettings
from models import build_model

def status(name):
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) * 1024

def predictor(window):
    networks = [build_model("deepfinder2", num_classes=7) for _ in range(2)]
    return Predictor(networks, InferenceSettings(window, 0.25, "gaussian", 1, "none", "bf16"), torch.device("cpu"))

torch.set_num_threads(1)
predictor((48, 48, 48))(np.zeros((48, 48, 48), np.float32))  # what torch loads with its first convolution
one, volume = predictor((96, 160, 160)), np.random.default_rng(0).random((96, 160, 160), dtype=np.float32)
plan = one.plan_for(volume.shape)
print(one.predicted_bytes(plan))
before = status("VmRSS")
one(volume)
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are counted otherwise elsewhere")
def test_the_predicted_peak_is_the_measured_one():
    done = subprocess.run([sys.executable, "-c", MEASURED], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    predicted, measured = map(int, done.stdout.split())
    assert 0.6 * predicted < measured < predicted
