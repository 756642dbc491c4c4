"""The cache of normalised tomograms: what it gives is right, whatever happened to its files."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr

from data import locks, tomogram_cache
from data.normalization import clip_to_percentiles
from data.tomogram import Tomogram, open_tomogram
from data.tomogram_cache import TomogramCache
from errors import InputError

SHAPE = (12, 20, 24)
PERCENTILES = (1.0, 99.0)


def write(path, seed=0):
    voxels = np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)
    zarr.create_array(path, shape=SHAPE, chunks=(8, 8, 8), dtype="f4", overwrite=True)[:] = voxels
    return voxels


@pytest.fixture
def source(tmp_path):
    return tmp_path / "denoised.zarr", write(tmp_path / "denoised.zarr")


def load(tmp_path, path=None, percentiles=PERCENTILES, run_name="TS_1", tomo_type="denoised"):
    tomogram = open_tomogram(path or tmp_path / "denoised.zarr", voxel_spacing_angstrom=10.0)
    cache = TomogramCache(tmp_path / "cache")
    return cache.load(tomogram, percentiles, run_name=run_name, tomo_type=tomo_type)


def entries(tmp_path):
    return sorted(path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.name != ".lock")


@pytest.fixture
def count(monkeypatch):
    """How often a tomogram was normalised."""
    made, read = [], Tomogram.read
    monkeypatch.setattr(Tomogram, "read", lambda self: made.append(1) or read(self))
    return made


@pytest.mark.parametrize("percentiles", [PERCENTILES, None])
def test_normalised_once_and_the_same_ever_after(tmp_path, source, count, percentiles):
    expected = source[1] if percentiles is None else clip_to_percentiles(source[1], *percentiles)
    for _ in range(3):
        image = load(tmp_path, percentiles=percentiles)
        assert image.dtype == np.float32 and np.array_equal(image, expected) and isinstance(image, np.memmap)
        image[:] = 7.0  # private to the process
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


def _too_long(content):
    return content + bytes(4)


def _emptied(content):
    return b""


def _no_array(content):
    return b"not an array at all"


@pytest.mark.parametrize("damage", [_cut_short, _too_long, _emptied, _no_array])
def test_a_damaged_entry_is_made_again(tmp_path, source, damage):
    load(tmp_path)
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    with pytest.warns(UserWarning, match="damaged and made again"):
        image = load(tmp_path)
    assert np.array_equal(image, clip_to_percentiles(source[1], *PERCENTILES))
    assert entry.read_bytes() == whole and entries(tmp_path) == [entry]


def test_an_entry_of_another_shape_is_not_trusted(tmp_path, source):
    load(tmp_path)
    (entry,) = entries(tmp_path)
    np.save(entry, np.zeros((2, 3, 4), np.float32))
    with pytest.warns(UserWarning, match="damaged"):
        assert load(tmp_path).shape == SHAPE


@pytest.mark.parametrize("lockable", [True, False])
def test_several_at_once(tmp_path, source, count, monkeypatch, lockable):
    """All of them find no entry; one makes it, or each where the file system knows no locks, and that is as good.

    Threads stand for processes, which share nothing but the files.
    """
    if not lockable:
        everyone_has_written, save = threading.Barrier(4), np.save
        monkeypatch.setattr(np, "save", lambda *a: (save(*a), everyone_has_written.wait(30)))
        monkeypatch.setattr(locks.FileLock, "acquire", refuse)
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda _: load(tmp_path), range(4)))
    assert len(count) == (1 if lockable else 4)
    expected = clip_to_percentiles(source[1], *PERCENTILES)
    assert all(np.array_equal(image, expected) for image in [*images, load(tmp_path)])
    assert len(entries(tmp_path)) == 1, "a whole entry, and no temporary file beside it"


def refuse(*_, **__):
    raise OSError("no locks available")


def test_a_failure_leaves_nothing_behind(tmp_path, source, monkeypatch):
    def fail(*_):
        raise RuntimeError

    monkeypatch.setattr(tomogram_cache, "clip_to_percentiles", fail)
    with pytest.raises(RuntimeError):
        load(tmp_path)
    assert entries(tmp_path) == []


def test_an_entry_in_a_folder_that_cannot_be_written_to_serves(tmp_path, source, count):
    load(tmp_path)
    for folder in (tmp_path / "cache" / "TS_1", tmp_path / "cache"):
        folder.chmod(0o555)
    try:
        assert np.array_equal(load(tmp_path), clip_to_percentiles(source[1], *PERCENTILES)) and len(count) == 1
    finally:
        for folder in (tmp_path / "cache", tmp_path / "cache" / "TS_1"):
            folder.chmod(0o755)


def test_a_cache_that_cannot_be_written_is_one_clear_error(tmp_path, source):
    (tmp_path / "cache").write_text("")
    with pytest.raises(InputError, match="choose another"):
        load(tmp_path)


def test_a_resampled_tomogram_has_an_entry_of_its_own(tmp_path, source):
    path, cache = source[0], TomogramCache(tmp_path / "cache")
    for wanted in (None, 20.0, 5.0, 20.0):
        tomogram = open_tomogram(path, voxel_spacing_angstrom=10.0, rescale_to_angstrom=wanted)
        image = cache.load(tomogram, PERCENTILES, run_name="TS_1", tomo_type="denoised")
        np.testing.assert_array_equal(image, clip_to_percentiles(tomogram.read(), *PERCENTILES))
    assert len(entries(tmp_path)) == 3
    same_shape = open_tomogram(path, voxel_spacing_angstrom=9.98, rescale_to_angstrom=20.0)
    cache.load(same_shape, PERCENTILES, run_name="TS_1", tomo_type="denoised")
    assert len(entries(tmp_path)) == 4
