"""The challenge's layout as it is written: readers find the run, and levels of a tomogram are means."""

import numpy as np
import pytest
import zarr

from data.challenge_layout import training_folders, write_pyramid
from data.czi import find_runs
from data.tomogram import open_tomogram

VOLUME = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)


def test_readers_find_the_run_and_its_voxels(tmp_path):
    static, overlay = training_folders(tmp_path, "TS_1")
    write_pyramid(static / "VoxelSpacing13.480" / "wbp.zarr", VOLUME, 13.48)
    [run] = find_runs(tmp_path, tomo_type="wbp")
    assert (run.name, run.picks_dir) == ("TS_1", overlay / "Picks")
    tomogram = open_tomogram(run.tomogram_path("wbp"))
    assert tomogram.voxel_spacing_angstrom == 13.48
    np.testing.assert_array_equal(tomogram.read(), VOLUME)
    assert open_tomogram(run.tomogram_path("wbp"), level=1).voxel_spacing_angstrom == 26.96


def test_pyramid_levels_are_means_and_odd_sides_lose_the_last_slice(tmp_path):
    write_pyramid(tmp_path / "a.zarr", VOLUME, 10.0)
    level = zarr.open_group(tmp_path / "a.zarr", mode="r")["1"][:]
    assert level.shape == (2, 3, 3)
    assert level[1, 2, 0] == pytest.approx(VOLUME[2:4, 4:6, 0:2].mean())
