"""Training volumes: the same patches from memory, from the cache and from disk; how much is held in memory."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import zarr

import prepare_mask_czi
from data.lazy_tomogram import LazyTomogram
from data.normalization import clip_to_percentiles
from data.patches import PatchBatches
from data.tomogram import open_tomogram
from data.training_volume import VolumeSource
from particle_config import PARTICLES

GIGABYTE = 1e9


@pytest.fixture
def source(phantom, tmp_path):
    """The phantom's two training runs, with a second tomogram type added."""
    shutil.copytree(phantom / "train", tmp_path / "data" / "train")
    for path in sorted((tmp_path / "data").rglob("denoised.zarr")):
        shape = open_tomogram(path).shape_zyx
        voxels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        zarr.create_array(path.parent / "wbp.zarr", shape=shape, chunks=(16, 32, 32), dtype="f4")[:] = voxels
    return VolumeSource(
        data_root=tmp_path / "data",
        mask_root=tmp_path / "mask",
        tomo_types=("denoised", "wbp"),
        radius_fraction=0.5,
        norm_percentiles=(0.5, 99.5),
        particles=PARTICLES,
    )


def bytes_of_a_run(volume):
    return volume.mask.size * (4 * len(volume.images) + 1)


def test_in_memory(source):
    run = source.runs()[0]
    volume = source.load(run)
    tomogram = open_tomogram(run.tomogram_path("denoised"))
    assert np.array_equal(volume.images[0], clip_to_percentiles(tomogram.read(), 0.5, 99.5))
    assert volume.mask.dtype == np.uint8 and volume.mask.shape == volume.images[1].shape
    assert volume.whole_image() is volume.images[0]


def test_without_percentiles_the_values_are_raw(source):
    run = source.runs()[0]
    volume = replace(source, norm_percentiles=None).load(run)
    assert np.array_equal(volume.images[0], open_tomogram(run.tomogram_path("denoised")).read())


@pytest.mark.parametrize("masks_prepared", [False, True])
@pytest.mark.parametrize("cached", [False, True])
def test_batches_do_not_depend_on_where_the_voxels_are(source, tmp_path, cached, masks_prepared):
    if masks_prepared:
        prepare_mask_czi.main(["--data_root", str(source.data_root), "--output_dir", str(source.mask_root)])
    runs = source.runs()
    other = replace(source, cache_dir=tmp_path / "cache" if cached else None)
    volumes = [source.load(run) for run in runs]
    on_disk = [other.load(run, in_memory=False) for run in runs]
    kind = np.memmap if cached else LazyTomogram
    assert all(isinstance(image, kind) for volume in on_disk for image in volume.images)
    assert all(isinstance(volume.mask, np.memmap) == masks_prepared for volume in on_disk)
    settings = {"patch_size_zyx": (16, 24, 32), "batch_size": 3, "background_fraction": 0.3, "seed": 0}
    for index in range(4):
        expected, found = (PatchBatches(v, **settings)[index] for v in (volumes, on_disk))
        assert torch.equal(expected["image"], found["image"]) and torch.equal(expected["label"], found["label"])
    whole = on_disk[0].whole_image()
    assert np.array_equal(whole, volumes[0].images[0])
    assert whole.flags.writeable and torch.from_numpy(whole).shape == whole.shape


def test_runs_are_held_in_memory_in_order_as_long_as_they_fit(source):
    runs = source.runs()
    one_run = bytes_of_a_run(source.load(runs[0])) / GIGABYTE
    for limit, held in ((2.01 * one_run, [True, True]), (1.01 * one_run, [True, False]), (0.0, [False, False])):
        limited = replace(source, max_memory_gb=limit)
        if all(held):
            volumes = list(limited.load_all(runs))
        else:
            with pytest.warns(UserWarning, match=f"{held.count(False)} of 2 runs do not fit"):
                volumes = list(limited.load_all(runs))
        assert [isinstance(volume.images[0], np.ndarray) for volume in volumes] == held


def test_by_default_half_of_the_free_memory_is_used(source, monkeypatch):
    runs = source.runs()
    one_run = bytes_of_a_run(source.load(runs[0]))
    monkeypatch.setattr("data.training_volume.available_memory_bytes", lambda: int(2.1 * one_run))
    with pytest.warns(UserWarning, match="1 of 2 runs"):
        volumes = list(source.load_all(runs))
    assert [isinstance(volume.images[0], np.ndarray) for volume in volumes] == [True, False]


def test_the_cache_gives_what_reading_gives(source, tmp_path):
    run = source.runs()[0]
    cached = replace(source, cache_dir=tmp_path / "cache")
    for _ in range(2):
        for expected, image in zip(source.load(run).images, cached.load(run).images, strict=True):
            assert np.array_equal(expected, image)
    assert len(list((tmp_path / "cache" / run.name).iterdir())) == 2
