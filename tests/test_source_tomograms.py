"""The tomogram of a run as networks take it: checked when opened, read once, and the next while this one is used."""

import threading
from dataclasses import replace

import mrcfile
import numpy as np
import pytest
from scipy import ndimage

from data.czi import Run
from data.normalization import clip_to_percentiles
from data.spectrum import amplitude_spectrum, largest_difference
from errors import InputError
from inference.tomograms import SourceTomogram, TomogramSettings, read_ahead

SETTINGS = TomogramSettings("denoised", (10.0, 90.0), 10.0)


def write(folder, name, spacing=10.0):
    path = folder / f"{name}.mrc"
    with mrcfile.new(path) as file:
        file.set_data(np.random.default_rng(len(name)).normal(size=(4, 5, 6)).astype(np.float32))
        file.voxel_size = spacing
    return Run(name, {"denoised": path}, folder / name / "Picks")


def test_grey_values_as_in_the_file_and_normalised(tmp_path):
    source = SourceTomogram(write(tmp_path, "TS_1"), SETTINGS)
    volume, normalised = source.voxels()
    np.testing.assert_array_equal(volume, source.tomogram.read())
    np.testing.assert_array_equal(normalised, clip_to_percentiles(volume, 10.0, 90.0))
    assert source.voxels()[0] is volume and source.name == "TS_1" and source.voxel_spacing_angstrom == 10.0
    source.forget()
    assert source.voxels()[0] is not volume
    raw = SourceTomogram(source.run, TomogramSettings("denoised", None, 10.0))
    assert raw.voxels()[0] is raw.voxels()[1]


def test_voxels_of_another_size_are_refused_unless_the_file_is_said_to_be_wrong(tmp_path):
    run = write(tmp_path, "TS_1", spacing=10.4)
    SourceTomogram(run, SETTINGS)
    run = write(tmp_path, "TS_12", spacing=13.0)
    with pytest.raises(InputError, match=r"TS_12\.mrc has 13 A per voxel, the network was trained at 10"):
        SourceTomogram(run, SETTINGS)
    assert SourceTomogram(run, TomogramSettings("denoised", None, 10.0, 10.2)).voxel_spacing_angstrom == 10.2


def test_what_cannot_be_read_says_so_whenever_it_is_asked(tmp_path):
    source = SourceTomogram(write(tmp_path, "TS_1"), SETTINGS)
    source.tomogram.path.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(Exception):  # noqa: B017 - as the reader has it; waiting for ever is the fault
            source.voxels()


# --- Tomograms that do not look like those of the training --------------------------------------------
def write_volume(folder, volume):
    with mrcfile.new(folder / "TS_1.mrc") as file:
        file.set_data(volume.astype(np.float32))
        file.voxel_size = 10.0
    return Run("TS_1", {"denoised": folder / "TS_1.mrc"}, folder / "Picks")


def noise(sigma=0.0, seed=0):
    volume = np.random.default_rng(seed).normal(size=(64, 80, 80))
    return ndimage.gaussian_filter(volume, sigma) if sigma else volume


@pytest.fixture
def smooth_spectrum():
    return tuple(amplitude_spectrum(noise(sigma=0.8, seed=1)).tolist())


@pytest.mark.parametrize(
    ("match", "advice"),
    [
        ("off", "filter it as those, or try --match_spectrum auto"),
        ("auto", "filtered to match it"),
        ("on", "filtered to match it"),
    ],
)
def test_another_spectrum_is_told_and_matched_where_asked_for(tmp_path, smooth_spectrum, match, advice):
    run = write_volume(tmp_path, noise())
    plain = SourceTomogram(run, SETTINGS).voxels()[1]
    source = SourceTomogram(run, replace(SETTINGS, spectrum=smooth_spectrum, match_spectrum=match))
    with pytest.warns(UserWarning, match=rf"TS_1: its amplitude at 0\.\d\d cycles .* by a factor of .*; {advice}"):
        raw, found = source.voxels()
    np.testing.assert_array_equal(raw, source.tomogram.read())
    distance = largest_difference(amplitude_spectrum(found), smooth_spectrum)[0]
    assert distance > 0.5 if match == "off" else distance < 0.2
    assert (match == "off") == np.array_equal(found, plain)


def test_a_tomogram_like_those_of_the_training_is_left_alone_without_a_word(tmp_path, smooth_spectrum):
    run = write_volume(tmp_path, noise(sigma=0.8))
    source = SourceTomogram(run, replace(SETTINGS, spectrum=smooth_spectrum, skewness=-0.6, match_spectrum="auto"))
    np.testing.assert_array_equal(source.voxels()[1], SourceTomogram(run, SETTINGS).voxels()[1])


