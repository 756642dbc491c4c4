"""Every writer: read by the library that owns the format, by our own reader, and by the format's public rule."""

import csv
import json
import os
import re
import runpy
import shlex
import struct
import subprocess
import sys
import types
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import dynamotable
import emfile
import imodmodel
import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile
import zarr
from scipy.ndimage import center_of_mass, gaussian_filter, map_coordinates

from data.picks import Picks, picks_of_table, picks_table
from data.tomogram import open_tomogram
from errors import InputError
from formats import read_points
from formats.dataset import assign
from formats.export import Export, PickedTomogram, box_size, tilt_series_of
from formats.next_command import Command
from formats.star import read_tilt_series
from formats.writers import WRITERS, bring_up_to_date, next_commands, write_formats
from particle_config import PARTICLES

EVEN, ODD = (24, 32, 40), (25, 33, 41)  # z, y, x
SPACING = 10.012
RIBOSOME, FERRITIN = "ribosome", "apo-ferritin"
# Voxels z, y, x: corner, opposite corner, middle, off the grid.
CORNERS = np.array([[0.0, 0.0, 0.0], [23.0, 31.0, 39.0], [12.0, 16.0, 20.0], [7.3, 20.6, 11.45]])
# Blobs far enough from the borders and from each other for a box to be cut.
BLOBS = np.array([[6.0, 7.0, 8.0], [16.4, 8.3, 9.7], [7.8, 24.25, 10.5], [17.0, 23.6, 31.2], [8.2, 9.1, 30.75]])
BOX = 4
# Formats whose files do not say which particle they hold; the name of the file does.
NAMELESS = ("relion5", "relion3", "warp", "dynamo", "motl")
NO_PICKS = ("micrographs.star", "_import.star", "config.json")


def picks_of(run, particle, voxels_zyx, spacing=SPACING):
    count = len(voxels_zyx)
    scores = np.linspace(0.9, 0.25, count)
    confidences = np.where(np.arange(count) == 1, np.nan, scores / 2)
    return Picks(particle, run, np.array(voxels_zyx) * spacing, scores, scores / 10, np.full(count, 40.0), confidences)


def mrc(path, volume, spacing=SPACING):
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path, volume.astype(np.float32)) as file:
        file.voxel_size = spacing
    return path


