"""Picks in files and tables: nothing is lost, and x, y, z never change places."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from data.picks import (
    object_name_of_annotation,
    picks_table,
    read_ndjson,
    read_picks,
    read_picks_table,
    read_run_picks,
    table_coordinates_zyx,
    truth_table,
    write_ndjson,
    write_picks,
    write_submission,
)
from errors import InputError

REAL = Path(__file__).parents[1].parent / "shared" / "data" / "real"
# Distinct on every axis, so that a swap cannot hide: z in the tens, y in the hundreds, x in the thousands.
POINTS_ZYX = np.array([[10.5, 200.25, 3000.125], [20.0, 100.0, 1000.0], [30.0, 300.0, 2000.0]])


def write(folder, name="ribosome", points=POINTS_ZYX, run="TS_1", file=None, **fields):
    path = folder / (file or f"{name}.json")
    write_picks(path, particle_name=name, run_name=run, coordinates_zyx_angstrom=points, **fields)
    return path


# --- ndjson -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rotations", [None, np.stack([np.eye(3)] * 3)])
def test_ndjson_round_trip(tmp_path, rotations):
    path = tmp_path / "ribosome-1.0_point.ndjson"
    write_ndjson(path, POINTS_ZYX, rotations)
    np.testing.assert_array_equal(read_ndjson(path), POINTS_ZYX)
    first = json.loads(path.read_text().splitlines()[0])
    assert first["location"] == {"x": 3000.125, "y": 200.25, "z": 10.5} and not path.read_text().endswith("\n")
    assert first["type"] == ("point" if rotations is None else "orientedPoint")


# --- picks JSON ---------------------------------------------------------------------------------------
def test_round_trip(tmp_path):
    picks = read_picks(write(tmp_path, scores=[0.5, 0.25, 1.0]))
    assert (picks.particle_name, picks.run_name) == ("ribosome", "TS_1")
    np.testing.assert_array_equal(picks.coordinates_zyx_angstrom, POINTS_ZYX)
    np.testing.assert_array_equal(picks.scores, [0.5, 0.25, 1.0])


def test_a_run_that_is_not_named_is_no_run_called_none(tmp_path):
    """copick's run_name may be null."""
    assert read_picks(write(tmp_path, run=None)).run_name == ""


def test_x_in_the_file_is_the_last_axis(tmp_path):
    content = json.loads(write(tmp_path).read_text())
    assert content["points"][0]["location"] == {"x": 3000.125, "y": 200.25, "z": 10.5}
    assert "score" not in content["points"][0]
    picks = read_picks(tmp_path / "ribosome.json")
    assert picks.scores is None and picks.uncertainties is None


def test_fields_are_those_of_a_real_file(tmp_path):
    real = REAL / "kaggle_picks_TS_99_9" / "ribosome.json"
    if not real.exists():
        pytest.skip("the real example is not here")
    expected, written = json.loads(real.read_text()), json.loads(write(tmp_path).read_text())
    assert list(written) == list(expected)
    assert list(written["points"][0]) == list(expected["points"][0])
    assert {k: written[k] for k in ("user_id", "session_id", "voxel_spacing", "unit")} == {
        k: expected[k] for k in ("user_id", "session_id", "voxel_spacing", "unit")
    }
    assert written["points"][0]["transformation_"] == np.eye(4).tolist()


def test_rotations_fill_the_upper_left_block(tmp_path):
    quarter_turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    path = write(tmp_path, rotations_xyz=np.tile(quarter_turn, (3, 1, 1)), trust_orientation=True)
    content = json.loads(path.read_text())
    matrix = np.array(content["points"][2]["transformation_"])
    np.testing.assert_array_equal(matrix[:3, :3], quarter_turn)
    np.testing.assert_array_equal(matrix[3], [0, 0, 0, 1])
    assert content["trust_orientation"] is True


