"""Tomograms in every container: the voxels, the voxel size, and one clear line for what is broken."""

import gzip
import json
import os
import pickle
import shutil
import struct
from pathlib import Path

import mrcfile
import numcodecs
import numpy as np
import pytest
import zarr

from data.tomogram import open_tomogram
from errors import InputError

REAL = Path(__file__).parents[1].parent / "shared" / "data" / "real"
SHAPE, CHUNKS = (5, 6, 7), (3, 3, 4)
VOXELS = np.arange(1, 211, dtype=np.float32).reshape(SHAPE)
AXES = [{"name": name, "type": "space", "unit": "angstrom"} for name in "zyx"]


def multiscales(scale=(10.012,) * 3, axes=AXES, levels=1):
    datasets = [
        {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": [s * 2**i for s in scale]}]}
        for i in range(levels)
    ]
    return [{"version": "0.4", "axes": axes, "datasets": datasets}]


def write_array(path, voxels=VOXELS, zarr_format=2, chunks=CHUNKS, **more):
    array = zarr.create_array(
        path, shape=voxels.shape, chunks=chunks, dtype=voxels.dtype, zarr_format=zarr_format, **more
    )
    array[:] = voxels
    return path


def write_group(path, voxels=VOXELS, zarr_format=2, scales=None, chunks=CHUNKS, levels=1, key="multiscales"):
    scales = multiscales(levels=levels) if scales is None else scales
    attributes = {"multiscales": scales} if key == "multiscales" else {key: {"multiscales": scales}}
    zarr.open_group(path, mode="w", zarr_format=zarr_format, attributes=attributes)
    for level in range(levels):
        write_array(path / str(level), voxels[:: 2**level, :: 2**level, :: 2**level], zarr_format, chunks)
    return path


def write_mrc(path, voxels=VOXELS, voxel_size=10.012):
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(voxels)
        mrc.voxel_size = voxel_size
    return path


# --- the voxels ---------------------------------------------------------------------------------------
def as_bare_v2(folder):
    return write_array(folder / "VoxelSpacing10.012" / "denoised.zarr")


def as_bare_v3(folder):
    return write_array(folder / "VoxelSpacing10.012" / "denoised.zarr", zarr_format=3)


def as_group_v2(folder):
    return write_group(folder / "a.zarr")


def as_group_v3_of_ngff_05(folder):
    return write_group(folder / "a.zarr", zarr_format=3, key="ome")


def as_plain_group(folder):
    return write_group(folder / "VoxelSpacing10.012" / "a.zarr", scales=[])


def as_sharded(folder):
    path = folder / "VoxelSpacing10.012" / "a.zarr"
    return write_array(path, zarr_format=3, chunks=(1, 2, 2), shards=(2, 4, 4))


def as_four_axes(folder):
    axes = [{"name": "c", "type": "channel"}, *AXES]
    scales = multiscales((1.0, *(10.012,) * 3), axes)
    return write_group(folder / "a.zarr", VOXELS[None], scales=scales, chunks=(1, *CHUNKS))


def as_mrc(folder):
    return write_mrc(folder / "a.mrc")


def as_rec(folder):
    return write_mrc(folder / "a.rec")


def as_mrc_gz(folder):
    path = write_mrc(folder / "a.mrc")
    (folder / "a.mrc.gz").write_bytes(gzip.compress(path.read_bytes()))
    return folder / "a.mrc.gz"


CONTAINERS = [
    as_bare_v2,
    as_bare_v3,
    as_group_v2,
    as_group_v3_of_ngff_05,
    as_plain_group,
    as_sharded,
    as_four_axes,
    as_mrc,
    as_rec,
    as_mrc_gz,
]


@pytest.mark.parametrize("write", CONTAINERS)
def test_every_container_gives_the_same_voxels(tmp_path, write):
    tomogram = open_tomogram(write(tmp_path))
    assert tomogram.shape_zyx == SHAPE
    assert tomogram.voxel_spacing_angstrom == pytest.approx(10.012, abs=1e-5)
    whole = tomogram.read()
    assert whole.dtype == np.float32
    assert whole.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(whole, VOXELS)
    region = (slice(1, 4), slice(2, None), slice(-3, None))
    part = pickle.loads(pickle.dumps(tomogram)).read(region)
    assert part.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(part, VOXELS[region])
    assert tomogram.read((slice(9, 12), slice(None), slice(None))).shape == (0, 6, 7)
    with pytest.raises(ValueError, match="no steps"):
        tomogram.read((slice(None, None, 2), slice(None), slice(None)))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.float16, np.float64, ">f4"])