def phantom(shape):
    """Bright blobs at BLOBS, to a fraction of a voxel."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return sum(np.exp(-((grid - blob) ** 2).sum(axis=-1) / 2) for blob in BLOBS)


def picked(tmp_path, name="TS_01", shape=EVEN, voxels=CORNERS, particles=(RIBOSOME,), volume=None):
    path = mrc(tmp_path / "tomograms" / f"{name}.mrc", np.zeros(shape) if volume is None else volume)
    return PickedTomogram.of(name, open_tomogram(path), [picks_of(name, one, voxels) for one in particles])


def export_of(tomograms, *, star=None, **options):
    known = None if star is None else read_tilt_series(star)
    return Export(tuple(tomograms), PARTICLES, tilt_series_of(tomograms, known=known, **options), star)


def tomograms_star(path, names, shape, binning, extra_pixels=0):
    """Of a RELION project whose tomograms of ``shape`` were binned, with so many pixels beyond the last whole voxel."""
    table = {"rlnTomoName": names, "rlnTomoTiltSeriesPixelSize": SPACING / binning}
    table |= {"rlnVoltage": 300.0, "rlnSphericalAberration": 2.7, "rlnAmplitudeContrast": 0.07}
    table |= {f"rlnTomoSize{axis}": n * binning + extra_pixels for axis, n in zip("ZYX", shape, strict=True)}
    starfile.write({"global": pd.DataFrame(table)}, path)
    return path


def files_with_picks(folder):
    files = [
        file for file in sorted(folder.rglob("*")) if file.is_file() and file.suffix not in (".cxc", ".py", ".doc")
    ]
    # Files of RELION's import hold the same picks again.
    return [f for f in files if not f.name.endswith(NO_PICKS) and not f.parent.name.endswith("_import")]


def read_back(name, folder, export):
    """Run -> particle -> (N, 3) zyx angstrom by our own readers."""
    tomograms = {one.name: open_tomogram(one.path) for one in export.tomograms}
    found = {}
    for file in files_with_picks(folder):
        groups = [g for g in read_points(file, tomograms_star=export.tomograms_star) if len(g.coordinates_xyz)]
        pixel = SPACING if name == "warp" else None
        one = assign(groups, tomograms, particle=file.stem if name in NAMELESS else None, pixel_size_angstrom=pixel)
        assert not one.unmatched
        for run, by_particle in one.points.items():
            found.setdefault(run, {}).update(by_particle)
    return found


# --- Our own reader -----------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore:TS_01 is:UserWarning")
@pytest.mark.parametrize("binning", [1, 4, 6])
@pytest.mark.parametrize("shape", [EVEN, ODD], ids=["even", "odd"])
@pytest.mark.parametrize("name", WRITERS)
def test_our_reader_finds_every_pick_where_it_was(tmp_path, name, shape, binning):
    tomograms = [picked(tmp_path, run, shape, particles=(RIBOSOME, FERRITIN)) for run in ("TS_01", "TS_02")]
    export = export_of(tomograms, binning=binning)
    write_formats([name], tmp_path, export)
    found = read_back(name, tmp_path / name, export)
    assert sorted(found) == ["TS_01", "TS_02"]
    for by_particle in found.values():
        assert sorted(by_particle) == [FERRITIN, RIBOSOME]
        for points in by_particle.values():
            np.testing.assert_allclose(points, CORNERS * SPACING, atol=1e-3)


@pytest.mark.parametrize("run", ["001", "TS_01_Vol", "rec_TS_7_10.00Apx", "my tomogram, second"])
@pytest.mark.parametrize("name", WRITERS)
def test_names_of_tomograms_come_back(tmp_path, name, run):
    """RELION and Warp get the name of the tilt series, which import_dataset.py gives to the tomogram as well."""
    in_series = {"TS_01_Vol": "TS_01", "rec_TS_7_10.00Apx": "TS_7"}.get(run, run)
    export = export_of([picked(tmp_path, run), picked(tmp_path, "TS_99")])
    assert export.series[run].name == in_series
    write_formats([name], tmp_path, export)
    renamed = {
        one.name: PickedTomogram(**{**vars(one), "name": export.series[one.name].name}) for one in export.tomograms
    }
    found = read_back(name, tmp_path / name, Export(tuple(renamed.values()), PARTICLES, {}))
    assert sorted(found) == sorted([in_series, "TS_99"])


@pytest.mark.parametrize("name", WRITERS)
def test_tomograms_without_picks_leave_files_that_can_be_read(tmp_path, name):
    export = export_of([picked(tmp_path, voxels=np.empty((0, 3)))])
    write_formats([name], tmp_path, export)
    if (tmp_path / name).is_dir():
        assert read_back(name, tmp_path / name, export) == {}
    assert write_formats([name], tmp_path / "nothing", Export((), PARTICLES, {})) is not None


# --- By the public rule -------------------------------------------------------------------------------
def star_rows(path):
    """Rows of the last table of a STAR file, as words: labels behind ``loop_``, then lines of values."""
    labels, rows = [], []
    for line in path.read_text().splitlines():
        if line.startswith(("data_", "loop_")):
            labels, rows = [], []
        elif line.startswith("_"):
            labels.append(line.split()[0][1:])
        elif line.strip() and not line.startswith("#"):
            rows.append(dict(zip(labels, shlex.split(line), strict=True)))
    return rows


def by_rule_relion5(folder, tomogram, unbinned):
    """Extraction: pixel of the unbinned volume = centred / pixel size + size / 2, from 0."""
    pixel, size = SPACING / unbinned["binning"], np.array(unbinned["size_xyz"])
    rows = star_rows(folder / "ribosome.star")
    centred = np.array([[float(row[f"rlnCenteredCoordinate{axis}Angst"]) for axis in "XYZ"] for row in rows])
    return (centred / pixel + size / 2) * pixel / SPACING


def by_rule_plain_star(folder, tomogram, unbinned):
    """Pixels of the tomogram, from 0."""
    rows = star_rows(folder / "ribosome.star")
    return np.array([[float(row[f"rlnCoordinate{axis}"]) for axis in "XYZ"] for row in rows])


def by_rule_copick(folder, tomogram, unbinned):
    """Angstrom; a volume's voxel i lies at i times its size."""
    config = json.loads((folder / "config.json").read_text())
    overlay = Path(config["overlay_root"].removeprefix("local://"))
    [file] = overlay.glob(f"ExperimentRuns/{tomogram.name}/Picks/*_*_ribosome.json")
    points = json.loads(file.read_text())["points"]
    return (
        np.array([[p["location"][axis] + p["transformation_"][i][3] for i, axis in enumerate("xyz")] for p in points])
        / SPACING
    )


def by_rule_ndjson(folder, tomogram, unbinned):
    """Voxels of the size that the folder VoxelSpacing{s} says, from 0."""
    [file] = folder.rglob("ribosome-1.0_point.ndjson")
    size = float(re.search(r"VoxelSpacing([\d.]+)", str(file))[1])
    points = [json.loads(line)["location"] for line in file.read_text().splitlines()]
    return np.array([[point[axis] for axis in "xyz"] for point in points]) * size / SPACING


def by_rule_csv(folder, tomogram, unbinned):
    with (folder / "picks.csv").open() as file:
        return np.array([[float(row[axis]) for axis in "xyz"] for row in csv.DictReader(file)]) / SPACING


