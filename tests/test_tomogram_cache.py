"""The cache of normalised tomograms: what it gives is right, whatever happened to its files."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr

from data import tomogram_cache
from data.normalization import clip_to_percentiles
from data.tomogram import open_tomogram
from data.tomogram_cache import TomogramCache

SHAPE = (12, 20, 24)
PERCENTILES = (1.0, 99.0)


def write(path, seed=0):
    voxels = np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)
    zarr.create_array(path, shape=SHAPE, chunks=(8, 8, 8), dtype="f4", overwrite=True)[:] = voxels
    return voxels


@pytest.fixture
def source(tmp_path):
    return tmp_path / "denoised.zarr", write(tmp_path / "denoised.zarr")


def load(tmp_path, path=None, percentiles=PERCENTILES, run_name="TS_1", tomo_type="denoised", in_memory=True):
    tomogram = open_tomogram(path or tmp_path / "denoised.zarr", voxel_spacing_angstrom=10.0)
    cache = TomogramCache(tmp_path / "cache")
    return cache.load(tomogram, percentiles, run_name=run_name, tomo_type=tomo_type, in_memory=in_memory)


def entries(tmp_path):
    return sorted(path for path in (tmp_path / "cache").rglob("*") if path.is_file())


@pytest.fixture
def count(monkeypatch):
    """How often a tomogram was normalised."""
    made = []
    for name in ("normalise", "open_lazily"):
        original = getattr(tomogram_cache, name)
        monkeypatch.setattr(tomogram_cache, name, lambda *args, _original=original: made.append(1) or _original(*args))
    return made


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("percentiles", [PERCENTILES, None])
def test_normalised_once_and_the_same_ever_after(tmp_path, source, count, in_memory, percentiles):
    expected = source[1] if percentiles is None else clip_to_percentiles(source[1], *percentiles)
    for first in (in_memory, True, False):
        image = load(tmp_path, percentiles=percentiles, in_memory=first)
        assert image.dtype == np.float32 and np.array_equal(image, expected)
        assert isinstance(image, np.memmap) != first
    assert len(count) == 1 and len(entries(tmp_path)) == 1
    (entry,) = entries(tmp_path)
    assert entry.parent.name == "TS_1" and entry.name.startswith("denoised-")
    assert np.array_equal(np.load(entry), expected)


def test_another_file_is_another_entry_that_replaces_the_old(tmp_path, source, count):
    load(tmp_path, percentiles=(2.0, 98.0))
    changed = write(source[0], seed=1)
    image = load(tmp_path, percentiles=(2.0, 98.0))
    assert np.array_equal(image, clip_to_percentiles(changed, 2.0, 98.0))
    assert len(count) == 2 and len(entries(tmp_path)) == 1


def test_other_percentiles_have_an_entry_of_their_own(tmp_path, source, count):
    """Two experiments that differ in them share a cache without undoing each other's work."""
    for _ in range(2):
        load(tmp_path)
        load(tmp_path, percentiles=(2.0, 98.0))
    assert len(count) == 2 and len(entries(tmp_path)) == 2


def test_a_chunk_that_was_touched_counts_as_changed(tmp_path, source, count):
    load(tmp_path)
    chunk = next(path for path in sorted(source[0].rglob("*")) if path.is_file() and path.name != "zarr.json")
    os.utime(chunk, ns=(1, 1))
    load(tmp_path)
    assert len(count) == 2


def test_other_runs_types_and_sources_are_left_alone(tmp_path, source, count):
    write(tmp_path / "elsewhere.zarr", seed=2)
    variants = [
        {},
        {"run_name": "TS_10"},
        {"tomo_type": "wbp"},
        {"tomo_type": "denoised-x"},
        {"path": tmp_path / "elsewhere.zarr"},
    ]
    for variant in [*variants, *variants]:
        load(tmp_path, **variant)
    assert len(count) == len(variants) == len(entries(tmp_path))


def _cut_short(content):
    return content[:-100]


def _emptied(content):
    return b""


def _one_bit(content):
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def _zeros_at_the_end(content):
    return content[:-1000] + bytes(1000)


def _no_array(content):
    return b"not an array at all"


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("damage", [_cut_short, _emptied, _one_bit, _zeros_at_the_end, _no_array])
def test_a_damaged_entry_is_made_again(tmp_path, source, damage, in_memory):
    load(tmp_path)
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    with pytest.warns(UserWarning, match="damaged and made again"):
        image = load(tmp_path, in_memory=in_memory)
    assert np.array_equal(image, clip_to_percentiles(source[1], *PERCENTILES))
    assert entry.read_bytes() == whole and entries(tmp_path) == [entry]


def test_an_entry_of_another_shape_is_not_trusted(tmp_path, source):
    load(tmp_path)
    (entry,) = entries(tmp_path)
    tomogram_cache._write(entry, np.zeros((2, 3, 4), np.float32))
    with pytest.warns(UserWarning, match="damaged"):
        assert load(tmp_path).shape == SHAPE


def test_several_at_once(tmp_path, source, count, monkeypatch):
    """All of them find no entry and make one; threads stand for processes, which share nothing but the files."""
    everyone_has_written = threading.Barrier(4)
    write_entry = tomogram_cache._write
    monkeypatch.setattr(tomogram_cache, "_write", lambda *a: (write_entry(*a), everyone_has_written.wait(30)))
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda _: load(tmp_path), range(4)))
    assert len(count) == 4
    expected = clip_to_percentiles(source[1], *PERCENTILES)
    assert all(np.array_equal(image, expected) for image in [*images, load(tmp_path)])
    assert len(count) == 4 and len(entries(tmp_path)) == 1, "a whole entry, and no temporary file beside it"


def test_a_failure_leaves_nothing_behind(tmp_path, source, monkeypatch):
    def fail(*_):
        raise RuntimeError

    monkeypatch.setattr(tomogram_cache, "slabs", fail)
    with pytest.raises(RuntimeError):
        load(tmp_path)
    assert entries(tmp_path) == []