def test_no_points(tmp_path):
    picks = read_picks(write(tmp_path, points=np.empty((0, 3)), scores=[]))
    assert picks.coordinates_zyx_angstrom.shape == (0, 3)
    assert read_run_picks(tmp_path)["ribosome"].shape == (0, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a readable picks file"),
        ("[]", "no pickable_object_name"),
        ('{"points": []}', "no pickable_object_name"),
        (
            '{"pickable_object_name": "a", "unit": "nanometer", "points": []}',
            "convert the points to angstrom",
        ),
        ('{"pickable_object_name": "a", "points": [{"location": {"x": 1, "y": 2}}]}', "point 0: needs a loc"),
        ('{"pickable_object_name": "a", "points": [{"location": {"x": 1, "y": 2, "z": NaN}}]}', "each a number from"),
        ('{"pickable_object_name": "a", "points": [{"location": {"x": 1, "y": 2, "z": 1e308}}]}', "each a number from"),
        ('{"pickable_object_name": "a", "points": [3]}', "point 0"),
        ('{"pickable_object_name": "a", "points": {"x": 1}}', "not a list"),
    ],
)
def test_a_corrupt_picks_file_is_named(tmp_path, content, message):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        read_picks(path)
    assert str(path) in str(error.value)


# --- one run's folder ---------------------------------------------------------------------------------
def test_names_come_from_inside_the_file_and_aliases_are_mapped(tmp_path):
    write(tmp_path, "Virus-like capsid", file="curation_0_capsid.json")
    write(tmp_path, "ferritin_complex", points=POINTS_ZYX[:1], file="zzz.json")
    picks = read_run_picks(tmp_path)
    assert list(picks) == ["apo-ferritin", "virus-like-particle"], "in the order of the particle table"
    np.testing.assert_array_equal(picks["virus-like-particle"], POINTS_ZYX)


def test_an_unknown_particle_is_an_error_with_file_and_name(tmp_path):
    path = write(tmp_path, "proteasome")
    with pytest.raises(InputError, match=r"'proteasome'.*particle_config\.py") as error:
        read_run_picks(tmp_path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("make", [False, True])
def test_a_run_without_picks_says_where_it_looked(tmp_path, make):
    folder = tmp_path / "TS_7" / "Picks"
    if make:
        folder.mkdir(parents=True)
    with pytest.raises(InputError, match="run TS_7 has no picks: looked in"):
        read_run_picks(folder)


def test_two_files_of_one_particle_are_an_error(tmp_path):
    write(tmp_path, "ribosome", file="a.json")
    write(tmp_path, "cytosolic_ribosome", file="b.json")
    with pytest.raises(InputError, match="both hold ribosome"):
        read_run_picks(tmp_path)


def test_repeated_points_are_kept_once_with_a_warning(tmp_path):
    write(tmp_path, points=POINTS_ZYX[[0, 1, 0, 2]])
    with pytest.warns(UserWarning, match=r"ribosome\.json: 1 points are given more than once"):
        picks = read_run_picks(tmp_path)
    np.testing.assert_array_equal(picks["ribosome"], POINTS_ZYX)


def test_the_real_run():
    folder = REAL / "kaggle_picks_TS_99_9"
    if not folder.exists():
        pytest.skip("the real example is not here")
    counts = {name: len(points) for name, points in read_run_picks(folder).items()}
    assert counts == {
        "apo-ferritin": 36,
        "beta-amylase": 21,
        "beta-galactosidase": 24,
        "ribosome": 65,
        "thyroglobulin": 49,
        "virus-like-particle": 13,
    }


# --- ndjson -------------------------------------------------------------------------------------------
def test_ndjson_of_every_point_type_without_last_newline(tmp_path):
    path = tmp_path / "ribosome-1.0_point.ndjson"
    path.write_text(
        '{"type": "point", "location": {"x": 3, "y": 2.5, "z": 1}}\n\n'
        '{"type": "orientedPoint", "location": {"z": 10, "y": 20, "x": 30}, "xyz_rotation_matrix": []}\n'
        '{"type": "instancePoint", "location": {"x": 7, "y": 8, "z": 9}, "instance_id": 1}\n'
        '{"type": "instancePoint", "location": {"x": 4, "y": 5, "z": 6}, "instance_id": 1}'
    )
    expected = [[1, 2.5, 3], [10, 20, 30], [9, 8, 7], [6, 5, 4]]
    np.testing.assert_array_equal(read_ndjson(path), expected)


def test_an_empty_ndjson_has_no_points(tmp_path):
    path = tmp_path / "a.ndjson"
    path.touch()
    assert read_ndjson(path).shape == (0, 3)


@pytest.mark.parametrize(
    "bad",
    [
        '{"type": "point", "location": {"x": 3, ',
        '{"type": "point"}',
        '{"type": "point", "location": {"x": 1, "y": NaN, "z": 2}}',
        '{"type": "point", "location": {"x": 1, "y": 1e999, "z": 2}}',
        '{"type": "point", "location": {"x": "1", "y": 2, "z": 2}}',
        '{"type": "mask", "location": {"x": 1, "y": 2, "z": 2}}',
        "12",
    ],
)
def test_a_corrupt_line_is_named_with_its_number(tmp_path, bad):
    path = tmp_path / "a.ndjson"
    path.write_text('{"type": "point", "location": {"x": 1, "y": 2, "z": 3}}\n\n' + bad)
    with pytest.raises(InputError, match="line 3") as error:
        read_ndjson(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("ferritin_complex-1.0_point.ndjson", "ferritin_complex"),
        ("virus-like_capsid-1.0_orientedpoint.ndjson", "virus-like_capsid"),
        ("pp7_vlp-2.1.0_instancepoint.ndjson", "pp7_vlp"),
        ("ribosome.ndjson", "ribosome"),
    ],
)
def test_object_name(file, name):
    assert object_name_of_annotation(Path("Annotations/100") / file) == name