def by_rule_imod(folder, tomogram, unbinned):
    """Model coordinates run from 0 to NX and NY, from -0.5 in z: the first voxel is centred at 0.5, 0.5, 0."""
    content = (folder / "TS_01.mod").read_bytes()
    assert content[:8] == b"IMODV1.2" and content[-4:] == b"IEOF"
    assert struct.unpack(">4i", content[136:152]) == (*tomogram.size_xyz, 1)
    place = content.index(b"CONT")
    (count,) = struct.unpack_from(">i", content, place + 4)
    return np.array(struct.unpack_from(f">{3 * count}f", content, place + 20)).reshape(-1, 3) - [0.5, 0.5, 0]


def by_rule_dynamo(folder, tomogram, unbinned):
    """Columns 24 to 26, the first voxel is 1."""
    lines = (folder / "ribosome.tbl").read_text().splitlines()
    return np.array([[float(word) for word in line.split()[23:26]] for line in lines]) - 1


def by_rule_motl(folder, tomogram, unbinned):
    """20 rows of MATLAB, column by column, behind 512 bytes; rows 8 to 10, the first voxel is 1."""
    content = (folder / "ribosome.em").read_bytes()
    rows, columns, _ = struct.unpack_from("<3i", content, 4)
    assert (content[0], content[3], rows, len(content)) == (6, 5, 20, 512 + 80 * columns)
    return np.array(struct.unpack_from(f"<{rows * columns}f", content, 512)).reshape(-1, 20)[:, 7:10] - 1


def by_rule_eman(folder, tomogram, unbinned):
    """Unbinned pixels from voxel n // 2, as e2spt_boxer shows them."""
    info = json.loads((folder / "info" / "TS_01_info.json").read_text())
    middle = np.array(tomogram.size_xyz) // 2
    return np.array([box[:3] for box in info["boxes_3d"]]) / SPACING * info["apix_unbin"] + middle


def by_rule_chimerax(folder, tomogram, unbinned):
    """Angstrom of the map, whose first voxel lies at its origin."""
    markers = ElementTree.parse(folder / "TS_01_ribosome.cmm").getroot()
    origin = [float(mrcfile.open(tomogram.path).header.origin[axis]) for axis in "xyz"]
    return (np.array([[float(m.get(axis)) for axis in "xyz"] for m in markers]) - origin) / SPACING


def by_rule_napari(folder, tomogram, unbinned):
    with (folder / "TS_01.csv").open() as file:
        return np.array([[float(row[f"axis-{n}"]) for n in (2, 1, 0)] for row in csv.DictReader(file)])


BY_RULE = {"relion3": by_rule_plain_star, "warp": by_rule_plain_star} | {
    name.removeprefix("by_rule_"): function
    for name, function in globals().copy().items()
    if name.startswith("by_rule_")
}


def mean_at(volume, voxels_xyz):
    """The mean of boxes cut out at positions, interpolated between voxels."""
    steps = np.stack(np.meshgrid(*[np.arange(-BOX, BOX + 1)] * 3, indexing="ij"))
    boxes = [map_coordinates(volume, steps + point[::-1].reshape(3, 1, 1, 1), order=3) for point in voxels_xyz]
    return np.mean(boxes, axis=0)


@pytest.mark.filterwarnings("ignore:TS_01 is:UserWarning")
@pytest.mark.parametrize("binning", [1, 4, 6])
@pytest.mark.parametrize("shape", [EVEN, ODD], ids=["even", "odd"])
@pytest.mark.parametrize("name", WRITERS)
def test_boxes_cut_out_at_the_written_positions_are_centred(tmp_path, name, shape, binning):
    """By the rule of each format alone; a volume that was binned had a few more pixels than its voxels tell."""
    volume = phantom(shape)
    tomogram = picked(tmp_path, shape=shape, voxels=BLOBS, volume=volume)
    beyond = binning // 2
    star = tomograms_star(tmp_path / "tomograms.star", ["TS_01"], shape, binning, beyond)
    write_formats([name], tmp_path, export_of([tomogram], star=star))
    unbinned = {"binning": binning, "size_xyz": [n * binning + beyond for n in shape[::-1]]}
    voxels = BY_RULE[name](tmp_path / name, tomogram, unbinned)
    np.testing.assert_allclose(voxels, BLOBS[:, ::-1], atol=1e-3)
    mean = mean_at(volume, voxels)
    np.testing.assert_allclose(center_of_mass(mean), [BOX] * 3, atol=0.1)
    assert np.unravel_index(gaussian_filter(mean, 0.5).argmax(), mean.shape) == (BOX,) * 3


def test_every_writer_has_a_rule():
    assert set(BY_RULE) >= set(WRITERS)


# --- RELION and Warp ----------------------------------------------------------------------------------
def test_relion5_without_a_project_leaves_the_optics_to_relion(tmp_path):
    write_formats(["relion5"], tmp_path, export_of([picked(tmp_path)]))
    blocks = starfile.read(tmp_path / "relion5" / "ribosome.star", always_dict=True)
    assert list(blocks) == ["particles"]
    np.testing.assert_allclose(blocks["particles"]["rlnAutopickFigureOfMerit"], np.linspace(0.9, 0.25, 4), atol=1e-6)
    expected = (CORNERS - np.array(EVEN) / 2) * SPACING
    np.testing.assert_allclose(blocks["particles"]["rlnCenteredCoordinateZAngst"], expected[:, 0], atol=1e-5)