def test_every_number_type_becomes_float32(tmp_path, dtype):
    voxels = np.arange(60, dtype=dtype).reshape(3, 4, 5)
    whole = open_tomogram(write_array(tmp_path / "a.zarr", voxels), voxel_spacing_angstrom=10).read()
    assert whole.dtype == np.dtype("=f4")
    np.testing.assert_array_equal(whole, voxels.astype(np.float32))


def test_only_the_chunks_of_the_region_are_read(tmp_path):
    path = as_group_v2(tmp_path)
    (path / "0" / "1.1.1").write_bytes(b"not a chunk")
    np.testing.assert_array_equal(open_tomogram(path).read((slice(0, 3), slice(None), slice(None))), VOXELS[:3])
    with pytest.raises(InputError, match="corrupt chunk") as error:
        open_tomogram(path).read()
    assert str(path / "0" / "1.1.1") in str(error.value)


def test_a_corrupt_chunk_of_zarr_3_is_named_too(tmp_path):
    path = as_bare_v3(tmp_path)
    (path / "c" / "0" / "1" / "0").write_bytes(b"")
    with pytest.raises(InputError, match="corrupt chunk") as error:
        open_tomogram(path).read()
    assert str(path / "c" / "0" / "1" / "0") in str(error.value)


def test_level(tmp_path):
    path = write_group(tmp_path / "a.zarr", levels=2)
    tomogram = open_tomogram(path, level=1)
    assert tomogram.shape_zyx == (3, 3, 4)
    assert tomogram.voxel_spacing_angstrom == pytest.approx(20.024)
    with pytest.raises(InputError, match="no array of level 2"):
        open_tomogram(path, level=2)
    with pytest.raises(InputError, match="no level 1"):
        open_tomogram(as_mrc(tmp_path), level=1)


def test_missing_chunks_are_the_fill_value_and_worth_a_warning(tmp_path):
    path = as_group_v2(tmp_path)
    (path / "0" / "1.1.1").unlink()
    with pytest.warns(UserWarning, match="1 of 8 chunk files are missing"):
        whole = open_tomogram(path).read()
    assert (whole[3:, 3:, 4:] == 0).all()
    np.testing.assert_array_equal(whole[:3], VOXELS[:3])


def test_all_chunks_missing_is_an_error(tmp_path):
    path = as_group_v2(tmp_path)
    for chunk in (path / "0").glob("?.?.?"):
        chunk.unlink()
    with pytest.raises(InputError, match="all of its 8 chunk files are missing"):
        open_tomogram(path)


def test_a_missing_shard_is_told_and_whole_ones_are_not(tmp_path, recwarn):
    path = as_sharded(tmp_path)
    open_tomogram(path)
    assert not recwarn.list
    (path / "c" / "1" / "0" / "1").unlink()
    with pytest.warns(UserWarning, match="1 of 12 chunk files are missing"):
        open_tomogram(path)


def test_the_image_inside_a_group_of_bioformats2raw(tmp_path):
    zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2, attributes={"bioformats2raw.layout": 3})
    write_group(tmp_path / "a.zarr" / "0")
    tomogram = open_tomogram(tmp_path / "a.zarr")
    assert tomogram.voxel_spacing_angstrom == 10.012
    np.testing.assert_array_equal(tomogram.read(), VOXELS)
    write_group(tmp_path / "a.zarr" / "1")
    with pytest.warns(UserWarning, match="several images"):
        open_tomogram(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "0" / "0" / "0.0.0").unlink()
    with pytest.warns(UserWarning), pytest.raises(InputError, match=r"a\.zarr/0/0"):
        (tmp_path / "a.zarr" / "0" / "0" / "1.1.1").write_bytes(b"")
        open_tomogram(tmp_path / "a.zarr").read()


def write_bytes_mrc(path, voxels, *, stamp=0, flags=0, limits=None):
    """Mode 0 with bytes 152 to 159 and the range of the header as given."""
    write_mrc(path, voxels.astype(np.uint8).view(np.int8))
    content = bytearray(path.read_bytes())
    content[152:160] = struct.pack("<2i", stamp, flags)
    if limits is not None:
        content[76:84] = struct.pack("<2f", *limits)
    path.write_bytes(bytes(content))
    return path


