"""Tomograms and picks of other programs through import_dataset.py, and what its checks say of wrong ones."""

import json
import os
import shlex
from dataclasses import replace

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile

import import_dataset
import prepare_mask_czi
from data.czi import find_runs
from data.picks import truth_table, write_picks
from errors import InputError
from formats.input_files import find_picks, find_tomograms
from formats.tomogram_names import match_run, series_name
from particle_config import CHALLENGE_PARTICLES, find_particle, read_table

SHAPE, SPACING, RADIUS = (20, 40, 60), 10.0, 40.0
CENTRED = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
# Voxels x, y, z, nowhere the mirror image of each other in y.
CENTRES = {
    "001": np.array([[8, 5, 6], [20, 8, 10], [33, 12, 9], [45, 6, 12], [52, 26, 8], [26, 29, 12.0]]),
    "TS_02": np.array([[10, 7, 8], [25, 4, 11], [40, 13, 10], [51, 9, 7], [15, 29, 9], [44, 24.0, 12]]),
}
FILES = {"001": "rec_001.mrc", "TS_02": "TS_02_10.00Apx.rec"}
QUIET = pytest.mark.filterwarnings("error")


def write_tomogram(path, centres_xyz):
    """Dark spheres in noise."""
    grey = np.random.default_rng(len(path.name)).normal(size=SHAPE).astype(np.float32)
    for centre in centres_xyz[:, ::-1]:
        grey[np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - centre, axis=-1) <= RADIUS / SPACING] -= 3
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path) as file:
        file.set_data(grey)
        file.voxel_size = SPACING


def write_star(path, centres, names=None):
    points = np.concatenate([(c - np.array(SHAPE[::-1]) / 2) * SPACING for c in centres.values()])
    column = [name for name, c in centres.items() for _ in c]
    starfile.write({"particles": pd.DataFrame({"rlnTomoName": column} | dict(zip(CENTRED, points.T)))}, path)  # noqa: B905


@pytest.fixture
def project(tmp_path):
    for run, centres in CENTRES.items():
        write_tomogram(tmp_path / "tomograms" / FILES[run], centres)
    write_star(tmp_path / "particles.star", CENTRES)
    return tmp_path


def run_import(project, *more, picks="particles.star", name="spike", radius=True):
    words = ["--tomograms", project / "tomograms", "--picks", project / picks, "--output_dir", project / "out"]
    words += ["--particle", name] if name else []
    words += ["--radius", f"{name}={RADIUS:g}"] if radius else []
    import_dataset.main([str(word) for word in (*words, *more)])


def positions(root):
    """Run -> (N, 3) voxels x, y, z, as the other scripts read them."""
    found = {}
    for run in find_runs(root, tomo_type="denoised"):
        [path] = run.picks_dir.glob("*.json")
        points = json.loads(path.read_text())["points"]
        found[run.name] = np.array([[p["location"][axis] for axis in "xyz"] for p in points]) / SPACING
    return found


# --- The way through ----------------------------------------------------------------------------------
@QUIET
@pytest.mark.parametrize("flags", [[], ["--copy"], ["--to_zarr"]], ids=["link", "copy", "zarr"])
@pytest.mark.pictures
def test_relion5_to_the_layout_and_twice_the_same(project, flags, capsys):
    for _ in range(2):
        run_import(project, *flags)
    for run, points in positions(project / "out").items():
        np.testing.assert_allclose(points, CENTRES[run], atol=1e-4)
    path = find_runs(project / "out")[0].tomogram_paths["denoised"]
    assert path.is_symlink() == (not flags) and path.suffix == (".zarr" if "--to_zarr" in flags else ".mrc")
    [row] = json.loads((project / "out" / "particles.json").read_text())
    assert {k: row[k] for k in ("name", "radius_angstrom", "label")} == {
        "name": "spike",
        "radius_angstrom": RADIUS,
        "label": 1,
    }
    printed = capsys.readouterr().out
    assert "as they should" in printed and f"export ETFINDER_PARTICLES={project / 'out' / 'particles.json'}" in printed
    assert (project / "out" / "overlays" / "001.png").stat().st_size > 10_000


