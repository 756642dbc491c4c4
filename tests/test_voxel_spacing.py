"""One place decides the voxel size; what file and folder say about it must agree."""

from pathlib import Path

import pytest

from data.voxel_spacing import check_voxel_spacing, decide_spacing, spacing_of_folder
from errors import InputError

PATH = Path("denoised.mrc")


def decide(file, folder, given=None, **more):
    return decide_spacing(PATH, given_angstrom=given, file_zyx_angstrom=file, folder_angstrom=folder, **more)


@pytest.mark.parametrize(
    ("file", "folder", "given", "expected"),
    [
        ((10.012,) * 3, 10.0, None, 10.012),  # folder names are rounded
        ((10.012,) * 3, None, None, 10.012),
        ((10.19,) * 3, 10.0, None, 10.19),
        (None, 13.48, None, 13.48),
        ((0.0,) * 3, 13.48, None, 13.48),
        ((1.0,) * 3, 13.48, None, 13.48),
        ((float("nan"),) * 3, 13.48, None, 13.48),
        ((20.0,) * 3, 10.0, 10.0, 10.0),
        ((20.0, 10.0, 10.0), None, 7.84, 7.84),
    ],
)
def test_what_is_given_then_the_file_then_the_folder(file, folder, given, expected):
    assert decide(file, folder, given) == (expected,) * 3


@pytest.mark.parametrize("size", [5.0, 9.79, 10.21, 20.0, 100.0])
def test_file_and_folder_two_percent_apart_are_named_with_what_decides(size):
    with pytest.raises(InputError, match=rf"says {size:g} A .*VoxelSpacing10\.000; .*--voxel_spacing"):
        decide((size,) * 3, 10.0)


def test_metadata_of_the_portal_comes_between_file_and_folder():
    assert decide((10.012,) * 3, 10.0, metadata_angstrom=10.1) == (10.012,) * 3
    assert decide(None, 10.0, metadata_angstrom=10.012) == (10.012,) * 3
    assert decide(None, None, metadata_angstrom=7.84) == (7.84,) * 3
    assert decide((20.0,) * 3, 10.0, 10.0, metadata_angstrom=5.0) == (10.0,) * 3


@pytest.mark.parametrize(
    ("file", "metadata", "folder", "text"),
    [
        ((10.0,) * 3, 5.0, None, r"the file says 10 A per voxel, tomogram_metadata\.json 5 A per voxel"),
        ((10.0,) * 3, 9.79, 10.0, r"the file says 10 A per voxel, tomogram_metadata\.json 9\.79 A"),
        (None, 5.0, 10.0, r"tomogram_metadata\.json says 5 A per voxel, its folder VoxelSpacing10\.000"),
        ((10.15,) * 3, 10.15, 9.9, r"the file says 10\.15 A per voxel, its folder VoxelSpacing9\.900"),
    ],
)
def test_two_of_three_sources_two_percent_apart_are_named_with_what_decides(file, metadata, folder, text):
    with pytest.raises(InputError, match=rf"{text}.*; .*--voxel_spacing"):
        decide(file, folder, metadata_angstrom=metadata)


def test_voxels_that_are_no_cubes_are_refused_unless_they_are_resampled():
    sizes = (26.0, 13.0, 13.0)
    with pytest.raises(InputError, match=r"26 x 13 x 13 angstrom .* are not cubes; .*--rescale"):
        decide(sizes, 13.0)
    assert decide(sizes, 13.0, may_be_anisotropic=True) == sizes
    with pytest.raises(InputError, match="VoxelSpacing26"):  # the folder's number is that of y and x
        decide(sizes, 26.0, may_be_anisotropic=True)


def test_unknown_is_asked_for():
    with pytest.raises(InputError, match="--voxel_spacing"):
        decide(None, None)
    for value in (0, -1.0, 1e-30, 1e308, float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"must be a number from 0\.1 to 1000; give --rescale"):
            check_voxel_spacing(value, "--rescale")


def test_spacing_of_folder():
    assert spacing_of_folder(Path("/a/VoxelSpacing4.990/Annotations/100/x.ndjson")) == 4.99
    assert spacing_of_folder(Path("/a/VoxelSpacing/x")) is None
    assert spacing_of_folder(Path("/a/VoxelSpacing0.000/x")) is None