# --- tables -------------------------------------------------------------------------------------------
def test_table_columns_and_back(tmp_path):
    table = picks_table("007", "ribosome", POINTS_ZYX, scores=[3, 2, 1])
    assert list(table.columns) == ["experiment", "particle_type", "x", "y", "z", "score"]
    assert tuple(table.loc[0, ["x", "y", "z"]]) == (3000.125, 200.25, 10.5)
    np.testing.assert_array_equal(table_coordinates_zyx(table), POINTS_ZYX)
    write_submission(tmp_path / "s.csv", table)
    assert (tmp_path / "s.csv").read_text().splitlines()[:2] == [
        "id,experiment,particle_type,x,y,z,score",
        "0,007,ribosome,3000.125,200.25,10.5,3.0",
    ]
    back = read_picks_table(tmp_path / "s.csv")
    assert back["experiment"].tolist() == ["007"] * 3, "a run's name is not a number"
    pd.testing.assert_frame_equal(back[table.columns], table)


def test_an_uncertainty_that_is_not_known_stays_so(tmp_path):
    scores, uncertainties = [0.9, 0.8, 0.7], [0.1, np.nan, 0.0]
    table = picks_table("a", "ribosome", POINTS_ZYX, scores, uncertainties, [10, 20.5, 30], [0.5, np.nan, 1])
    write_submission(tmp_path / "s.csv", table)
    assert (tmp_path / "s.csv").read_text().splitlines()[2].endswith(",0.8,,20.5,")
    pd.testing.assert_frame_equal(read_picks_table(tmp_path / "s.csv")[table.columns], table)
    write_picks(
        tmp_path / "a.json",
        particle_name="ribosome",
        run_name="a",
        coordinates_zyx_angstrom=POINTS_ZYX,
        scores=scores,
        uncertainties=uncertainties,
        sizes_voxels=[3.0, 2.5, 1.0],
        confidences=[0.5, np.nan, 1.0],
    )
    points = json.loads((tmp_path / "a.json").read_text())["points"]
    assert [point["uncertainty"] for point in points] == [0.1, None, 0.0]
    back = read_picks(tmp_path / "a.json")
    np.testing.assert_array_equal(back.scores, scores)
    np.testing.assert_array_equal(back.uncertainties, uncertainties)
    np.testing.assert_array_equal(back.sizes_voxels, [3.0, 2.5, 1.0])
    np.testing.assert_array_equal(back.confidences, [0.5, np.nan, 1.0])


def test_an_empty_table_survives_the_file(tmp_path):
    write_submission(tmp_path / "s.csv", picks_table("a", "ribosome", np.empty((0, 3))))
    back = read_picks_table(tmp_path / "s.csv")
    assert table_coordinates_zyx(back).shape == (0, 3)


