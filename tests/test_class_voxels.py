"""The voxels of a class: all of them in order, their components, and what is said of parts of them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from postprocessing import class_voxels
from postprocessing.class_voxels import class_components, tiles, voxels_above

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("shape", [(3, 4, 5), (4, 8, 16), (7, 11, 13), (1, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_voxels_above_are_all_of_them_in_order(shape, dtype):
    volume = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    for threshold in (0.0, 0.7, 1.0):
        assert torch.equal(voxels_above(volume, threshold), (volume > threshold).nonzero())


def test_many_voxels_are_worked_on_some_at_a_time(monkeypatch):
    volume = torch.rand(9, 11, 13, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    before = class_components(volume, 0.3)
    monkeypatch.setattr(class_voxels, "BLOCK_VOXELS", 100)
    assert torch.equal(voxels_above(volume, 0.3), (volume > 0.3).nonzero())
    after = class_components(volume, 0.3)
    assert np.array_equal(after.labels, before.labels) and np.array_equal(after.origin_zyx, before.origin_zyx)
    for one, other in zip(vars(after.statistics()).values(), vars(before.statistics()).values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_tiles_are_the_volume_once(monkeypatch):
    monkeypatch.setattr(class_voxels, "TILE_SIDE", 10)
    found = np.zeros((25, 9, 31), dtype=int)
    for core, around in tiles(found.shape, 4):
        found[core] += 1
        assert all(a.start == max(0, c.start - 4) for a, c in zip(around, core, strict=True))
        assert all(a.stop == min(side, c.stop + 4) for a, c, side in zip(around, core, found.shape, strict=True))
        assert max(c.stop - c.start for c in core) <= 10
    assert (found == 1).all()


# What one class takes beside the map where the network says nothing: 9 of 10 voxels are above the threshold.
DIFFUSE = """
import sys
from pathlib import Path
import numpy as np, torch
from scipy import ndimage
from postprocessing import METHODS, class_voxels

torch.set_num_threads(1)
class_voxels.BLOCK_VOXELS, class_voxels.TILE_SIDE = 2**18, 64
method, fraction = sys.argv[1], float(sys.argv[2])
keywords = {"trained_radius_voxels": 3.0, "conf_threshold": 0.5, "cluster_radius_fraction": fraction}
noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(64, 180, 180)).astype(np.float32), 2.0)
volume = torch.from_numpy((0.55 + 0.04 * noise / noise.std()).clip(0, 1))
METHODS[method].candidates(volume[:20, :20, :20], **keywords)

def status(name):
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) * 1024

Path("/proc/self/clear_refs").write_text("5")  # peaks count from here
before = status("VmRSS")
METHODS[method].candidates(volume, **keywords)
print((status("VmHWM") - before) / volume.numel())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are counted otherwise elsewhere")
@pytest.mark.parametrize(("method", "fraction", "most"), [("watershed", 0.5, 70), ("meanshift", 1.2, 80)])
def test_a_diffuse_map_takes_bounded_memory(method, fraction, most):
    done = subprocess.run(
        [sys.executable, "-c", DIFFUSE, method, str(fraction)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "the map is diffuse" in done.stderr and float(done.stdout) < most


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 9), (6, 1, 5), (9, 11, 13)])
def test_components_and_statistics_are_those_of_scipy(shape, share):
    rng = np.random.default_rng(0)
    volume = np.where(rng.random(shape) < share, rng.uniform(0.5001, 1, shape), 0.1)
    mask = volume > 0.5
    components = class_components(torch.from_numpy(volume), 0.5)
    if not mask.any():
        assert components is None
        return
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    found, numbers = components.statistics(), range(1, count + 1)
    theirs = np.array(ndimage.center_of_mass(mask, labels, numbers))
    order, their_order = np.lexsort(found.coordinates_zyx.T), np.lexsort(theirs.T)
    np.testing.assert_allclose(found.coordinates_zyx[order], theirs[their_order])
    np.testing.assert_allclose(found.scores[order], np.array(ndimage.mean(volume, labels, numbers))[their_order])
    assert found.sizes[order].tolist() == np.bincount(labels.ravel())[1:][their_order].tolist()
    box = tuple(slice(a, a + side) for a, side in zip(components.origin_zyx, components.labels.shape, strict=True))
    assert np.array_equal(components.labels > 0, mask[box])