def test_relion5_with_a_project_has_its_optics_and_names(tmp_path):
    star = tomograms_star(tmp_path / "project.star", ["TS_01", "TS_02"], EVEN, 4)
    tomograms = [picked(tmp_path, "rec_TS_02"), picked(tmp_path, "TS_01")]
    commands = write_formats(["relion5"], tmp_path, export_of(tomograms, star=star))
    blocks = starfile.read(tmp_path / "relion5" / "ribosome.star", always_dict=True)
    assert list(blocks["optics"]["rlnOpticsGroupName"]) == ["TS_02", "TS_01"]
    assert list(blocks["optics"]["rlnVoltage"]) == [300.0, 300.0]
    assert list(blocks["particles"]["rlnTomoName"]) == ["TS_02"] * 4 + ["TS_01"] * 4
    assert list(blocks["particles"]["rlnOpticsGroup"]) == [1] * 4 + [2] * 4
    words = shlex.split(commands["relion5"][0].line)
    assert words[:5] == ["relion_tomo_subtomo", "--p", str(tmp_path / "relion5" / "ribosome.star"), "--t", str(star)]
    assert words[words.index("--bin") + 1] == "4"


def test_relion5_import_list_names_files_of_one_table_each(tmp_path):
    """RELION reads the first table of a file, and takes a wildcard that fits one file for the list itself."""
    commands = write_formats(["relion5"], tmp_path, export_of([picked(tmp_path, "TS_1"), picked(tmp_path, "001")]))
    path = tmp_path / "relion5" / "ribosome_import.star"
    first, second = commands["relion5"]
    assert first == Command(f"relion_tomo_import_coordinates --i {path} --o Import/ribosome/")
    assert second.program == "ChimeraX with ArtiaX"
    table = path.with_name("ribosome_import") / "TS_1.star"
    assert second.line == f'open "{table}" format relion5 voldim 40,32,24 voxelsize 10.012 prefix TS_'
    rows = star_rows(path)
    assert [row["rlnTomoName"] for row in rows] == ["TS_1", "001"]
    for row in rows:
        table = Path(row["rlnTomoImportParticleFile"])
        assert table.is_absolute() and table.parent != path.parent
        assert table.read_text().count("data_") == 1
        assert {one["rlnTomoName"] for one in star_rows(table)} == {row["rlnTomoName"]}


def test_relion5_warns_of_odd_sizes_once(tmp_path):
    export = export_of([picked(tmp_path, "a", ODD), picked(tmp_path, "b", ODD)])
    with pytest.warns(UserWarning, match="41 x 33 x 25 voxels") as caught:
        write_formats(["relion5"], tmp_path, export)
    assert len(caught) == 1


def test_warp_names_and_sizes(tmp_path):
    commands = write_formats(["warp"], tmp_path, export_of([picked(tmp_path, "TS_01_10.01Apx")]))
    table = starfile.read(tmp_path / "warp" / "ribosome.star")
    assert set(table["rlnMicrographName"]) == {"TS_01.tomostar"}
    np.testing.assert_allclose(table["rlnCoordinateX"], CORNERS[:, 2], atol=1e-6)
    words = shlex.split(commands["warp"][0].line)
    assert words[words.index("--coords_angpix") + 1] == "10.012"
    assert words[words.index("--diameter") + 1] == "300"
    assert int(words[words.index("--box") + 1]) % 2 == 0


def test_relion3_points_at_the_tomogram_and_knows_its_pixels(tmp_path):
    tomogram = picked(tmp_path)
    write_formats(["relion3"], tmp_path, export_of([tomogram]))
    table = starfile.read(tmp_path / "relion3" / "ribosome.star")
    assert set(table["rlnMicrographName"]) == {str(tomogram.path)}
    pixel = table["rlnDetectorPixelSize"] * 10000 / table["rlnMagnification"]
    np.testing.assert_allclose(pixel, SPACING)


# --- Libraries that own a format ----------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the other library
def test_imodmodel_reads_points_looks_and_values(tmp_path):
    tomogram = picked(tmp_path, particles=(RIBOSOME, FERRITIN))
    commands = write_formats(["imod"], tmp_path, export_of([tomogram]))
    path = tmp_path / "imod" / "TS_01.mod"
    assert commands["imod"] == [Command(f"3dmod {tomogram.path} {path}")]
    table = imodmodel.read(path)
    points = table[table["object_id"] == 1][["z", "y", "x"]].to_numpy()
    np.testing.assert_allclose(points, CORNERS + np.array([0, 0.5, 0.5]), atol=1e-4)
    model = imodmodel.ImodModel.from_file(path)
    assert (model.header.xmax, model.header.ymax, model.header.zmax) == EVEN[::-1]
    assert (model.header.pixelsize, model.header.units) == (pytest.approx(SPACING / 10), -9)
    one = model.objects[1]
    assert one.header.name == RIBOSOME and one.header.flags.scattered and one.header.flags.open
    assert one.header.pdrawsize == round(150 / SPACING)
    assert (one.header.red, one.header.green) == (pytest.approx(0x3C / 255), pytest.approx(0xB4 / 255))
    scores = np.linspace(0.9, 0.25, 4)
    np.testing.assert_allclose([item.value for item in one.contours[0].extra], scores, atol=1e-6)
    assert [item.index for item in one.contours[0].extra] == [0, 1, 2, 3]
    assert (one.extra[0].index, one.extra[0].value) == (pytest.approx(0.25), pytest.approx(0.9))


