"""import_dataset.py takes tomograms of every mode and suffix: their voxels and voxel sizes arrive."""

import json

import mrcfile
import numpy as np
import pytest
from test_tomogram import IMOD, write_bytes_mrc, write_group

import import_dataset
from data.czi import find_runs
from data.tomogram import MRC_SUFFIXES, open_tomogram
from errors import InputError

SPACING = 10.012
# x, y, z; the particles are dark.
CENTRES = np.array([[3, 4, 3], [12, 3, 5], [4, 13, 7], [13, 14, 4], [9, 9, 6], [15, 9, 2]])
COMPRESSION = {".gz": "gzip", ".bz2": "bzip2"}


def grey_values(dtype=np.int16, add=0):
    """(Z, Y, X) = (10, 18, 20), whole numbers from -38 to 57 plus what is added."""
    grey = np.random.default_rng(0).integers(40, 58, (10, 18, 20))
    for centre in CENTRES[:, ::-1]:
        grey[np.linalg.norm(np.moveaxis(np.indices(grey.shape), 0, -1) - centre, axis=-1) <= 2] -= 78
    return (grey + add).astype(dtype)


def mrc(path, voxels):
    with mrcfile.new(path, compression=COMPRESSION.get(path.suffix)) as file:
        file.set_data(voxels)
        file.voxel_size = SPACING
    return voxels


# The helpers of test_tomogram.py write the same voxel size.
def unsigned_bytes(path):
    """Above 127 where it is bright, as IMOD writes it."""
    voxels = grey_values(np.uint8, add=150)
    write_bytes_mrc(path, voxels, stamp=IMOD, flags=0, limits=(0, 255))
    return voxels


def ngff(path, zarr_format, key):
    voxels = grey_values(np.float32)
    write_group(path, voxels, zarr_format, chunks=(8, 8, 8), key=key)
    return voxels


# File -> writes it and returns the voxels.
TOMOGRAMS = {
    "mode0_signed.mrc": lambda path: mrc(path, grey_values(np.int8)),
    "mode0_unsigned.rec": unsigned_bytes,
    "mode1.mrc": lambda path: mrc(path, grey_values(np.int16, add=-3000)),
    "mode2.mrc": lambda path: mrc(path, grey_values(np.float32) / 7),
    "mode6.mrc": lambda path: mrc(path, grey_values(np.uint16, add=40000)),
    "mode12.mrc": lambda path: mrc(path, (grey_values() / 8).astype(np.float16)),
    "v2.zarr": lambda path: ngff(path, 2, "multiscales"),
    "v3.zarr": lambda path: ngff(path, 3, "ome"),
    **{f"suffix{s}": lambda path: mrc(path, grey_values(np.float32)) for s in (*MRC_SUFFIXES, ".MRC")},
}


def imported(folder, name, *flags):
    """The tomogram as the other scripts find it."""
    rows = [f"{x},{y},{z}" for x, y, z in CENTRES.tolist()]
    (folder / "picks.csv").write_text("\n".join(["x_voxels,y_voxels,z_voxels", *rows]))
    words = ["--tomograms", folder / name, "--picks", folder / "picks.csv", "--output_dir", folder / "out"]
    import_dataset.main([str(word) for word in (*words, "--particle", "spike", "--radius", "spike=20", *flags)])
    [run] = find_runs(folder / "out", tomo_type="denoised")
    assert run.name == name.split(".")[0]
    points = json.loads((run.picks_dir / "spike.json").read_text())["points"]
    return run.tomogram_path("denoised"), np.array([[p["location"][axis] for axis in "xyz"] for p in points])


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr("evaluation.overlays.save_overlay", lambda *args, **more: None)


@pytest.mark.parametrize("flag", [None, "--copy", "--to_zarr"], ids=["link", "copy", "zarr"])
@pytest.mark.parametrize("name", TOMOGRAMS)
def test_voxels_and_their_size_arrive(tmp_path, name, flag):
    voxels = TOMOGRAMS[name](tmp_path / name)
    path, points = imported(tmp_path, name, *([flag] if flag else []))
    assert path.is_symlink() == (flag is None)
    assert path.name == "denoised" + (".zarr" if flag == "--to_zarr" else name[name.index(".") :])
    tomogram = open_tomogram(path)
    np.testing.assert_array_equal(tomogram.read(), voxels.astype(np.float32))
    assert tomogram.voxel_spacing_angstrom == pytest.approx(SPACING, rel=1e-6)
    np.testing.assert_allclose(points, CENTRES * SPACING, rtol=1e-6)


@pytest.mark.parametrize("flag", [None, "--copy", "--to_zarr"], ids=["link", "copy", "zarr"])
def test_a_stack_of_sections_does_not_know_its_size_along_z(tmp_path, flag):
    voxels = grey_values(np.float32)
    with mrcfile.new(tmp_path / "a.mrcs") as file:
        file.set_data(voxels)
        file.set_image_stack()
        file.voxel_size = SPACING
    with pytest.raises(InputError, match=r"a\.mrcs: .*--voxel_spacing"):
        imported(tmp_path, "a.mrcs")
    path, _ = imported(tmp_path, "a.mrcs", "--voxel_spacing", SPACING, *([flag] if flag else []))
    tomogram = open_tomogram(path)
    np.testing.assert_array_equal(tomogram.read(), voxels)
    assert tomogram.voxel_spacing_angstrom == pytest.approx(SPACING)


def test_a_transform_is_no_tomogram(tmp_path):
    mrc(tmp_path / "a.mrc", grey_values(np.complex64))
    with pytest.raises(InputError, match=r"a\.mrc: voxels of type complex64"):
        imported(tmp_path, "a.mrc")
    assert not (tmp_path / "out").exists()
