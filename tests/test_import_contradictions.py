"""Two sources of one fact about imported picks are compared, and what a second import finds there."""

import json
import shutil

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile
from test_import_dataset import CENTRED, CENTRES, FILES, SHAPE, SPACING, positions, run_import, write_star
from test_import_dataset import project as project  # a fixture

import import_dataset
import prepare_mask_czi
from data.czi import find_runs
from data.tomogram import open_tomogram
from errors import InputError
from formats.input_files import find_tomograms
from formats.tomogram_names import match_run, series_name, similar_run

SIZES = [f"rlnTomoSize{axis}" for axis in "XYZ"]
PLAIN = [f"rlnCoordinate{axis}" for axis in "XYZ"]
PIXEL, BINNING = "rlnTomoTiltSeriesPixelSize", "rlnTomoTomogramBinning"


def write_tomograms_star(path, *, pixel=2.5, unbinned=4, binning=4.0):
    """Of tilt series whose unbinned volumes have so many pixels for a voxel."""
    sizes = {name: unbinned * size for name, size in zip(SIZES, SHAPE[::-1], strict=True)}
    rows = [{"rlnTomoName": run, PIXEL: pixel, BINNING: binning, **sizes} for run in CENTRES]
    starfile.write({"global": pd.DataFrame(rows)}, path)


def write_relion4(path, optics_pixel, *, pixel=2.5):
    """Coordinates in unbinned pixels."""
    points = np.concatenate(list(CENTRES.values())) * SPACING / pixel
    names = [run for run, centres in CENTRES.items() for _ in centres]
    table = pd.DataFrame(points, columns=PLAIN).assign(rlnTomoName=names, rlnOpticsGroup=1)
    optics = pd.DataFrame({"rlnOpticsGroup": [1], PIXEL: [optics_pixel]})
    starfile.write({"optics": optics, "particles": table}, path)


def assert_right(project):
    for run, points in positions(project / "out").items():
        np.testing.assert_allclose(points, CENTRES[run], atol=1e-3)


# --- RELION -------------------------------------------------------------------------------------------
def test_pixel_sizes_of_the_optics_and_of_tomograms_star(project):
    write_relion4(project / "particles.star", 2.5)
    write_tomograms_star(project / "tomograms.star", pixel=5.0, unbinned=2, binning=2.0)
    with pytest.raises(InputError, match=r"particles\.star says 2\.5 .*tomograms\.star 5; .*--tomograms_star none"):
        run_import(project)
    run_import(project, "--tomograms_star", "none")
    assert_right(project)


def test_pixel_sizes_that_differ_by_rounding(project):
    write_relion4(project / "particles.star", 2.5)
    write_tomograms_star(project / "tomograms.star", pixel=2.503)
    run_import(project)
    assert_right(project)


def test_a_volume_that_is_not_the_tomogram(project):
    """Six percent larger: centred coordinates would be three percent of the tomogram off."""
    write_tomograms_star(project / "tomograms.star", unbinned=4.24)
    with pytest.raises(InputError, match=r"tomograms\.star: the volume of 001 is 636 x 424 x 212 .*600 x 400 x 200"):
        run_import(project)
    assert not (project / "out").exists()
    run_import(project, "--tomograms_star", "none")
    assert_right(project)


def test_a_volume_that_was_rounded_in_binning(project):
    """The middle of the unbinned volume counts: half a percent of 300 angstrom."""
    write_tomograms_star(project / "tomograms.star", unbinned=4.02)
    run_import(project)
    found = positions(project / "out")["001"]
    np.testing.assert_allclose(found - CENTRES["001"], np.tile([0.15, 0.1, 0.05], (6, 1)), atol=1e-3)


def test_the_voxel_size_of_the_header_and_of_relions_tomogram(project):
    for path in (project / "tomograms").iterdir():
        with mrcfile.open(path, "r+") as file:
            file.voxel_size = 13.0
    write_tomograms_star(project / "tomograms.star")
    with pytest.raises(InputError, match=r"tomograms\.star says 10 angstrom .*rec_001\.mrc 13; .*--voxel_spacing"):
        run_import(project)
    run_import(project, "--voxel_spacing", "10", "--to_zarr")
    assert_right(project)


def test_pixels_of_relion_3_are_of_the_size_that_the_file_says(project):
    points = np.concatenate(list(CENTRES.values())) * 4
    names = [FILES[run] for run, centres in CENTRES.items() for _ in centres]
    table = pd.DataFrame(points, columns=PLAIN).assign(
        rlnMicrographName=names, rlnMagnification=10000.0, rlnDetectorPixelSize=2.5
    )
    starfile.write(table, project / "particles.star")
    with pytest.raises(InputError, match=r"picked on a volume of voxels of 2\.5 angstrom.*--coords_angpix"):
        run_import(project)
    run_import(project, "--coords_angpix", "2.5")
    assert_right(project)


def test_a_tomograms_star_that_is_not_there_or_not_needed(project):
    with pytest.raises(InputError, match="no such file"):
        run_import(project, "--tomograms_star", project / "nowhere.star")
    write_tomograms_star(project / "tomograms.star")
    rows = [f"{run},{x},{y},{z}" for run, c in CENTRES.items() for x, y, z in c]
    (project / "p.csv").write_text("\n".join(["tomogram,x_px,y_px,z_px", *rows]))
    with pytest.raises(InputError, match="no picks file is a STAR file"):
        run_import(project, "--tomograms_star", project / "tomograms.star", picks="p.csv")


def test_a_star_file_of_a_header_alone(project):
    starfile.write(pd.DataFrame(columns=["rlnTomoName", *CENTRED]), project / "particles.star")
    with pytest.raises(InputError, match="hold no points"):
        run_import(project)