def test_within_the_range_of_the_training_a_tomogram_is_left_alone(tmp_path, smooth_spectrum):
    """Though its spectrum is far from the mean of the training's."""
    run, rough = write_volume(tmp_path, noise()), amplitude_spectrum(noise(seed=2))
    bounds = tuple(tuple(one.tolist()) for one in np.sort([smooth_spectrum, rough], axis=0))
    ranged = replace(SETTINGS, spectrum=smooth_spectrum, spectrum_range=bounds, match_spectrum="auto")
    plain = SourceTomogram(run, SETTINGS).voxels()[1]
    np.testing.assert_array_equal(SourceTomogram(run, ranged).voxels()[1], plain)
    with pytest.warns(UserWarning, match="filtered to match it"):
        SourceTomogram(run, replace(ranged, spectrum_range=None)).voxels()
    every = SourceTomogram(run, replace(ranged, match_spectrum="on"))
    assert largest_difference(amplitude_spectrum(every.voxels()[1]), smooth_spectrum)[0] < 0.2


def test_beyond_the_range_it_is_filtered_to_the_mean(tmp_path, smooth_spectrum):
    run, mild = write_volume(tmp_path, noise()), amplitude_spectrum(noise(sigma=0.6, seed=3))
    bounds = tuple(tuple(one.tolist()) for one in np.sort([smooth_spectrum, mild], axis=0))
    settings = replace(SETTINGS, spectrum=smooth_spectrum, spectrum_range=bounds, match_spectrum="auto")
    with pytest.warns(UserWarning, match="filtered to match it"):
        found = amplitude_spectrum(SourceTomogram(run, settings).voxels()[1])
    assert largest_difference(found, smooth_spectrum)[0] < 0.2


def test_inverted_contrast_is_told(tmp_path):
    points = np.zeros((64, 80, 80))
    points[tuple(np.random.default_rng(0).integers(8, 56, (3, 12)))] = 4000
    run = write_volume(tmp_path, noise() + ndimage.gaussian_filter(points, 4))
    settings = replace(SETTINGS, norm_percentiles=None)
    with pytest.warns(UserWarning, match="TS_1: its contrast looks inverted: .*; multiply the tomogram by -1"):
        SourceTomogram(run, replace(settings, skewness=-0.6)).voxels()
    SourceTomogram(run, replace(settings, skewness=0.6)).voxels()


# --- Reading ahead ------------------------------------------------------------------------------------
class Noted(SourceTomogram):
    """Says when its voxels are read."""

    def __init__(self, run, log):
        super().__init__(run, SETTINGS)
        self.log, self.read = log, threading.Event()

    def _read(self):
        self.log.append(self.name)
        if self.name == "broken":
            raise InputError("broken: corrupt chunk")
        self.read.set()
        return super()._read()


def sources(folder, names):
    log = []
    return log, [Noted(write(folder, name), log) for name in names]


def test_the_next_is_read_while_this_one_is_used_and_no_more(tmp_path):
    log, found = sources(tmp_path, ["a", "bb", "ccc"])
    for number, source in enumerate(read_ahead(found, lambda source: True)):
        source.voxels()
        if number < 2:
            assert found[number + 1].read.wait(10)
        assert sorted(log) == ["a", "bb", "ccc"][: number + 2]
    assert all(source._reading is None for source in found)  # forgotten


def test_what_is_not_needed_is_not_read(tmp_path):
    log, found = sources(tmp_path, ["a", "bb", "ccc"])
    assert list(read_ahead(found, lambda source: False)) == found and log == []
    assert list(read_ahead([], lambda source: True)) == []


def test_a_tomogram_that_cannot_be_read_fails_when_it_is_asked_for(tmp_path):
    _, found = sources(tmp_path, ["a", "broken", "ccc"])
    for source in read_ahead(found, lambda source: True):
        if source.name == "broken":
            with pytest.raises(InputError, match="corrupt chunk"):
                source.voxels()
        else:
            source.voxels()


def test_huge_grey_values_are_in_another_unit_for_the_networks_alone(tmp_path):
    run = write(tmp_path, "TS_1")
    path = run.tomogram_path("denoised")
    with mrcfile.mmap(path, mode="r+") as mrc:
        mrc.data[:] = np.arange(mrc.data.size, dtype=np.float32).reshape(mrc.data.shape) * 1e30
    raw, normalised = SourceTomogram(run, replace(SETTINGS, norm_percentiles=None)).voxels()
    assert raw.max() > 1e30 and 0.5 <= normalised.max() <= 1
    np.testing.assert_allclose(normalised / normalised.max(), raw / raw.max(), rtol=1e-6)


def test_another_voxel_size_is_resampled_where_it_is_asked_for(tmp_path):
    run = write(tmp_path, "TS_1", spacing=13.0)
    with pytest.raises(InputError, match=r"--rescale"):
        SourceTomogram(run, SETTINGS)
    source = SourceTomogram(run, replace(SETTINGS, rescale=True))
    assert source.voxel_spacing_angstrom == 10.0 and source.tomogram.shape_zyx == (4, 6, 7)
    assert [volume.shape for volume in source.voxels()] == [(4, 6, 7)] * 2
    same = SourceTomogram(write(tmp_path, "TS_12", spacing=10.05), replace(SETTINGS, rescale=True))
    np.testing.assert_array_equal(same.voxels()[0], same.tomogram.read())
    assert same.voxel_spacing_angstrom == pytest.approx(10.05)