def test_dynamotable_reads_the_table(tmp_path):
    tomograms = [picked(tmp_path, "TS_02"), picked(tmp_path, "TS_01")]
    write_formats(["dynamo"], tmp_path, export_of(tomograms))
    table = dynamotable.read(tmp_path / "dynamo" / "ribosome.tbl")
    np.testing.assert_allclose(table[["z", "y", "x"]][:4], CORNERS + 1, atol=1e-4)
    assert list(table["tag"]) == list(range(1, 9)) and list(table["tomo"]) == [1] * 4 + [2] * 4
    np.testing.assert_allclose(table["cc"][:4], np.linspace(0.9, 0.25, 4), atol=1e-6)
    assert set(table["class"]) == {4}
    np.testing.assert_allclose(table["apix"], SPACING)
    lines = (tmp_path / "dynamo" / "tomograms.doc").read_text().splitlines()
    assert lines == [f"{n} {one.path}" for n, one in enumerate(tomograms, start=1)]


def test_emfile_reads_the_motive_list(tmp_path):
    write_formats(["motl"], tmp_path, export_of([picked(tmp_path, "TS_02"), picked(tmp_path, "TS_01")]))
    header, data = emfile.read(tmp_path / "motl" / "ribosome.em")
    assert (header["xdim"], header["ydim"], header["zdim"]) == (20, 8, 1)
    rows = data[0]
    np.testing.assert_allclose(rows[:4, 7:10], CORNERS[:, ::-1] + 1, atol=1e-4)
    np.testing.assert_allclose(rows[:4, 0], np.linspace(0.9, 0.25, 4), atol=1e-6)
    assert rows[:, 3].tolist() == list(range(1, 9)) and rows[:, 5].tolist() == [1, 2, 3, 4] * 2
    assert rows[:, 4].tolist() == [1] * 4 + [2] * 4 and set(rows[:, 19]) == {4}


def test_a_motive_list_of_emfile_is_read(tmp_path):
    data = np.zeros((1, 2, 20), dtype=np.float32)
    data[0, :, 7:10], data[0, :, 10], data[0, :, 4] = [[2, 3, 4], [5, 6, 7]], 0.5, 3
    emfile.write(tmp_path / "p.em", data)
    [group] = read_points(tmp_path / "p.em")
    assert group.tomogram_name == "3"
    np.testing.assert_allclose(group.coordinates_xyz, [[1.5, 2, 3], [4.5, 5, 6]])


# --- EMAN2 --------------------------------------------------------------------------------------------
def test_eman_keeps_what_else_the_file_holds(tmp_path):
    path = tmp_path / "eman" / "info" / "TS_01_info.json"
    path.parent.mkdir(parents=True)
    classes = {"0": {"name": "membrane", "boxsize": 32}, "3": {"name": RIBOSOME, "boxsize": 8}}
    boxes = [[1, 2, 3, "manual", 1.0, 0], [4, 5, 6, "manual", 1.0, 3]]
    path.write_text(json.dumps({"apix_unbin": 2.5, "tlt_params": [1], "boxes_3d": boxes, "class_list": classes}))
    export = export_of([picked(tmp_path, particles=(RIBOSOME, FERRITIN))])
    for _ in range(2):
        write_formats(["eman"], tmp_path, export)
    info = json.loads(path.read_text())
    assert info["tlt_params"] == [1] and info["boxes_3d"][0] == boxes[0]
    assert [box[5] for box in info["boxes_3d"]] == [0] + [4] * 4 + [3] * 4
    assert info["class_list"]["3"] == {"name": RIBOSOME, "boxsize": box_size(150, 2.5)}
    # The pixels of the file count, not those of the export.
    np.testing.assert_allclose(info["boxes_3d"][-2][:3], [0, 0, 0], atol=1e-4)
    np.testing.assert_allclose(info["boxes_3d"][-4][:3], -np.array([20, 16, 12]) * SPACING / 2.5, atol=1e-4)


def test_eman_says_which_file_it_cannot_merge_with(tmp_path):
    path = tmp_path / "eman" / "info" / "TS_01_info.json"
    path.parent.mkdir(parents=True)
    path.write_text("{broken")
    with pytest.raises(InputError, match="TS_01_info"):
        write_formats(["eman"], tmp_path, export_of([picked(tmp_path)]))
    assert path.read_text() == "{broken"