# --- A second import ----------------------------------------------------------------------------------
def test_a_particle_in_other_capitals_is_the_same(project):
    run_import(project, name="Spike")
    run_import(project, "--radius", "SPIKE=40", name="spike", radius=False)
    [row] = json.loads((project / "out" / "particles.json").read_text())
    assert row["name"] == "Spike"
    assert {path.name for path in (project / "out").rglob("Picks/*")} == {"Spike.json"}
    write_star(project / "particles.star", {run: c + 1 for run, c in CENTRES.items()})
    with pytest.raises(InputError, match="with other content"):
        run_import(project, name="spike", radius=False)


def test_tomograms_that_were_moved(project):
    flags = {"name": "ribosome", "radius": False}
    run_import(project, **flags)
    shutil.move(project / "tomograms", project / "moved")
    path = find_runs(project / "out")[0].tomogram_path("denoised")
    with pytest.raises(InputError, match=r"denoised\.mrc is a link to .*tomograms/rec_001\.mrc, which is not there"):
        prepare_mask_czi.main(["--data_root", str(project / "out")])
    (project / "tomograms").symlink_to(project / "moved")
    run_import(project, "--copy", **flags)
    (project / "tomograms").unlink()
    words = ["--tomograms", project / "moved", "--picks", project / "particles.star", "--particle", "ribosome"]
    import_dataset.main([str(word) for word in (*words, "--output_dir", project / "out")])
    assert open_tomogram(path).shape_zyx == SHAPE


# --- Names --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "runs", "found"),
    [
        ("TS_1", ["TS_1_rec_bin4_filt", "TS_2"], "TS_1_rec_bin4_filt"),
        ("TS_1", ["TS_1_10.00Apx_EVN", "TS_11_SIRT"], "TS_1_10.00Apx_EVN"),
        ("ts_1", ["TS_1", "TS_2"], "TS_1"),
        ("TS_1_filtered.mrc", ["TS_1", "TS_11"], "TS_1"),
        ("TS_1_2", ["TS_1"], None),
        ("TS_1", ["TS_1_EVN", "TS_1_ODD"], None),
        ("TS_1", ["TS_12"], None),
    ],
)
def test_names_that_fit_in_part(name, runs, found):
    assert match_run(name, runs[0], runs) is None and similar_run(name, runs) == found


def test_a_name_that_fits_in_part_is_said(project):
    (project / "tomograms" / "rec_001.mrc").rename(project / "tomograms" / "001_denoised.mrc")
    with pytest.warns(UserWarning, match="names that fit a tomogram in part: 001 as 001_denoised"):
        run_import(project)
    assert set(positions(project / "out")) == {"001_denoised", "TS_02"}


def test_two_names_for_one_tomogram_are_none(project):
    write_star(
        project / "particles.star", {"001_a": CENTRES["001"], "001_b": CENTRES["001"], "TS_02": CENTRES["TS_02"]}
    )
    with pytest.warns() as told:
        run_import(project)
    assert "picks without a tomogram, left out: 001_a, 001_b" in [str(one.message) for one in told]


def test_accents_of_macos_and_two_underscores():
    assert match_run("Pro\u0308be", "p.csv", ["Pr\u00f6be"]) == "Pr\u00f6be"
    assert series_name("TS_1__bin4.mrc") == "TS_1"


# --- Files of tomograms -------------------------------------------------------------------------------
def test_brackets_and_comments(project):
    folder = project / "g[1]"
    shutil.copytree(project / "tomograms", folder)
    (folder / "rec_001.mrc").rename(folder / "001 [2].mrc")
    (project / "list.txt").write_text("# mine\ng[1]/001 [2].mrc\n\n  # and\ng[1]/*.rec\n")
    for words in ([folder], [folder / "001 [2].mrc", folder / "*.rec"], [project / "list.txt"]):
        found = find_tomograms([str(word) for word in words])
        assert [path.name for path in found] == ["001 [2].mrc", "TS_02_10.00Apx.rec"]


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a.tif", "tif2mrc a.tif a.mrc; TIFF has no voxel size, so give --voxel_spacing"),
        ("a.em", "e2proc3d.py a.em a.mrc"),
        ("a.hdf", "e2proc3d.py a.hdf a.mrc"),
        ("a.npy", r"mrcfile.write\('a.mrc', numpy.load\('a.npy'\)"),
        ("a.zarr.zip", "unpack it"),
        ("tomograms.star", "--tomograms_star"),
        ("a.raw", "convert it to MRC"),
    ],
)
def test_files_of_other_programs_say_how_they_become_mrc(tmp_path, name, advice):
    (tmp_path / name).write_bytes(b"x" * 2000)
    with pytest.raises(InputError, match=rf"{name}: neither MRC nor zarr; .*{advice}"):
        open_tomogram(tmp_path / name)
    if not name.endswith("raw"):
        with pytest.raises(InputError, match=rf"nothing of .zarr.*{name} is neither MRC nor zarr; .*{advice}"):
            find_tomograms([str(tmp_path)])


# --- What comes next ----------------------------------------------------------------------------------
def test_one_tomogram_is_too_few_to_train(project, capsys):
    (project / "tomograms" / FILES["TS_02"]).unlink()
    with pytest.warns(UserWarning, match="left out: TS_02"):
        run_import(project)
    printed = capsys.readouterr().out
    assert "import a second tomogram" in printed and "train.py" not in printed


def test_many_tomograms_are_dealt_out_to_folds():
    words = import_dataset.next_commands
    assert "--num_folds 5" in words(import_dataset.Path("mine"), "denoised", 11)
    assert "--num_folds" not in words(import_dataset.Path("mine"), "denoised", 10)
