"""Tomograms on disk look like the arrays they stand for, to the last bit."""

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from data import lazy_tomogram
from data.lazy_tomogram import open_lazily, percentile_limits, slabs
from data.normalization import clip_to_percentiles
from data.tomogram import Tomogram, open_tomogram
from errors import InputError


class InMemory:
    """A volume for a Tomogram."""

    spacing_zyx = None

    def __init__(self, voxels):
        self.voxels, self.shape_zyx = voxels, voxels.shape

    def read(self, region):
        return self.voxels[region]


def tomogram_of(voxels, path="a.zarr"):
    return Tomogram(Path(path), voxels.shape, 10.0, InMemory(voxels))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.tuples(st.floats(0, 50), st.floats(50.1, 100)),
    st.sampled_from(["normal", "tiny", "few values", "integers", "constant"]),
)
def test_limits_are_the_percentiles_of_the_whole(seed, bounds, kind):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 9, 3))
    voxels = {
        "normal": rng.normal(size=shape),
        "tiny": rng.normal(size=shape) * 1e-5 - 1e-5,
        "few values": rng.choice([-1.5, -0.0, 0.0, 2.0], shape),
        "integers": rng.integers(-128, 128, shape),
        "constant": np.full(shape, -3.0),
    }[kind].astype(np.float32)
    assert percentile_limits(tomogram_of(voxels), *bounds) == tuple(np.percentile(voxels, bounds))


@pytest.fixture(params=["zarr", "mrc"])
def tomogram(request, tmp_path):
    voxels = np.random.default_rng(0).normal(size=(20, 30, 40)).astype(np.float32) * 1e-5
    path = tmp_path / f"tomogram.{request.param}"
    if request.param == "zarr":
        zarr.create_array(path, shape=voxels.shape, chunks=(8, 16, 16), dtype="f4")[:] = voxels
    else:
        with mrcfile.new(path) as mrc:
            mrc.set_data(voxels)
    return open_tomogram(path, voxel_spacing_angstrom=10.0)


def test_a_patch_read_lazily_is_the_patch_cut_from_memory(tomogram, monkeypatch):
    monkeypatch.setattr(lazy_tomogram, "SLAB_PLANES", 7)
    whole = clip_to_percentiles(tomogram.read(), 0.5, 99.5)
    image = open_lazily(tomogram, (0.5, 99.5))
    assert image.shape == whole.shape
    for corner in ((0, 0, 0), (3, 5, 7), (12, 22, 32)):
        region = tuple(slice(c, c + 8) for c in corner)
        assert image[region].dtype == np.float32 and np.array_equal(image[region], whole[region])
    assert np.array_equal(np.asarray(image), whole)
    assert np.array_equal(image[:], whole) and np.array_equal(image[3:9], whole[3:9])


def test_without_percentiles_the_values_are_raw(tomogram):
    image = open_lazily(tomogram, None)
    assert np.array_equal(image[2:5, 3:9, 0:40], tomogram.read()[2:5, 3:9])


def test_never_more_than_a_slab_at_once(monkeypatch):
    monkeypatch.setattr(lazy_tomogram, "SLAB_PLANES", 4)
    asked = []
    monkeypatch.setattr(InMemory, "read", lambda self, region: asked.append(region) or self.voxels[region])
    open_lazily(tomogram_of(np.random.default_rng(0).normal(size=(10, 4, 4))), (1, 99))
    assert max(z.stop - z.start for z, _, _ in asked) == 4
    assert [r[0] for r in asked] == [slice(0, 4), slice(4, 8), slice(8, 10)] * 2


def test_slabs_are_the_volume_once():
    count = np.zeros((130, 2, 3), int)
    for region in slabs(count.shape):
        count[region] += 1
    assert (count == 1).all()


def test_a_constant_tomogram_is_zero():
    assert not np.asarray(open_lazily(tomogram_of(np.full((3, 4, 5), 7.0)), (0, 100))).any()


def test_what_cannot_be_read_in_parts_is_refused():
    with pytest.raises(InputError, match="decompress it"):
        open_lazily(tomogram_of(np.zeros((2, 2, 2)), "a.mrc.gz"), (1, 99))


def test_percentiles_out_of_order_are_refused():
    with pytest.raises(InputError, match="percentiles"):
        open_lazily(tomogram_of(np.zeros((2, 2, 2))), (60, 40))