# --- Viewers ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["origin", "nstart"])
def test_chimerax_markers_follow_the_map(tmp_path, kind):
    """ChimeraX puts the first voxel at the origin of the header, else at nstart voxels."""
    tomogram = picked(tmp_path)
    with mrcfile.open(tomogram.path, "r+") as file:
        if kind == "origin":
            file.header.origin = (100.0, -50.0, 25.0)
        else:
            file.header.nxstart, file.header.nystart, file.header.nzstart = 10, -5, 2
    shift = [100.0, -50.0, 25.0] if kind == "origin" else np.array([10, -5, 2]) * SPACING
    export = export_of([tomogram])
    commands = write_formats(["chimerax"], tmp_path, export)
    markers = ElementTree.parse(tmp_path / "chimerax" / "TS_01_ribosome.cmm").getroot()
    first = [float(markers[0].get(axis)) for axis in "xyz"]
    np.testing.assert_allclose(first, shift, atol=1e-3)
    assert markers[0].get("score") == "0.9000" and markers[0].get("confidence") == "0.4500"
    assert markers[1].get("confidence") is None
    np.testing.assert_allclose(read_back("chimerax", tmp_path / "chimerax", export)["TS_01"][RIBOSOME][0], 0, atol=1e-3)
    script = tmp_path / "chimerax" / "open_TS_01.cxc"
    assert commands["chimerax"] == [Command(f"chimerax {script}")]
    assert script.read_text().splitlines()[0] == f'open "{tomogram.path}"'
    assert 'open "TS_01_ribosome.cmm"' in script.read_text()


def test_zarr_tomograms_are_opened_as_such_and_told_where_a_program_may_not_read_them(tmp_path):
    commands = write_formats(["chimerax", "imod", "warp"], tmp_path, export_of([zarr_tomogram(tmp_path / "a.zarr")]))
    line = (tmp_path / "chimerax" / "open_TS_1.cxc").read_text().splitlines()[0]
    assert line == f'open "{tmp_path / "a.zarr"}" format zarr scales 0'
    assert [one.needs_mrc for here in commands.values() for one in here] == [False, True, False]
    assert str(commands["imod"][0]).endswith("TS_1.mod   (with the tomogram as MRC if it reads no zarr)")


@pytest.mark.parametrize("suffix", [".mrc", ".zarr"])
def test_the_script_for_napari_shows_tomogram_and_picks(tmp_path, monkeypatch, suffix):
    """With a napari that notes what it is given."""
    volume = phantom(EVEN).astype(np.float32)
    tomogram = picked(tmp_path, "TS 1", volume=volume, particles=(RIBOSOME, FERRITIN))
    if suffix == ".zarr":
        zarr.create_group(tmp_path / "a.zarr").create_array("0", data=volume)
        tomogram = PickedTomogram(**{**vars(tomogram), "path": tmp_path / "a.zarr"})
    commands = write_formats(["napari"], tmp_path, export_of([tomogram]))
    shown = {}

    class Viewer:
        def __init__(self, title):
            shown["title"] = title

        def add_image(self, image, **options):
            shown["image"] = np.asarray(image)

        def add_points(self, points, *, name, size, features, **options):
            shown[name] = (points, size, features)

    napari = types.SimpleNamespace(Viewer=Viewer, run=lambda: shown.update(ran=True))
    monkeypatch.setitem(sys.modules, "napari", napari)
    runpy.run_path(shlex.split(commands["napari"][0].line)[1])
    assert shown["title"] == "TS 1" and shown["ran"]
    np.testing.assert_array_equal(shown["image"], volume)
    points, size, features = shown[RIBOSOME]
    np.testing.assert_allclose(points, CORNERS)
    assert size == pytest.approx(2 * 150 / SPACING, abs=0.05)
    assert {"score", "confidence", "uncertainty", "size_voxels"} <= set(features.columns)


def test_voxels_are_those_of_the_file_where_the_tomogram_was_resampled(tmp_path):
    """Picks found at 10 angstrom in a file of 20 x 10 x 5 angstrom (z, y, x)."""
    path = mrc(tmp_path / "a.mrc", np.random.default_rng(0).random(EVEN), (5.0, 10.0, 20.0))
    tomogram = open_tomogram(path, rescale_to_angstrom=10.0)
    one = PickedTomogram.of("a", tomogram, [Picks(RIBOSOME, "a", np.array([[40.0, 50.0, 60.0]]))])
    assert one.shape_zyx == EVEN and one.voxel_size_zyx_angstrom == (20.0, 10.0, 5.0)
    np.testing.assert_allclose(one.voxels_xyz(one.picks[0]), [[12, 5, 2]])
    write_formats(["imod", "napari"], tmp_path, export_of([one]))
    [row] = csv.DictReader((tmp_path / "napari" / "a.csv").read_text().splitlines())
    assert [float(row[f"axis-{n}"]) for n in range(3)] == [2, 5, 12]


