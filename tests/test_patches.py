"""Patches: where they are cut, what they hold, and that batch k is always batch k."""

import numpy as np
import pytest
import torch

from data.patches import BatchIndexSampler, PatchBatches
from data.training_volume import TrainingVolume
from errors import InputError

SHAPE = (24, 40, 48)


def volume(centres, images=1):
    """A volume whose voxels tell their own place, labelled 1 at the centres."""
    places = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    mask = np.zeros(SHAPE, np.uint8)
    for label, points in centres.items():
        for z, y, x in np.rint(points).astype(int):
            mask[z, y, x] = label
    return TrainingVolume("TS", tuple(places + k * 1e6 for k in range(images)), mask, centres, 10.0)


def batches(volumes, **changes):
    arguments = {"patch_size_zyx": (16, 16, 16), "batch_size": 64, "background_fraction": 0.0, "seed": 3}
    return PatchBatches(volumes, **{**arguments, **changes})


def test_shapes_and_types():
    batch = batches([volume({1: np.array([[12.0, 20, 24]])})], batch_size=3)[0]
    assert batch["image"].shape == (3, 1, 16, 16, 16) and batch["image"].dtype == torch.float32
    assert batch["label"].shape == (3, 16, 16, 16) and batch["label"].dtype == torch.uint8


def test_image_and_label_are_cut_at_the_same_place():
    data = volume({1: np.array([[12.0, 20, 24], [4, 5, 6]])})
    batch = batches([data])[0]
    for image, label in zip(batch["image"][:, 0], batch["label"], strict=True):
        corner = np.array(np.unravel_index(int(image[0, 0, 0]), SHAPE))
        region = tuple(slice(c, c + 16) for c in corner)
        assert np.array_equal(image.numpy(), data.images[0][region])
        assert np.array_equal(label.numpy(), data.mask[region])


def test_the_particle_lies_within_an_eighth_of_the_centre():
    batch = batches([volume({1: np.array([[12.0, 20, 24]])})])[0]
    places = np.array([np.argwhere(label.numpy() == 1)[0] for label in batch["label"]])
    assert np.abs(places - 7.5).max() <= 16 / 8 + 0.5
    assert np.ptp(places, axis=0).min() >= 2  # and is not always at the same place


def test_a_particle_at_the_border_is_still_inside():
    batch = batches([volume({1: np.array([[0.0, 39, 47]])})])[0]
    assert (batch["label"] == 1).flatten(1).any(dim=1).all()


def test_classes_are_drawn_evenly_however_rare():
    many = np.stack(np.meshgrid([5, 9], np.arange(2, 38, 4), np.arange(2, 20, 4), indexing="ij"), -1).reshape(-1, 3)
    data = volume({1: many.astype(float), 2: np.array([[12.0, 20.0, 40.0]]), 3: np.empty((0, 3))})
    batch = batches([data], batch_size=400)[0]
    share = float((batch["label"] == 2).flatten(1).any(dim=1).float().mean())
    assert 0.4 < share < 0.6


def test_background_patches_lie_anywhere():
    batch = batches([volume({1: np.array([[12.0, 20, 24]])})], background_fraction=1.0, batch_size=300)[0]
    corners = np.array([np.unravel_index(int(image[0, 0, 0, 0]), SHAPE) for image in batch["image"]])
    assert (corners.min(axis=0) == 0).all() and (corners.max(axis=0) == np.array(SHAPE) - 16).all()


def test_a_volume_without_particles_gives_background():
    assert batches([volume({})])[0]["image"].shape[0] == 64


def test_tomogram_types_are_mixed():
    batch = batches([volume({1: np.array([[12.0, 20, 24]])}, images=2)])[0]
    share = float((batch["image"].amin(dim=(1, 2, 3, 4)) >= 1e6 - 1).float().mean())
    assert 0.25 < share < 0.75


def test_batch_k_is_always_batch_k():
    data = [volume({1: np.array([[12.0, 20, 24]])})]
    one, again = batches(data)[5], batches(data)[5]
    assert torch.equal(one["image"], again["image"])
    assert not torch.equal(one["image"], batches(data)[6]["image"])
    assert not torch.equal(one["image"], batches(data, seed=4)[5]["image"])


def test_a_patch_larger_than_the_volume_is_refused():
    with pytest.raises(InputError, match="32 x 16 x 16 does not fit into TS"):
        batches([volume({})], patch_size_zyx=(32, 16, 16))


def test_epochs_go_on_counting():
    sampler = BatchIndexSampler(3)
    assert list(sampler) == [0, 1, 2]
    sampler.set_epoch(2)
    assert list(sampler) == [6, 7, 8] and len(sampler) == 3


def test_processes_that_train_together_share_the_batches_out():
    """Step s of the run on rank r is batch s * world_size + r; together they see every batch once."""
    samplers = [BatchIndexSampler(3, rank, 4) for rank in range(4)]
    epochs = []
    for epoch in range(2):
        for sampler in samplers:
            sampler.set_epoch(epoch)
            assert len(list(sampler)) == len(sampler) == 3
        epochs += [index for sampler in samplers for index in sampler]
    assert sorted(epochs) == list(range(24))
    assert list(samplers[1]) == [13, 17, 21]
    with pytest.raises(ValueError, match="rank 4"):
        BatchIndexSampler(3, 4, 4)


def test_a_run_resumed_with_fewer_processes_repeats_no_batch():
    """Seven steps of four processes, the rest of the epoch of ten by two, the next epoch too."""
    seen = [step * 4 + rank for step in range(7) for rank in range(4)]
    samplers = [BatchIndexSampler(10, rank, 2, first_step=7, first_batch=28) for rank in range(2)]
    for epoch in range(2):
        for sampler in samplers:
            sampler.set_epoch(epoch)
            seen += list(sampler)
    assert sorted(seen) == list(range(7 * 4 + 13 * 2))


def test_a_resumed_run_asks_for_the_rest():
    """From step 7 on: the rest of the second epoch of five, then the third as ever."""
    sampler = BatchIndexSampler(5, rank=1, world_size=2, first_step=7)
    sampler.set_epoch(1)
    assert list(sampler) == [2 * step + 1 for step in (7, 8, 9)]
    sampler.set_epoch(2)
    assert list(sampler) == [2 * step + 1 for step in range(10, 15)]
