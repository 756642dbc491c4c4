"""The voxel size that the portal's JSON beside a tomogram says, and that tomograms are read with it."""

import json

import numpy as np
import pytest
import zarr

from data.portal_metadata import spacing_of_metadata
from data.tomogram import open_tomogram
from errors import InputError


def portal_tomogram(root, **metadata):
    """A bare array, which knows no size, where the portal has its tomograms."""
    path = root / "TS_1" / "Reconstructions" / "VoxelSpacing10.000" / "Tomograms" / "100" / "TS_1.zarr"
    array = zarr.create_array(path, shape=(4, 5, 6), chunks=(4, 5, 6), dtype="f4", zarr_format=2)
    array[:] = np.ones(array.shape)
    path.with_name("tomogram_metadata.json").write_text(json.dumps(metadata))
    return path


@pytest.mark.parametrize(("said", "size"), [(10.012, 10.012), (13, 13.0), (0, None), ("10", None), (None, None)])
def test_a_number_above_0_is_a_voxel_size(tmp_path, said, size):
    assert spacing_of_metadata(portal_tomogram(tmp_path, voxel_spacing=said)) == size


def test_tomograms_are_read_with_it(tmp_path):
    assert open_tomogram(portal_tomogram(tmp_path / "a", voxel_spacing=10.012)).voxel_spacing_angstrom == 10.012
    path = portal_tomogram(tmp_path / "b", voxel_spacing=7.84)
    with pytest.raises(InputError, match=r"metadata\.json says 7\.84 A .*VoxelSpacing10\.000.*--voxel_spacing"):
        open_tomogram(path)
    assert open_tomogram(path, voxel_spacing_angstrom=7.84).voxel_spacing_angstrom == 7.84