# --- copick -------------------------------------------------------------------------------------------
def zarr_tomogram(path, run="TS_1", particles=(RIBOSOME, FERRITIN)):
    group = zarr.create_group(path, zarr_format=2)
    group.create_array("0", data=phantom(EVEN).astype(np.float32))
    scale = [{"type": "scale", "scale": [SPACING] * 3}]
    axes = [{"name": axis, "type": "space", "unit": "angstrom"} for axis in "zyx"]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    return PickedTomogram.of(run, open_tomogram(path), [picks_of(run, one, BLOBS) for one in particles])


def copick_projects(tmp_path):
    """A project over tomograms in copick's own layout, and one over a file elsewhere."""
    static = tmp_path / "static/ExperimentRuns/TS_1/VoxelSpacing10.012/denoised.zarr"
    yield write_project(tmp_path / "over_static", zarr_tomogram(static))
    yield write_project(tmp_path / "over_file", zarr_tomogram(tmp_path / "else/where.zarr"))


def write_project(folder, tomogram):
    commands = write_formats(["copick"], folder, export_of([tomogram]))["copick"]
    words = shlex.split(commands[0].line)
    assert words[:3] == ["napari-copick", "run", "--config"]
    return Path(words[3])


def test_copick_names_hold_nothing_that_copick_refuses(tmp_path):
    for config in copick_projects(tmp_path):
        content = json.loads(config.read_text())
        assert content["config_type"] == "filesystem"
        assert [one["name"] for one in content["pickable_objects"]] == [one.name for one in PARTICLES]
        for file in config.parent.rglob("Picks/*.json"):
            assert len(file.stem.split("_")) == 3 and not re.search(r'[<>:"/\\|?*\s]', file.name)
    assert content.get("static_root") is None
    assert (config.parent / "ExperimentRuns/TS_1/VoxelSpacing10.012/tomogram.zarr").is_symlink()


OPEN_PROJECT = """
import json, sys, copick, numpy as np
root = copick.from_file(sys.argv[1])
run = root.get_run("TS_1")
found = {}
for picks in run.picks:
    points = picks.points or []
    place = lambda p: np.array([p.location.z, p.location.y, p.location.x]) + p.transformation[2::-1, 3]
    found[picks.pickable_object_name] = [[*place(p).tolist(), p.score] for p in points]
[spacing] = run.voxel_spacings
[tomogram] = spacing.tomograms
volume = tomogram.numpy()
print(json.dumps({"picks": found, "spacing": spacing.voxel_size, "shape": volume.shape, "max": float(volume.max()),
    "radius": root.get_object("ribosome").radius, "color": root.get_object("ribosome").color}))
"""


@pytest.mark.skipif("ETFINDER_COPICK_PYTHON" not in os.environ, reason="copick needs an environment of its own")
def test_copick_opens_the_project(tmp_path):
    for config in copick_projects(tmp_path):
        command = [os.environ["ETFINDER_COPICK_PYTHON"], "-c", OPEN_PROJECT, str(config)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout.splitlines()[-1])
        assert sorted(seen["picks"]) == sorted(one.name for one in PARTICLES)
        points = np.array(seen["picks"][RIBOSOME])
        np.testing.assert_allclose(points[:, :3], BLOBS * SPACING)
        np.testing.assert_allclose(points[:, 3], np.linspace(0.9, 0.25, len(BLOBS)))
        assert seen["picks"]["thyroglobulin"] == []
        assert (seen["spacing"], seen["shape"], seen["radius"]) == (SPACING, list(EVEN), 150.0)
        assert seen["color"] == [0x3C, 0xB4, 0x4B, 255]


# --- All of them --------------------------------------------------------------------------------------
def test_tables_of_a_run_become_picks(tmp_path):
    table = pd.concat(
        [
            picks_table("a", RIBOSOME, CORNERS, np.arange(4.0), None, None, np.full(4, np.nan)),
            picks_table("a", FERRITIN, CORNERS[:1], np.ones(1), None, None, np.ones(1)),
        ]
    )
    first, second = picks_of_table("a", table)
    assert (first.particle_name, first.run_name, second.particle_name) == (RIBOSOME, "a", FERRITIN)
    np.testing.assert_array_equal(first.coordinates_zyx_angstrom, CORNERS)
    assert first.uncertainties is None and np.isnan(first.confidences).all()


@pytest.mark.parametrize("name", WRITERS)
def test_picks_without_scores_can_be_written(tmp_path, name):
    tomogram = picked(tmp_path)
    bare = Picks(RIBOSOME, "TS_01", tomogram.picks[0].coordinates_zyx_angstrom)
    export = export_of([PickedTomogram(**{**vars(tomogram), "picks": (bare,)})])
    write_formats([name], tmp_path, export)
    np.testing.assert_allclose(
        read_back(name, tmp_path / name, export)["TS_01"][RIBOSOME], CORNERS * SPACING, atol=1e-3
    )