GREYS = np.arange(210).reshape(SHAPE)
IMOD = 1146047817


@pytest.mark.parametrize(
    ("stamp", "flags", "limits", "unsigned"),
    [
        (IMOD, 0, (0, 209), True),
        (IMOD, 0, (0, 0), True),  # no range in the header
        (IMOD, 1, (-128, 127), False),
        (IMOD, 5, (-128, 127), False),
        (0, 0, (0, 209), True),  # before IMOD had a stamp
        (0, 0, (-128, 127), False),
    ],
    ids=["imod", "imod_no_range", "imod_signed", "imod_signed_and_more", "old", "mrc2014"],
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_bytes_are_unsigned_where_imod_wrote_them(tmp_path, stamp, flags, limits, unsigned, packed):
    path = write_bytes_mrc(tmp_path / "a.rec", GREYS, stamp=stamp, flags=flags, limits=limits)
    if packed:
        (tmp_path / "a.rec.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path / "a.rec.gz"
    expected = GREYS if unsigned else GREYS.astype(np.uint8).view(np.int8)
    np.testing.assert_array_equal(open_tomogram(path).read(), expected)


@pytest.mark.parametrize(("flags", "limits"), [(0, (-128, 127)), (1, (0, 209))], ids=["unsigned", "signed"])
def test_stamp_and_range_that_contradict_each_other(tmp_path, flags, limits):
    path = write_bytes_mrc(tmp_path / "a.rec", GREYS, stamp=IMOD, flags=flags, limits=limits)
    with pytest.raises(InputError, match=r"IMOD's stamp says .*signed bytes, the range in the header"):
        open_tomogram(path)


# --- what is not a tomogram ---------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore:Data array contains", "ignore:invalid value encountered")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("write", [write_mrc, write_group])
def test_nan_and_inf_are_counted_and_located(tmp_path, value, write):
    voxels = VOXELS.copy()
    voxels[2, 3, 4] = voxels[4, 0, 1] = value
    path = write(tmp_path / ("a.mrc" if write is write_mrc else "a.zarr"), voxels)
    tomogram = open_tomogram(path)
    with pytest.raises(InputError, match=r"2 voxels are NaN or infinite, the first at z, y, x = 2, 3, 4"):
        tomogram.read()
    with pytest.raises(InputError, match=r"1 voxels .* = 4, 0, 1"):
        tomogram.read((slice(3, 5), slice(None), slice(None)))
    tomogram.read((slice(0, 2), slice(None), slice(None)))


@pytest.mark.parametrize("shape", [(4, 5), (0, 4, 5), (2, 3, 4, 5)])
def test_other_shapes_are_no_tomogram(tmp_path, shape):
    path = write_array(tmp_path / "a.zarr", np.ones(shape, np.float32), chunks=tuple(max(n, 1) for n in shape))
    with pytest.raises(InputError, match="not that of a 3D volume") as error:
        open_tomogram(path, voxel_spacing_angstrom=10)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4, 5)])
def test_other_shapes_of_mrc_are_no_tomogram(tmp_path, shape):
    path = tmp_path / "a.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(np.ones(shape, np.float32))
    with pytest.raises(InputError, match="not that of a 3D volume"):
        open_tomogram(path, voxel_spacing_angstrom=10)


@pytest.mark.parametrize("write", [write_array, write_mrc])
def test_complex_voxels_are_no_tomogram(tmp_path, write):
    path = write(tmp_path / ("a.mrc" if write is write_mrc else "a.zarr"), VOXELS.astype(np.complex64))
    with pytest.raises(InputError, match="not grey values"):
        open_tomogram(path, voxel_spacing_angstrom=10)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (".zgroup", ""),
        (".zgroup", "{"),
        (".zgroup", "[]"),
        (".zattrs", "{"),
        (".zattrs", "[]"),
        ("0/.zarray", ""),
        ("0/.zarray", "{"),
        ("0/.zarray", "[]"),
        ("0/.zarray", "{}"),
        ("0/.zarray", '{"shape": [1]}'),
    ],
)
def test_unreadable_zarr_metadata(tmp_path, file, content):
    path = as_group_v2(tmp_path)
    (path / file).write_text(content)
    with pytest.raises(InputError, match=r"copy (it|the tomogram) again") as error:
        open_tomogram(path)
    assert str(path) in str(error.value)