@QUIET
def test_known_names_keep_their_values_and_masks_can_be_made(project, capsys):
    run_import(project, name="80S_Ribosome", radius=False)
    [row] = json.loads((project / "out" / "particles.json").read_text())
    assert (row["name"], row["radius_angstrom"]) == ("ribosome", 150.0)
    assert len(truth_table(find_runs(project / "out"))) == 12
    command = next(line for line in capsys.readouterr().out.splitlines() if "prepare_mask_czi.py" in line)
    prepare_mask_czi.main(shlex.split(command)[2:])
    assert len(list((project / "out" / "mask").rglob("*.npy"))) == 2


def test_a_copick_project(project):
    for run, centres in CENTRES.items():
        folder = project / "static" / "ExperimentRuns" / run / "VoxelSpacing10.000"
        folder.mkdir(parents=True)
        (folder / "wbp.mrc").symlink_to(project / "tomograms" / FILES[run])
        picks = project / "overlay" / "ExperimentRuns" / run / "Picks" / "anna_1_spike.json"
        write_picks(picks, particle_name="spike", run_name=run, coordinates_zyx_angstrom=centres[:, ::-1] * SPACING)
    one = {"name": "spike", "is_particle": True, "label": 5, "color": [255, 0, 16, 255], "radius": RADIUS}
    roots = {"static_root": f"local://{project / 'static'}", "overlay_root": str(project / "overlay")}
    config = project / "config.json"
    objects = [{**one, "metadata": {"score_weight": 2.0}}, {"name": "membrane", "is_particle": False}]
    config.write_text(json.dumps({"config_type": "filesystem", "pickable_objects": objects, **roots}))
    words = ["--copick_config", str(config), "--tomo_type", "wbp", "--output_dir", str(project / "out")]
    import_dataset.main(words)
    [row] = json.loads((project / "out" / "particles.json").read_text())
    wanted = {"name": "spike", "radius_angstrom": RADIUS, "score_weight": 2.0, "color": "#ff0010", "label": 1}
    assert row == wanted
    assert [run.name for run in find_runs(project / "out", tomo_type="wbp")] == ["001", "TS_02"]
    config.write_text(config.read_text().replace("255", "256"))
    with pytest.raises(InputError, match=r"config\.json, particle 1 \(spike\): color is \[256"):
        import_dataset.main([*words[:-1], str(project / "other")])
    for radius in ("-5", '"big"'):
        config.write_text(json.dumps({"pickable_objects": [one], **roots}).replace(f"{RADIUS}", radius))
        with pytest.raises(
            InputError, match=rf"config\.json, particle 1 \(spike\): radius_angstrom is '?{radius[:2].strip(chr(34))}"
        ):
            import_dataset.main([*words[:-1], str(project / "other")])
    assert not (project / "other").exists()
    picks = project / "overlay" / "ExperimentRuns" / "001" / "Picks" / "anna_1_prion.json"
    write_picks(picks, particle_name="prion", run_name="001", coordinates_zyx_angstrom=np.ones((2, 3)))
    config.write_text(json.dumps({"pickable_objects": [one, objects[1]], **roots}))
    with pytest.warns(UserWarning, match=r"config\.json: has no object prion, so"):
        import_dataset.main(words)
    config.write_text(config.read_text().replace("local://", "s3://"))
    with pytest.raises(InputError, match="copick sync"):
        import_dataset.main(words)