def test_truth_table_joins_the_runs(tmp_path):
    for run in ("TS_1", "TS_2"):
        (tmp_path / run).mkdir()
        write(tmp_path / run)
    write(tmp_path / "TS_2", "apo-ferritin", points=np.empty((0, 3)))
    runs = [SimpleNamespace(name=name, picks_dir=tmp_path / name) for name in ("TS_1", "TS_2")]
    table = truth_table(runs)
    assert table["experiment"].tolist() == ["TS_1"] * 3 + ["TS_2"] * 3
    np.testing.assert_array_equal(table_coordinates_zyx(table), np.tile(POINTS_ZYX, (2, 1)))
    assert truth_table([]).columns.tolist() == ["experiment", "particle_type", "x", "y", "z"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a readable CSV"),
        ("experiment,particle_type,x,y\n", "column 'z' is missing"),
        ("experiment,particle_type,x,y,z\nA,b,1,2,3\nA,b,1,oops,3\n", "line 3: y is missing"),
        ("experiment,particle_type,x,y,z\nA,b,1,inf,3\n", "line 2: y is missing"),
        ("experiment,particle_type,x,y,z\n,b,1,2,3\n", "line 2: experiment is missing"),
    ],
)
def test_a_bad_table_is_named_with_its_line(tmp_path, text, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_picks_table(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["absent.csv", "absent.json", "absent.ndjson"])
def test_an_absent_file_is_the_users_to_mend(tmp_path, name):
    reader = {"csv": read_picks_table, "json": read_picks, "ndjson": read_ndjson}[name.split(".")[1]]
    with pytest.raises(InputError, match="absent"):
        reader(tmp_path / name)


# --- what other programs do to files ------------------------------------------------------------------
def through_windows(path):
    """A byte order mark, two characters at the end of a line, blank lines at the end."""
    path.write_bytes(b"\xef\xbb\xbf" + path.read_text().replace("\n", "\r\n").encode() + b"\r\n\r\n")


def test_files_that_went_through_windows(tmp_path):
    picks, annotation, csv = write(tmp_path), tmp_path / "ribosome-1.0_point.ndjson", tmp_path / "t.csv"
    write_ndjson(annotation, POINTS_ZYX)
    picks_table("TS_1", "ribosome", POINTS_ZYX).to_csv(csv, index=False)
    for path in (picks, annotation, csv):
        through_windows(path)
    np.testing.assert_array_equal(read_picks(picks).coordinates_zyx_angstrom, POINTS_ZYX)
    np.testing.assert_array_equal(read_ndjson(annotation), POINTS_ZYX)
    np.testing.assert_array_equal(table_coordinates_zyx(read_picks_table(csv)), POINTS_ZYX)
    assert read_picks_table(csv).columns[0] == "experiment"


def test_a_particle_lies_at_its_location_plus_its_shift(tmp_path):
    path = write(tmp_path)
    content = json.loads(path.read_text())
    for i, axis_shift in enumerate((100.0, 20.0, 3.0)):  # x, y, z
        content["points"][1]["transformation_"][i][3] = axis_shift
    del content["points"][2]["transformation_"]
    path.write_text(json.dumps(content))
    expected = POINTS_ZYX + np.array([[0, 0, 0], [3, 20, 100], [0, 0, 0]])
    np.testing.assert_array_equal(read_picks(path).coordinates_zyx_angstrom, expected)


@pytest.mark.parametrize(
    "wrong", ["a", [1, 2], [[1, 0, 0, "x"]] * 4, [[1, 0, 0]] * 3], ids=["word", "row", "text", "3x3"]
)
def test_a_transformation_that_is_none_is_named(tmp_path, wrong):
    path = write(tmp_path)
    content = json.loads(path.read_text())
    content["points"][1]["transformation_"] = wrong
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="point 1: transformation_ is not a matrix"):
        read_picks(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("experiment,particle_type,x,y,z\nR,ribosome,30,5,20,10\n", "more values than the header has names"),
        ("experiment,particle_type,x,y,z,x\nR,ribosome,30,20,10,5\n", "several columns are named 'x'"),
    ],
)
def test_a_table_whose_columns_are_not_clear(tmp_path, content, message):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_picks_table(tmp_path / "a.csv")