def test_a_folder_that_is_no_zarr_and_a_path_that_is_not_there(tmp_path):
    for path, message in ((tmp_path, "metadata is unreadable"), (tmp_path / "b.zarr", "no such tomogram")):
        with pytest.raises(InputError, match=message):
            open_tomogram(path)
    (tmp_path / "c.zarr").write_text("a file")
    with pytest.raises(InputError, match=r"c\.zarr"):
        open_tomogram(tmp_path / "c.zarr")


@pytest.mark.parametrize("kept_bytes", [0, 100, 1024, 1024 + 400])
def test_a_truncated_mrc(tmp_path, kept_bytes):
    path = as_mrc(tmp_path)
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(InputError, match="not a readable MRC file") as error:
        open_tomogram(path)
    assert str(path) in str(error.value)


def test_a_truncated_gz(tmp_path):
    path = as_mrc_gz(tmp_path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="not a readable MRC file"):
        open_tomogram(path)


def test_an_mrc_with_junk_behind_and_without_its_stamp_is_read_in_silence(tmp_path):
    path = as_mrc(tmp_path)
    content = bytearray(path.read_bytes())
    content[208:212] = b"    "  # the word MAP
    path.write_bytes(bytes(content) + b"junk")
    np.testing.assert_array_equal(open_tomogram(path).read(), VOXELS)


def test_an_mrc_in_another_axis_order(tmp_path):
    path = as_mrc(tmp_path)
    with mrcfile.open(path, "r+") as mrc:
        mrc.header.mapc, mrc.header.maps = 3, 1
    with pytest.raises(InputError, match="axis order"):
        open_tomogram(path)


# --- the voxel size -----------------------------------------------------------------------------------
def test_the_argument_beats_the_file_and_the_file_the_folder(tmp_path):
    path = write_group(tmp_path / "VoxelSpacing10.000" / "denoised.zarr")
    assert open_tomogram(path).voxel_spacing_angstrom == 10.012
    assert open_tomogram(path, voxel_spacing_angstrom=7.84).voxel_spacing_angstrom == 7.84


@pytest.mark.parametrize("write", [write_mrc, write_group])
def test_file_and_folder_must_agree(tmp_path, write):
    folder = tmp_path / "VoxelSpacing20.000"
    folder.mkdir()
    path = write(folder / ("a.mrc" if write is write_mrc else "a.zarr"))
    with pytest.raises(InputError, match=r"the file says 10\.012 A .* VoxelSpacing20\.000; .*--voxel_spacing"):
        open_tomogram(path)
    assert open_tomogram(path, voxel_spacing_angstrom=10).voxel_spacing_angstrom == 10


@pytest.mark.parametrize(
    ("unit", "scale"), [("nm", 1.0012), ("Angstrom", 10.012), ("micrometer", 0.0010012), (None, 10.012)], ids=str
)
def test_units_of_a_scale(tmp_path, unit, scale):
    axes = [{"name": axis, "type": "space", **({} if unit is None else {"unit": unit})} for axis in "zyx"]
    path = write_group(tmp_path / "VoxelSpacing10.000" / "a.zarr", scales=multiscales((scale,) * 3, axes))
    assert open_tomogram(path).voxel_spacing_angstrom == pytest.approx(10.012)


def test_a_scale_without_unit_that_is_no_voxel_in_angstrom(tmp_path):
    """As of a writer in nanometres: 1.0012 is asked for, not taken."""
    axes = [{"name": axis, "type": "space"} for axis in "zyx"]
    path = write_group(tmp_path / "a.zarr", scales=multiscales((1.0012,) * 3, axes))
    with pytest.raises(InputError, match="not in the file; give it with --voxel_spacing"):
        open_tomogram(path)