def test_a_copick_project_of_one_root_and_two_sessions(project):
    """Its only root is given twice; the file's name, not the content, says which object is picked."""
    for run, centres in CENTRES.items():
        folder = project / "root" / "ExperimentRuns" / run / "VoxelSpacing10.000"
        folder.mkdir(parents=True)
        (folder / "wbp.mrc").symlink_to(project / "tomograms" / FILES[run])
        for session, shift in ((1, 0.0), (2, 1.0)):
            picks = folder.parent / "Picks" / f"anna_{session}_spike.json"
            points = (centres[:, ::-1] + shift) * SPACING
            write_picks(picks, particle_name="renamed", run_name=run, coordinates_zyx_angstrom=points)
    roots = dict.fromkeys(("static_root", "overlay_root"), f"file://{project / 'root'}")
    config = project / "config.json"
    config.write_text(json.dumps({"pickable_objects": [{"name": "spike", "radius": RADIUS}], **roots}))
    words = ["--copick_config", str(config), "--tomo_type", "wbp", "--output_dir", str(project / "out")]
    with pytest.raises(InputError, match=r"anna_1_spike\.json.*anna_2_spike\.json.*choose with --copick_session"):
        import_dataset.main(words)
    import_dataset.main([*words, "--copick_session", "1"])
    for run in find_runs(project / "out", tomo_type="wbp"):
        picked = json.loads((run.picks_dir / "spike.json").read_text())["points"]
        points = np.array([[p["location"][axis] for axis in "xyz"] for p in picked])
        np.testing.assert_allclose(points / SPACING, CENTRES[run.name])
    with pytest.raises(InputError, match="no picks by that user and session; there are: anna_1_spike, anna_2_spike"):
        import_dataset.main([*words, "--copick_user", "otto"])
    config.write_text(json.dumps({"config_type": "cryoet_data_portal", **json.loads(config.read_text())}))
    with pytest.raises(InputError, match=r"cryoet_data_portal.*copick sync"):
        import_dataset.main(words)


# --- Wrong picks --------------------------------------------------------------------------------------
def test_flipped_y_is_warned_of(project):
    write_star(project / "particles.star", {run: np.abs([0, 39, 0] - c) for run, c in CENTRES.items()})
    with pytest.warns(UserWarning, match="likely y is flipped"):
        run_import(project)


@QUIET
def test_bright_particles_are_asked_for_and_then_fine(project, capsys):
    for path in (project / "tomograms").iterdir():
        with mrcfile.open(path, "r+") as file:
            file.set_data(-file.data)
    with pytest.raises(UserWarning, match="give --invert"):
        run_import(project)
    run_import(project, "--invert")
    assert "brighter" in capsys.readouterr().out


@QUIET
def test_hollow_particles_are_dark_in_their_shell(project, capsys):
    """As ferritin is: bright inside, dark in the outer third of the radius."""
    for run, path in zip(sorted(CENTRES), sorted((project / "tomograms").iterdir()), strict=True):
        with mrcfile.open(path, "r+") as file:
            for centre in CENTRES[run][:, ::-1]:
                distance = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - centre, axis=-1)
                file.data[distance <= RADIUS / SPACING * 2 / 3] += 4
    run_import(project)
    assert "darker voxels than random places, as they should" in capsys.readouterr().out


def test_a_pick_outside_is_left_out_and_named(project):
    write_star(project / "particles.star", {"001": np.vstack([CENTRES["001"], [70, 5, 5]]), "TS_02": CENTRES["TS_02"]})
    with pytest.warns(UserWarning, match=r"1 picks outside.*\(001\)"):
        run_import(project)
    assert len(positions(project / "out")["001"]) == 6


@pytest.mark.parametrize(
    ("factor", "flags", "cause"),
    [(4.0, [], "4 times too large"), (1.0, ["--binning", "0.25"], "4 times too large")],
    ids=["forgotten", "wrong"],
)
def test_mostly_outside_is_an_error_with_the_likely_cause(project, factor, flags, cause):
    rows = [f"{run},{x * factor},{y * factor},{z * factor}" for run, c in CENTRES.items() for x, y, z in c]
    (project / "p.csv").write_text("\n".join(["tomogram,x_voxels,y_voxels,z_voxels", *rows]))
    with pytest.raises(InputError, match=cause):
        run_import(project, *flags, picks="p.csv")
    assert not (project / "out").exists()
    if not flags:
        run_import(project, "--binning", "4", picks="p.csv")
        np.testing.assert_allclose(positions(project / "out")["001"], CENTRES["001"])


# --- Names --------------------------------------------------------------------------------------------
def test_what_matched_nothing_is_named_on_both_sides(project):
    write_star(project / "particles.star", {"001": CENTRES["001"], "TS_99": CENTRES["TS_02"]})
    with pytest.warns() as told:
        run_import(project)
    text = " ".join(str(one.message) for one in told)
    assert "picks without a tomogram, left out: TS_99" in text and "tomograms without picks, left out: TS_02" in text


