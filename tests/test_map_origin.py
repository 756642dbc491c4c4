"""Where ChimeraX and napari put the first voxel of a tomogram."""

import mrcfile
import numpy as np
import pytest
import zarr

from data.map_origin import map_origin_xyz_angstrom

START_XYZ, ORIGIN_XYZ, SIZE_XYZ = (3, -2, 5), (70.0, 0.0, -8.5), (10.0, 12.0, 15.0)
# nstart times the voxel size.
BY_START = (30.0, -24.0, 75.0)


def mrc(path, origin=(0, 0, 0), start=START_XYZ, size=SIZE_XYZ, stamp=b"MAP "):
    with mrcfile.new(path) as file:
        file.set_data(np.zeros((4, 5, 6), dtype=np.float32))
        file.voxel_size = size
        file.nstart = start
        file.header.origin = origin
        file.header.map = stamp
    return path


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("a.mrc", {"start": (0, 0, 0)}, (0, 0, 0)),
        ("a.mrc", {}, BY_START),
        ("a.mrc", {"origin": ORIGIN_XYZ}, ORIGIN_XYZ),
        ("a.rec", {"origin": ORIGIN_XYZ}, ORIGIN_XYZ),
        ("a.map", {"origin": ORIGIN_XYZ}, BY_START),
        ("a.mrc", {"origin": ORIGIN_XYZ, "stamp": b"\0\0\0\0"}, BY_START),
        ("a.mrc", {"origin": (np.nan, 0, 0)}, BY_START),
        ("a.mrc", {"origin": (1e30, 0, 0)}, BY_START),
        ("a.mrc", {"start": (-(2**30), 0, 0)}, (0, 0, 0)),
        ("a.mrc", {"size": (0, 0, 0)}, START_XYZ),
    ],
    ids=["none", "nstart", "origin", "rec", "ccp4", "old", "nan", "huge", "nstart-never-set", "no-voxel-size"],
)
def test_the_header_as_chimerax_reads_it(tmp_path, name, options, expected):
    assert map_origin_xyz_angstrom(mrc(tmp_path / name, **options)) == pytest.approx(expected)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_translation_of_the_finest_level(tmp_path, zarr_format):
    """In nanometres; the whole image is scaled and moved once more. Coarser levels have translations of their own."""
    axes = [{"name": "c", "type": "channel"}, *({"name": n, "type": "space", "unit": "nanometer"} for n in "zyx")]
    levels = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [1, 1, 1, 1]},
                {"type": "translation", "translation": [0, 1 + level, 2, 3]},
            ],
        }
        for level in range(2)
    ]
    whole = [{"type": "scale", "scale": [1, 2, 2, 2]}, {"type": "translation", "translation": [0, 0, 0, 0.5]}]
    image = {"axes": axes, "datasets": levels, "coordinateTransformations": whole}
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=zarr_format)
    group.create_array("0", shape=(1, 2, 2, 2), dtype="float32")
    group.attrs.update({"multiscales": [image]} if zarr_format == 2 else {"ome": {"multiscales": [image]}})
    assert map_origin_xyz_angstrom(tmp_path / "a.zarr") == pytest.approx((65, 40, 20))


def test_a_bare_array_begins_at_0(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(2, 2, 2), dtype="float32")
    assert map_origin_xyz_angstrom(tmp_path / "a.zarr") == (0, 0, 0)