def test_an_unknown_unit_is_told_and_one_left_out_is_not_guessed(tmp_path):
    axes = [{**axis, "unit": "parsec"} for axis in AXES]
    path = write_group(tmp_path / "VoxelSpacing10.000" / "a.zarr", scales=multiscales((3.0,) * 3, axes))
    with pytest.warns(UserWarning, match="unit 'parsec'"):
        assert open_tomogram(path).voxel_spacing_angstrom == 10
    axes = [{"name": axis} for axis in "zyx"]
    path = write_group(tmp_path / "b.zarr", scales=multiscales((10.0,) * 3, axes))
    with pytest.warns(UserWarning, match="has no unit: it is angstrom"):
        assert open_tomogram(path).voxel_spacing_angstrom == 10
    path = write_group(tmp_path / "VoxelSpacing10.000" / "b.zarr", scales=multiscales((1.0012,) * 3, axes))
    with pytest.raises(InputError, match="--voxel_spacing"):  # nanometers that do not say so
        open_tomogram(path)


@pytest.mark.parametrize("spacing", [0, -1.0, np.nan, np.inf])
def test_a_spacing_that_is_no_length(tmp_path, spacing):
    with pytest.raises(InputError, match=r"must be a number from 0\.1 to 1000"):
        open_tomogram(as_mrc(tmp_path), voxel_spacing_angstrom=spacing)


def test_nanometers_and_a_scale_for_all_levels(tmp_path):
    axes = [{**axis, "unit": "nanometer"} for axis in AXES]
    scales = multiscales((0.5,) * 3, axes)
    scales[0]["coordinateTransformations"] = [{"type": "scale", "scale": [2.0] * 3}]
    assert open_tomogram(write_group(tmp_path / "a.zarr", scales=scales)).voxel_spacing_angstrom == 10.0


@pytest.mark.parametrize("scale", [(1.0,) * 3, (0.0,) * 3])
def test_an_unknown_scale_falls_to_the_folder_or_is_demanded(tmp_path, scale):
    path = write_group(tmp_path / "VoxelSpacing13.48" / "a.zarr", scales=multiscales(scale))
    assert open_tomogram(path).voxel_spacing_angstrom == 13.48
    shutil.move(path, tmp_path / "a.zarr")
    with pytest.raises(InputError, match="--voxel_spacing"):
        open_tomogram(tmp_path / "a.zarr")


@pytest.mark.parametrize("size", [0.0, 1.0, (10.0, 10.0, 12.0), -10.0])
def test_an_unknown_mrc_size_is_demanded(tmp_path, size):
    path = write_mrc(tmp_path / "a.mrc", voxel_size=size)
    with pytest.raises(InputError, match="--voxel_spacing"):
        open_tomogram(path)
    assert open_tomogram(path, voxel_spacing_angstrom=10).voxel_spacing_angstrom == 10


def test_voxels_that_are_no_cubes(tmp_path):
    path = write_group(tmp_path / "a.zarr", scales=multiscales((20.0, 10.0, 10.0)))
    with pytest.raises(InputError, match=r"20 x 10 x 10 angstrom .* are not cubes"):
        open_tomogram(path)


@pytest.mark.parametrize("axes", [list("xyz"), [{"name": n} for n in "yxz"], ["c", "t", "z", "y", "x"]])
def test_axes_must_be_zyx(tmp_path, axes):
    path = write_group(tmp_path / "a.zarr", scales=multiscales(axes=axes))
    with pytest.raises(InputError, match="rewrite the tomogram as z, y, x"):
        open_tomogram(path)


def test_named_dimensions_of_zarr_3(tmp_path):
    path = tmp_path / "VoxelSpacing10" / "a.zarr"
    write_array(path, zarr_format=3, dimension_names=("x", "y", "z"))
    with pytest.raises(InputError, match="the axes are x, y, z"):
        open_tomogram(path)


def test_scale_that_is_no_list(tmp_path):
    path = as_group_v2(tmp_path)
    attributes = json.loads((path / ".zattrs").read_text())
    attributes["multiscales"][0]["datasets"][0]["coordinateTransformations"] = [{"type": "scale"}]
    (path / ".zattrs").write_text(json.dumps(attributes))
    with pytest.raises(InputError, match="NGFF scale is unreadable"):
        open_tomogram(path)


def test_real_files():
    if not REAL.is_dir():
        pytest.skip("the real examples are not here")
    with pytest.raises(InputError, match="--voxel_spacing"):
        open_tomogram(REAL / "boxmanager_3d.mrc")
    assert open_tomogram(REAL / "boxmanager_3d.mrc", voxel_spacing_angstrom=8).shape_zyx == (100, 100, 100)
    assert open_tomogram(REAL / "EMD-3197.map").voxel_spacing_angstrom == pytest.approx(11.4)