def test_a_name_map(project):
    write_star(project / "particles.star", {"first": CENTRES["001"], "second": CENTRES["TS_02"]})
    with pytest.raises(InputError, match=r"first, second.*001, TS_02.*--name_map"):
        run_import(project)
    (project / "map.csv").write_text("written,meant\nfirst,001\nsecond,TS_02\n")
    run_import(project, "--name_map", project / "map.csv")
    assert set(positions(project / "out")) == {"001", "TS_02"}


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("rec_TS_01.mrc", "TS_01"),
        ("/data/TS_01_Vol.mrc", "TS_01"),
        ("TS_01_10.00Apx.mrc.gz", "TS_01"),
        ("C:\\tomo\\Ts_01.tomostar", "Ts_01"),
        ("001", "001"),
        ("TS_01_bin4.rec", "TS_01"),
    ],
    ids=["rec", "Vol", "Apx", "tomostar", "number", "bin"],
)
def test_names_of_tilt_series(written, name):
    assert series_name(written) == name


def test_a_file_without_names_belongs_to_the_tomogram_in_its_own(tmp_path):
    assert match_run(None, tmp_path / "TS_1_2_spike.mod", ["TS_1", "TS_1_2", "TS_3"]) == "TS_1_2"
    assert match_run(None, tmp_path / "TS_12.mod", ["TS_1", "TS_3"]) is None
    with pytest.raises(InputError, match="of its own"):
        match_run(None, tmp_path / "TS_1_and_TS_3.mod", ["TS_1", "TS_3"])


def test_two_tomograms_of_one_name_are_ambiguous(project):
    write_tomogram(project / "tomograms" / "001_Vol.mrc", CENTRES["001"])
    with pytest.raises(InputError, match=r"001_Vol\.mrc.*run '001'"):
        run_import(project)


def test_tomograms_by_a_list_a_glob_and_a_folder(project):
    (project / "list.txt").write_text("\ufefftomograms/rec_001.mrc\r\n\r\ntomograms/*.rec\r\n")
    folder = project / "tomograms"
    for words in ([project / "list.txt"], [folder], [folder / "*.mrc", folder / "TS*"]):
        assert [path.name for path in find_tomograms([str(word) for word in words])] == sorted(FILES.values())
    with pytest.raises(InputError, match="no such file"):
        find_tomograms([str(project / "nowhere*")])


def test_a_file_with_crlf_and_a_second_kind_of_picks_beside_it(project):
    """A folder of a star file and a model: each gives its own points, repeated ones once."""
    (project / "picks").mkdir()
    (project / "particles.star").rename(project / "picks" / "p.star")
    (project / "picks" / "TS_02.coords").write_text("10.5 7.5 8\r\n30.5 30.5 9\r\n")
    with pytest.warns(UserWarning, match="1 points are given more than once"):
        run_import(project, picks="picks")
    assert len(positions(project / "out")["TS_02"]) == 7


# --- Refusals -----------------------------------------------------------------------------------------
def test_a_run_with_other_content_is_refused(project):
    run_import(project)
    write_star(project / "particles.star", {run: c + 1 for run, c in CENTRES.items()})
    with pytest.raises(InputError, match=r"run 001 is in .* with other content"):
        run_import(project)


def test_a_second_particle_by_a_second_command(project):
    """Files that name no particle come one at a time; the rows of the first stay."""
    run_import(project)
    write_star(project / "particles.star", {run: c + 1 for run, c in CENTRES.items()})
    run_import(project, name="ribosome", radius=False)
    rows = json.loads((project / "out" / "particles.json").read_text())
    assert [(row["name"], row["label"]) for row in rows] == [("spike", 1), ("ribosome", 2)]
    assert len(list(find_runs(project / "out")[0].picks_dir.glob("*.json"))) == 2