def test_next_commands_are_lines_that_name_files_that_are_there(tmp_path):
    folder = tmp_path / "with blanks"
    commands = write_formats(list(WRITERS), folder, export_of([picked(folder)]))
    lines = [one.line for here in commands.values() for one in here]
    assert all(commands.values()) and not any("\n" in line for line in lines)
    text = next_commands(commands)
    assert text.splitlines()[0] == "next:" and len(text.splitlines()) == 1 + len(lines)
    assert "  dynamo: dtcrop " in text and text.count("(in Dynamo)") == 1
    for name in set(WRITERS) - {"dynamo", "csv", "motl"}:
        paths = [word for one in commands[name] for word in shlex.split(one.line) if word.startswith("/")]
        assert paths and all(Path(path).exists() for path in paths), commands[name]
    assert next_commands({"imod": []}) == ""


def test_formats_are_never_of_other_picks_than_those_of_the_last_call(tmp_path):
    tomogram = picked(tmp_path, particles=(RIBOSOME, FERRITIN))
    export = export_of([tomogram])
    bring_up_to_date(["imod", "warp"], tmp_path, export)
    (tmp_path / "warp" / "mine.txt").write_text("of the user")
    # The same picks in one more format: the others stay.
    _, removed = bring_up_to_date(["csv"], tmp_path, export)
    assert removed == () and (tmp_path / "imod" / "TS_01.mod").is_file()
    # Other picks: what is not written again would be of those before.
    commands, removed = bring_up_to_date(["warp"], tmp_path, export_of([replace(tomogram, picks=tomogram.picks[:1])]))
    assert removed == ("csv", "imod") and list(commands) == ["warp"]
    assert sorted(path.name for path in (tmp_path / "warp").iterdir()) == ["mine.txt", f"{RIBOSOME}.star"]
    assert not list((tmp_path / "imod").iterdir()) and not list((tmp_path / "csv").iterdir())


def test_tomograms_that_a_project_links_to_are_not_files_of_ours(tmp_path):
    with_zarr = zarr_tomogram(tmp_path / "tomograms" / "TS_1.zarr")
    before = sorted((tmp_path / "tomograms").rglob("*"))
    bring_up_to_date(["copick"], tmp_path, export_of([with_zarr]))
    bring_up_to_date(["csv"], tmp_path, export_of([replace(with_zarr, picks=())]))
    assert sorted((tmp_path / "tomograms").rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "run"),
    [
        *[("relion5", run) for run in ("_a", "#a", "data_x", "loop_", "it's", 'a"b', "a #b")],
        *[("warp", "_a"), ("relion3", "it's"), ("dynamo", "a #b"), ("motl", "#a")],
    ],
)
def test_names_that_a_format_cannot_hold_are_refused(tmp_path, name, run):
    """starfile writes one quote for the other, and takes a name that begins with _ for a label."""
    with pytest.raises(InputError, match=r"cannot stand in .*; rename it"):
        write_formats([name], tmp_path, export_of([picked(tmp_path, run)]))
    assert not (tmp_path / name).exists()


def test_two_names_that_would_be_one_file_are_refused(tmp_path):
    export = export_of([picked(tmp_path, "a b"), picked(tmp_path, "a,b")])
    with pytest.raises(InputError, match=r"a b.*a,b"):
        write_formats(["imod"], tmp_path, export)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"binning": 4, "unbinned_pixel_size_angstrom": 2.5}, "--binning"),
        ({"name_template": "TS"}, "{name}"),
    ],
)
def test_contradictory_options_are_one_error(tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        tilt_series_of([picked(tmp_path)], **options)


def test_names_of_tilt_series(tmp_path):
    tomograms = [picked(tmp_path, "7"), picked(tmp_path, "8")]
    series = tilt_series_of(tomograms, name_template="Position_{name}", unbinned_pixel_size_angstrom=2.5)
    assert [(one.name, one.pixel_size_angstrom) for one in series.values()] == [
        ("Position_7", 2.5),
        ("Position_8", 2.5),
    ]
    star = tomograms_star(tmp_path / "t.star", ["Position_7", "Position_9"], EVEN, 1)
    with pytest.raises(InputError, match=r"tomogram 8.*Position_7, Position_9.*--tomo_name_template"):
        tilt_series_of(tomograms, known=read_tilt_series(star), name_template="Position_{name}")
    with pytest.raises(InputError, match="both of tilt series 'TS_1'"):
        tilt_series_of([picked(tmp_path, "TS_1"), picked(tmp_path, "TS_1_Vol")])


@pytest.mark.parametrize(
    ("radius", "pixel", "expected"), [(150, 10.0, 48), (60, 10.0, 24), (80, 10.0, 24), (1, 10.0, 8)]
)
def test_boxes_hold_the_particle_and_are_multiples_of_eight(radius, pixel, expected):
    assert box_size(radius, pixel) == expected
