"""Amplitudes by frequency, and filters that change them: known spectra, and filters that only do what they say."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_campaign
import torch
from scipy import ndimage

import eval_public_czi
import train
from data.augmentation import filter_frequencies
from data.lazy_array import LazyArray
from data.normalization import clip_to_percentiles
from data.spectrum import (
    LOWEST,
    SHELLS,
    amplitude_spectrum,
    filtered,
    gain_at,
    largest_difference,
    matching_gain,
    mean_spectrum,
    particle_skewness,
    radial_frequencies,
)
from data.tomogram import open_tomogram
from evaluation.arguments import tomogram_settings
from inference.checkpoints import read_description

FREQUENCIES = (np.arange(SHELLS) + 0.5) / SHELLS / 2
LEFT_ALONE = FREQUENCIES < LOWEST


def noise(shape=(80, 96, 112), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def gaussian_gain(sigma_voxels):
    return np.exp(-2 * (np.pi * sigma_voxels * FREQUENCIES) ** 2)


# --- Spectra ------------------------------------------------------------------------------------------
def test_white_noise_has_all_frequencies_alike_whatever_its_unit():
    volume = noise((96, 192, 192))
    found = amplitude_spectrum(volume)
    assert found[1:] == pytest.approx(np.ones(SHELLS - 1), abs=0.1)
    assert amplitude_spectrum(-300 * volume + 40) == pytest.approx(found, rel=1e-3)


def test_a_gaussian_filter_leaves_its_own_spectrum():
    found = amplitude_spectrum(ndimage.gaussian_filter(noise((96, 192, 192)), 1.0))
    expected = gaussian_gain(1.0)
    expected /= expected[2:7].mean()
    strong = expected > 0.02
    assert found[strong][1:] == pytest.approx(expected[strong][1:], rel=0.15)


@pytest.mark.parametrize("shape", [(1, 8, 8), (5, 64, 200), (64, 64, 64), (300, 300, 300)])
def test_any_shape_has_a_spectrum_and_a_skewness(shape):
    volume = LazyArray(shape, lambda *, region: noise(tuple(one.stop - one.start for one in region)))
    assert np.isfinite(amplitude_spectrum(volume)).all() and np.isfinite(particle_skewness(volume))


def test_a_constant_volume():
    assert (amplitude_spectrum(np.full((64, 64, 64), 3.0)) == 1).all()
    assert particle_skewness(np.full((64, 64, 64), 3.0)) == 0


def test_only_some_blocks_of_a_large_tomogram_are_read():
    read = []

    def cut(*, region):
        shape = tuple(one.stop - one.start for one in region)
        read.append(np.prod(shape))
        return noise(shape)

    amplitude_spectrum(LazyArray((200, 1000, 1000), cut))
    assert sum(read) <= 18 * 64**3


def test_dark_and_bright_particles():
    background = noise((96, 192, 192))
    points = np.zeros(background.shape, dtype=np.float32)
    points[tuple(np.random.default_rng(0).integers(0, (96, 192, 192), (150, 3)).T)] = 1
    particles = ndimage.gaussian_filter(points, 4) * 3000
    assert particle_skewness(background + particles) > 0.4
    assert particle_skewness(background - particles) < -0.4
    assert abs(particle_skewness(background)) < 0.15


def test_the_mean_is_that_of_logarithms():
    assert mean_spectrum([np.full(SHELLS, 1.0), np.full(SHELLS, 4.0)]) == pytest.approx(np.full(SHELLS, 2.0))


def test_a_checkpoint_holds_what_its_tomograms_look_like_and_evaluation_reads_it(tmp_path):
    for seed, name in enumerate(("TS_1", "TS_2")):
        tiny_campaign.write_run(tmp_path, name, seed)
    folders = ("--data_root", tmp_path, "--output_dir", tmp_path / "out", "--cache_dir", tmp_path / "cache")
    flags = ("--device", "cpu", "--precision", "fp32", "--encoder_name", "deepfinder2", "--fold", 0)
    steps = ("--epochs", 1, "--steps_per_epoch", 1, "--batch_size", 1, "--patch_size", 16, 32, 32)
    found = {}
    for prob in (0, 1):
        words = (*folders, *flags, *steps, "--experiment_name", f"prob_{prob}", "--filter_prob", prob)
        train.main(list(map(str, words)))
        found[prob] = torch.load(tmp_path / "out" / f"prob_{prob}" / "fold_0-last.ckpt", weights_only=True)[
            "state_dict"
        ]
    assert not all(torch.equal(found[0][name], found[1][name]) for name in found[0])  # patches were filtered
    description = read_description(next((tmp_path / "out" / "prob_0").glob("fold_0-best-fscore-*.ckpt")))
    spectra = []
    for path in sorted(tmp_path.glob("train/static/**/denoised.mrc")):
        spectra.append(amplitude_spectrum(clip_to_percentiles(open_tomogram(path).read(), 0.5, 99.5)))
    assert len(spectra) == 2 and description.spectrum == pytest.approx(mean_spectrum(spectra))
    low, high = description.spectrum_range
    assert low == pytest.approx(np.min(spectra, axis=0)) and high == pytest.approx(np.max(spectra, axis=0))
    args = eval_public_czi.build_parser().parse_args(["--model_path", "x"])
    for descriptions in ([description], [description] * 3):
        settings = tomogram_settings(args, descriptions)
        assert settings.matching == ("auto", description.spectrum, (low, high))
    unknown = tomogram_settings(args, [description, replace(description, spectrum_range=None)])
    assert unknown.spectrum_range is None and unknown.matching == ("auto", description.spectrum)
    args = eval_public_czi.build_parser().parse_args(["--model_path", "x", "--match_spectrum", "on"])
    for descriptions in ([description], [description] * 3):
        settings = tomogram_settings(args, descriptions)
        assert settings.matching == ("on", description.spectrum) and settings.skewness == description.skewness
    unknown = tomogram_settings(args, [description, replace(description, spectrum=None)])
    assert unknown.matching is None and unknown.matches == "off"


# --- Filters ------------------------------------------------------------------------------------------
def test_a_gain_of_one_changes_nothing_and_filters_are_linear():
    volume, other = noise((70, 33, 40)), noise((70, 33, 40), seed=1)
    gain = gaussian_gain(1.5)
    assert filtered(volume, np.ones(SHELLS)) == pytest.approx(volume, abs=1e-5)
    assert filtered(2 * volume - other, gain) == pytest.approx(
        2 * filtered(volume, gain) - filtered(other, gain), abs=1e-5
    )


@pytest.mark.parametrize("shape", [(150, 40, 50), (64, 30, 31), (3, 20, 20), (1, 2, 2)])
def test_slabs_give_what_the_whole_gives(shape, monkeypatch):
    volume, gain = noise(shape), gaussian_gain(1.5)
    by_slabs, itself = filtered(volume, gain), volume.copy()
    assert filtered(itself, gain, in_place=True) is itself and np.array_equal(itself, by_slabs)
    assert np.array_equal(volume, noise(shape))
    monkeypatch.setattr("data.spectrum.SLAB_VOXELS", 1000)
    assert by_slabs == pytest.approx(filtered(volume, gain), abs=2e-3)


def test_a_gaussian_gain_is_a_gaussian_filter_and_shifts_nothing():
    volume = noise((48, 48, 48))
    inside = (slice(8, -8),) * 3
    found = filtered(volume, gaussian_gain(1.5))
    assert found[inside] == pytest.approx(ndimage.gaussian_filter(volume, 1.5, truncate=6)[inside], abs=0.01)
    point = np.zeros((33, 33, 33), dtype=np.float32)
    point[16, 16, 16] = 1
    assert np.unravel_index(filtered(point, gaussian_gain(2.0)).argmax(), point.shape) == (16, 16, 16)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_nothing_reaches_round_from_one_face_to_the_other(axis):
    volume = np.zeros((40, 40, 40), dtype=np.float32)
    np.moveaxis(volume, axis, 0)[0] = 1
    planes = np.moveaxis(filtered(volume, gaussian_gain(2.0)), axis, 0)
    assert planes[0].min() > 0.1 and np.abs(planes[-1]).max() < 0.01


def test_gains_between_shells_are_interpolated():
    middle = torch.tensor([0.0, FREQUENCIES[3], (FREQUENCIES[3] + FREQUENCIES[4]) / 2, 0.9])
    gain = np.arange(SHELLS, dtype=float)
    assert gain_at(middle, gain).tolist() == pytest.approx([0, 3, 3.5, SHELLS - 1])


def test_frequencies_are_those_of_the_transform():
    found = radial_frequencies((8, 6, 4))
    assert found.shape == (8, 6, 3) and found[4, 0, 0] == 0.5 and found[0, 0, 2] == 0.5
    assert found[1, 1, 1] == pytest.approx(np.sqrt(1 / 64 + 1 / 36 + 1 / 16))


# --- Matching -----------------------------------------------------------------------------------------
def test_a_tomogram_that_is_matched_has_the_spectrum_of_the_others():
    own, wanted = noise((96, 96, 96)), ndimage.gaussian_filter(noise((96, 96, 96), seed=1), 0.8)
    target = amplitude_spectrum(wanted)
    gain = matching_gain(amplitude_spectrum(own), target, largest=3.0, smallest=0.01)
    assert largest_difference(amplitude_spectrum(own), target)[0] > 0.5
    assert largest_difference(amplitude_spectrum(filtered(own, gain)), target)[0] < 0.1


def test_matching_leaves_the_lowest_frequencies_alone_and_keeps_its_bounds():
    wanted = np.where(FREQUENCIES < 0.25, 100.0, 1e-9)
    gain = matching_gain(np.ones(SHELLS), wanted, largest=3.0, smallest=0.01)
    assert (gain[LEFT_ALONE] == 1).all() and gain.max() <= 3 and gain.min() >= 0.01
    assert gain[-1] == pytest.approx(0.01) and gain[10] == pytest.approx(3)
    assert (matching_gain(wanted, wanted, largest=3.0, smallest=0.01) == 1).all()


def test_where_two_spectra_differ_most():
    other = np.ones(SHELLS)
    other[0], other[20] = 1e-6, 0.1
    distance, frequency = largest_difference(np.ones(SHELLS), other)
    assert distance == pytest.approx(1) and frequency == FREQUENCIES[20]


# --- Augmentation -------------------------------------------------------------------------------------
def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_patches_are_filtered_as_often_as_asked_for_and_the_same_again():
    patches = torch.as_tensor(noise((64, 1, 12, 16, 16)))
    assert filter_frequencies(patches, probability=0.0, generator=generator()) is patches
    found = filter_frequencies(patches, probability=0.5, generator=generator())
    changed = [not torch.equal(one, other) for one, other in zip(found, patches, strict=True)]
    assert 16 < sum(changed) < 48
    assert torch.equal(found, filter_frequencies(patches, probability=0.5, generator=generator()))
    assert torch.equal(patches, torch.as_tensor(noise((64, 1, 12, 16, 16))))


def test_what_a_patch_is_filtered_by_is_bounded_and_leaves_low_frequencies_alone():
    patches = torch.as_tensor(noise((32, 1, 32, 32, 32)))
    found = filter_frequencies(patches, probability=1.0, generator=generator())
    frequencies = radial_frequencies((32, 32, 32))
    ratio = torch.fft.rfftn(found[:, 0], dim=(1, 2, 3)).abs() / torch.fft.rfftn(patches[:, 0], dim=(1, 2, 3)).abs()
    # Cut-offs lie above, so that even the steepest takes nothing away there.
    assert ratio[:, frequencies < LOWEST].numpy() == pytest.approx(1, abs=0.02)
    at_half = ratio[:, (frequencies - 0.5).abs() < 0.01]
    assert at_half.max() < 10**0.65 and at_half.mean(dim=1).std() > 0.1
    assert found.mean(dim=(1, 2, 3, 4)).numpy() == pytest.approx(patches.mean(dim=(1, 2, 3, 4)).numpy(), abs=1e-5)
