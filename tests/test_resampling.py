"""Tomograms of another voxel size: what lies where in angstrom stays there, and what is too fine is averaged away."""

import pickle

import mrcfile
import numpy as np
import pytest

from data.resampling import ResampledVolume, must_resample
from data.tomogram import open_tomogram
from errors import InputError

CENTRE_ANGSTROM = np.array([201.7, 260.3, 318.9])  # z, y, x


class Drawn:
    """A volume in memory."""

    def __init__(self, voxels):
        self.voxels, self.shape_zyx = voxels, voxels.shape

    def read(self, region):
        return self.voxels[region]


def blob(spacing_zyx, size_angstrom=(420, 540, 640), sigma_angstrom=40.0):
    """A Gaussian at CENTRE_ANGSTROM; voxel i lies at i times the voxel size."""
    grid = [np.arange(round(n / s)) * s for n, s in zip(size_angstrom, spacing_zyx, strict=True)]
    z, y, x = (np.exp(-((g - c) ** 2) / (2 * sigma_angstrom**2)) for g, c in zip(grid, CENTRE_ANGSTROM, strict=True))
    return (z[:, None, None] * y[:, None] * x).astype(np.float32)


def whole(volume):
    return volume.read(tuple(slice(0, n) for n in volume.shape_zyx))


def centre_of_mass_angstrom(voxels, spacing_zyx):
    places = np.indices(voxels.shape).reshape(3, -1)
    return (places * voxels.ravel()).sum(axis=1) / voxels.sum() * np.array(spacing_zyx)


@pytest.mark.parametrize("wanted", [7.0, 10.0, 13.0, 20.0, 26.0])
@pytest.mark.parametrize("before", [(10.0, 10.0, 10.0), (13.0, 13.0, 13.0), (20.0, 8.0, 11.0)], ids=str)
def test_a_blob_keeps_its_place_in_angstrom(before, wanted):
    resampled = whole(ResampledVolume(Drawn(blob(before)), before, wanted))
    offset = centre_of_mass_angstrom(resampled, (wanted,) * 3) - CENTRE_ANGSTROM
    assert np.abs(offset).max() < 0.05 * wanted
    np.testing.assert_allclose(resampled, blob((wanted,) * 3)[tuple(map(slice, resampled.shape))], atol=0.06)


def test_a_finer_grid_holds_the_old_one():
    voxels = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    fine = ResampledVolume(Drawn(voxels), (20.0,) * 3, 10.0)
    assert fine.shape_zyx == (9, 11, 13)
    np.testing.assert_allclose(whole(fine)[::2, ::2, ::2], voxels, atol=1e-5)


@pytest.mark.parametrize("wanted", [7.0, 23.0])
def test_constants_and_slopes_stay(wanted):
    z, y, x = np.indices((40, 30, 50)).astype(np.float32)
    resampled = ResampledVolume(Drawn(3 + 2 * z - y + 0.5 * x), (10.0, 10.0, 10.0), wanted)
    np.testing.assert_allclose(
        whole(ResampledVolume(Drawn(np.full((9, 9, 9), 7.0)), (10.0,) * 3, wanted)), 7, rtol=1e-5
    )
    z, y, x = np.indices(resampled.shape_zyx) * wanted / 10
    inside = (slice(2, -2),) * 3
    np.testing.assert_allclose(whole(resampled)[inside], (3 + 2 * z - y + 0.5 * x)[inside], atol=0.01)


def test_what_the_coarse_grid_cannot_hold_does_not_come_back_as_something_else():
    stripes = np.cos(np.pi * np.indices((64, 8, 8))[0] * 0.9).astype(np.float32)  # nearly every second plane
    coarse = whole(ResampledVolume(Drawn(stripes), (10.0,) * 3, 20.0))
    assert np.abs(coarse[3:-3]).max() < 0.05
    assert np.abs(stripes[::2]).max() == 1  # what taking every second plane gives


def test_boxes_are_parts_of_the_whole():
    voxels = np.random.default_rng(1).normal(size=(50, 20, 30)).astype(np.float32)
    volume = ResampledVolume(Drawn(voxels), (9.0, 12.0, 12.0), 10.0)
    box = (slice(13, 37), slice(2, 9), slice(11, 12))
    np.testing.assert_allclose(volume.read(box), whole(volume)[box], atol=1e-6)
    assert volume.read((slice(3, 3), slice(0, 4), slice(0, 5))).shape == (0, 4, 5)


def test_rounding_is_no_other_size():
    assert not must_resample((10.012, 10.012, 10.012), 10.0)
    assert must_resample((10.5, 10.0, 10.0), 10.0)


def write(path, voxels, spacing_zyx):
    with mrcfile.new(path) as file:
        file.set_data(voxels)
        file.voxel_size = tuple(spacing_zyx[::-1])
    return path


def test_a_tomogram_is_opened_on_the_new_grid(tmp_path):
    path = write(tmp_path / "a.mrc", blob((26.0, 13.0, 13.0)), (26.0, 13.0, 13.0))
    with pytest.raises(InputError, match=r"26 x 13 x 13 angstrom .* --rescale"):
        open_tomogram(path)
    tomogram = open_tomogram(path, rescale_to_angstrom=10.0)
    assert tomogram.voxel_spacing_angstrom == 10.0 and tomogram.shape_zyx == (40, 54, 63)
    assert tomogram.rescaled_from_zyx_angstrom == (26.0, 13.0, 13.0)
    voxels = pickle.loads(pickle.dumps(tomogram)).read()
    assert voxels.dtype == np.float32 and voxels.shape == tomogram.shape_zyx
    assert np.abs(centre_of_mass_angstrom(voxels, (10.0,) * 3) - CENTRE_ANGSTROM).max() < 0.5
    given = open_tomogram(path, voxel_spacing_angstrom=20.0, rescale_to_angstrom=10.0)
    assert given.rescaled_from_zyx_angstrom == (20.0,) * 3


def test_a_tomogram_of_that_size_is_taken_as_it_is(tmp_path):
    path = write(tmp_path / "a.mrc", blob((20.0,) * 3), (20.0,) * 3)
    tomogram = open_tomogram(path, rescale_to_angstrom=20.1)
    assert tomogram.voxel_spacing_angstrom == 20.0 and tomogram.rescaled_from_zyx_angstrom is None
    with pytest.raises(InputError, match="give --rescale in angstrom"):
        open_tomogram(path, rescale_to_angstrom=0.0)