def test_what_was_added_to_the_rows_by_hand_stays(project):
    run_import(project)
    table = project / "out" / "particles.json"
    [row] = json.loads(table.read_text())
    table.write_text(json.dumps([{**row, "aliases": ["peplomer"], "loss_weight": 3.0}]))
    write_star(project / "particles.star", {run: c + 1 for run, c in CENTRES.items()})
    run_import(project, name="ribosome", radius=False)
    spike, ribosome = read_table(table)
    assert (spike.aliases, spike.loss_weight, spike.radius_angstrom) == (("peplomer",), 3.0, RADIUS)
    assert replace(ribosome, label=4) == find_particle("ribosome", CHALLENGE_PARTICLES)
    table.write_text(json.dumps([{**row, "color": "red"}]))
    with pytest.raises(InputError, match=r"particles\.json, particle 1 \(spike\): color is 'red'"):
        run_import(project)


def test_a_particle_that_the_challenge_does_not_score_is_scored_alone(project):
    run_import(project, name="beta-amylase", radius=False)
    assert [p.score_weight for p in read_table(project / "out" / "particles.json")] == [1.0]


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--copy", "--to_zarr"], "exclude"),
        (["--coords_angpix", "2"], "no picks file has coordinates in pixels"),
        (["--copick_user", "anna"], "no meaning"),
        (["--voxel_spacing", "12"], "--to_zarr"),
        (["--radius", "prion=3"], "no picks of it"),
        (["--radius", "spike=x"], "NAME=ANGSTROM"),
        (["--radius"], "expected"),
    ],
    ids=["copy", "angpix", "user", "spacing", "unused", "number", "empty"],
)
def test_mistakes_are_one_line_and_nothing_is_written(project, flags, text):
    radius = "--radius" not in flags
    with pytest.raises((InputError, SystemExit)) as error:
        run_import(project, *flags, radius=radius)
    assert text in str(error.value) or isinstance(error.value, SystemExit)
    assert not (project / "out").exists()


def test_a_particle_without_radius_is_named(project):
    with pytest.raises(InputError, match=r"--radius spike=ANGSTROM"):
        run_import(project, radius=False)


def test_a_number_behind_a_name_is_another_tomogram(tmp_path):
    runs = ["Position_1", "Position_1_3"]
    assert match_run(None, tmp_path / "Position_1.csv", runs) == "Position_1"
    assert match_run(None, tmp_path / "Position_1_3.csv", runs) == "Position_1_3"
    for name in ("Position_1_2.csv", "Position_1-2.csv", "Position_1.5.csv"):
        assert match_run(None, tmp_path / name, runs) is None
    assert match_run(None, tmp_path / "Position_1_10.00Apx_picks.star", runs) == "Position_1"
    assert match_run(None, tmp_path / "Position_1_bin4.mod", runs) == "Position_1"


def test_a_single_tomogram_takes_files_without_a_name_only(tmp_path):
    assert match_run(None, tmp_path / "ribosomes.csv", ["TS_2"]) == "TS_2"
    assert match_run(None, tmp_path / "picks_2024.csv", ["TS_2"]) == "TS_2"
    assert match_run(None, tmp_path / "TS_7.csv", ["TS_2"]) is None


def test_a_folder_does_not_speak_for_a_file_of_another_tomogram(tmp_path):
    assert match_run(None, tmp_path / "Position_1" / "spike_v2.csv", ["Position_1", "Position_3"]) == "Position_1"
    for name in ("Position_1_2.csv", "Position_2.csv"):
        assert match_run(None, tmp_path / "Position_1" / name, ["Position_1", "Position_3"]) is None
    # A run that is a number alone is not in every name with a number.
    assert match_run(None, tmp_path / "001" / "spike_v2.csv", ["001", "002"]) == "001"
    assert match_run(None, tmp_path / "002.csv", ["001"]) is None


def test_particles_that_differ_in_capitals_alone(project):
    rows = [f"{run},{name},{x},{y},{z}" for run, c in CENTRES.items() for name in ("Spike", "spike") for x, y, z in c]
    (project / "p.csv").write_text("\n".join(["tomogram,particle,x_px,y_px,z_px", *rows]))
    with pytest.raises(InputError, match=r"Spike.*spike.*--name_map"):
        run_import(project, "--radius", "Spike=40", "spike=40", picks="p.csv", name=None, radius=False)
    assert not (project / "out").exists()