# --- sizes and places that no tomogram has ------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [10**6] * 3}, "1000000 x 1000000 x 1000000 voxels in chunks of 3 x 3 x 4 cannot be read"),
        ({"shape": [3000] * 3, "chunks": [3000] * 3}, "in chunks of 3000 x 3000 x 3000 cannot be read"),
        ({"shape": [2000] * 3, "chunks": [1] * 3}, "only 8 of 8000000000 chunk files are there"),
        ({"chunks": [0, 3, 4]}, "copy it again|cannot be read"),
        ({"shape": [3, 6, 7]}, "has 4 chunk files outside of the shape"),
    ],
)
def test_sizes_of_a_zarr_are_refused_at_once(tmp_path, changes, message):
    path = as_group_v2(tmp_path) / "0" / ".zarray"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError, match=message):
        open_tomogram(tmp_path / "a.zarr")


def test_axes_without_names(tmp_path):
    axes = [{key: value for key, value in axis.items() if key != "name"} for axis in AXES]
    path = write_group(tmp_path / "a.zarr", scales=multiscales(axes=axes))
    with pytest.raises(InputError, match="names of its axes are unreadable"):
        open_tomogram(path)


@pytest.mark.parametrize("suffix", [".mrc", ".mrc.gz", ".zarr"])
def test_a_pipe_is_no_tomogram(tmp_path, suffix):
    os.mkfifo(tmp_path / f"a{suffix}")
    with pytest.raises(InputError, match=r"not a regular file|unreadable"):
        open_tomogram(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("lost", [1, 9, 200])
def test_a_chunk_of_blosc_that_was_cut_off_is_corrupt(tmp_path, zarr_format, lost):
    """The codec itself reads on behind the end of the chunk."""
    codec = numcodecs.Blosc(cname="lz4") if zarr_format == 2 else zarr.codecs.BloscCodec(cname="lz4")
    voxels = np.random.default_rng(0).normal(size=(8, 8, 16)).astype(np.float32)
    path = write_array(tmp_path / "a.zarr", voxels, zarr_format, (8, 8, 8), compressors=codec)
    np.testing.assert_array_equal(open_tomogram(path, voxel_spacing_angstrom=10).read(), voxels)
    chunk = path / ("0.0.1" if zarr_format == 2 else "c/0/0/1")
    chunk.write_bytes(chunk.read_bytes()[:-lost])
    tomogram = open_tomogram(path, voxel_spacing_angstrom=10)
    np.testing.assert_array_equal(tomogram.read((slice(0, 8), slice(0, 8), slice(0, 8))), voxels[:, :, :8])
    with pytest.raises(InputError, match=rf"{chunk}: corrupt chunk \(\d+ bytes, \d+ when it was written\)"):
        tomogram.read()


PACKED = [
    *((2, codec(), codec().encode) for codec in (numcodecs.GZip, numcodecs.Zlib, numcodecs.BZ2, numcodecs.LZMA)),
    *((2, codec(), codec().encode) for codec in (numcodecs.LZ4, numcodecs.Zstd)),
    *((3, zarr.codecs.GzipCodec(), numcodecs.GZip().encode), (3, zarr.codecs.ZstdCodec(), numcodecs.Zstd().encode)),
]


@pytest.mark.parametrize(("zarr_format", "codec", "packed"), PACKED, ids=lambda one: type(one).__name__)
def test_a_chunk_that_grows_beyond_its_voxels_is_not_decompressed(tmp_path, monkeypatch, zarr_format, codec, packed):
    """A few kilobytes that become gigabytes: refused by what they say, or after as much as the voxels need."""
    voxels = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    path = write_array(tmp_path / "a.zarr", voxels, zarr_format, (8, 8, 8), compressors=codec)
    np.testing.assert_array_equal(open_tomogram(path, voxel_spacing_angstrom=10).read(), voxels)
    chunk = path / ("0.0.0" if zarr_format == 2 else "c/0/0/0")
    chunk.write_bytes(packed(bytes(64 * 2**20)))
    monkeypatch.setattr("data.zarr_chunks.SMALL_BYTES", {})
    monkeypatch.setattr(zarr.Array, "__getitem__", lambda *_: pytest.fail("decompressed"))
    with pytest.raises(InputError, match=f"{chunk}.*more than its 2048 bytes"):
        open_tomogram(path, voxel_spacing_angstrom=10).read()