@pytest.mark.parametrize("kind", ["my_wbp", "my wbp"])  # others are refused by the parser, see test_names.py
def test_a_type_of_tomogram_that_cannot_be_a_file_name(project, kind):
    with pytest.raises(InputError, match="--tomo_type"):
        run_import(project, "--tomo_type", kind)
    assert not (project / "out").exists()


def test_an_output_folder_that_is_a_file(project):
    (project / "out").write_text("mine")
    with pytest.raises(InputError, match=r"--output_dir .*out is a file"):
        run_import(project)
    assert (project / "out").read_text() == "mine"


def test_picks_of_a_folder_are_not_looked_for_in_tomograms(tmp_path, monkeypatch):
    """A zarr, which may hold a million files, is not even listed; links to folders are followed."""
    for name in ("a/TS_1.zarr/0/p.json", "a/p.csv", "b/TS_2.star", "a/particles.json", "a/tomogram_metadata.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "a" / "link").symlink_to(tmp_path / "b")
    scan, listed = os.scandir, []
    monkeypatch.setattr("os.scandir", lambda folder: listed.append(str(folder)) or scan(folder))
    assert find_picks([str(tmp_path / "a")]) == [tmp_path / "a" / "link" / "TS_2.star", tmp_path / "a" / "p.csv"]
    assert not [folder for folder in listed if ".zarr" in folder]


def test_files_that_pick_the_same_particles_are_named(project):
    """Rounded to whole voxels and moved by one, 10 angstrom of a radius of 40; those of another place are no rivals."""
    (project / "picks").mkdir()
    parts = {"001": CENTRES["001"], "001_copy": CENTRES["001"] + [1, 0, 0], "TS_02": CENTRES["TS_02"]}
    for name, points in (parts | {"TS_02_more": np.array([[30, 33, 12], [10, 7, 13.0]])}).items():
        lines = ["x_px,y_px,z_px", *(f"{x},{y},{z}" for x, y, z in points)]
        (project / "picks" / f"{name}.csv").write_text("\n".join(lines))
    with pytest.warns() as told:
        run_import(project, picks="picks")
    (text,) = [str(one.message) for one in told if "the same particles" in str(one.message)]
    assert "001.csv" in text and "001_copy.csv" in text and "TS_02" not in text


@QUIET
@pytest.mark.parametrize("with_origin", [False, True], ids=["nstart", "origin"])
def test_chimerax_markers_of_a_map_that_begins_elsewhere(project, with_origin):
    """ChimeraX places a map by its origin, or without one by nstart times the voxel size."""
    for path in (project / "tomograms").iterdir():
        with mrcfile.open(path, "r+") as file:
            file.nstart = (3, -2, 5)
            file.header.origin = (70, 0, 0) if with_origin else (0, 0, 0)
    (project / "picks").mkdir()
    begin = np.array([70, 0, 0] if with_origin else [30, -20, 50])
    for run, centres in CENTRES.items():
        marks = "".join(f'<marker id="1" x="{x}" y="{y}" z="{z}"/>' for x, y, z in centres * SPACING + begin)
        (project / "picks" / f"{run}.cmm").write_text(f'<marker_set name="spike">{marks}</marker_set>')
    run_import(project, "--radius", "spike=40", picks="picks", name=None, radius=False)
    np.testing.assert_allclose(positions(project / "out")["TS_02"], CENTRES["TS_02"], atol=1e-4)


def test_an_import_that_was_stopped_is_refused_until_it_is_run_again(project, monkeypatch):
    write_run, calls = import_dataset.write_run, []

    def killed_at_the_second(*args, **options):
        calls.append(args[1])
        if len(calls) == 2:
            raise KeyboardInterrupt
        write_run(*args, **options)

    monkeypatch.setattr(import_dataset, "write_run", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        run_import(project)
    with pytest.raises(InputError, match=r"ExperimentRuns is incomplete: .*; run it again"):
        find_runs(project / "out")
    run_import(project)
    assert [run.name for run in find_runs(project / "out")] == ["001", "TS_02"]
