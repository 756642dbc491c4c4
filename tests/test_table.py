"""Tables as people write them: what stands in their first lines, units in the names of columns, and in which code."""

import numpy as np
import pytest

from errors import InputError
from formats import read_points
from formats.table import read_name_map

POINTS = np.array([[10.0, 20.0, 5.0], [30.5, 7.25, 8.0]])


def written(folder, text, *, encoding="utf-8", name="p.csv"):
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def rows(points=POINTS, separator=","):
    return "\n".join(separator.join(f"{value:g}" for value in row) for row in points) + "\n"


@pytest.mark.parametrize(
    ("text", "unit", "factor"),
    [
        ("x_angstrom,y_angstrom,z_angstrom\n" + rows(), "angstrom", 1),
        ("X [nm],Y [nm],Z [nm]\n" + rows(), "angstrom", 10),
        ("x (Å), y (Å), z (Å)\n" + rows(), "angstrom", 1),
        ("# made by a program, 2024\n# second line\nx_px,y_px,z_px\n" + rows(), "pixels", 1),
        ("# x_px y_px z_px\n" + rows(separator=" "), "pixels", 1),
        ("x_px;y_px;z_px\r\n" + rows(separator=";").replace(".", ",").replace("\n", "\r\n"), "pixels", 1),
        ("x,y,z,x_angstrom,y_angstrom,z_angstrom\n" + rows(np.hstack([POINTS / 10, POINTS])), "angstrom", 1),
        (
            "experiment,particle_type,x,y,z,x_nm,y_nm,z_nm\n"
            + "".join(f"TS_1,spike,1,1,1,{x},{y},{z}\n" for x, y, z in POINTS),
            "angstrom",
            10,
        ),
        ("index,axis-0,axis-1,axis-2,axis-3\n" + rows(np.c_[[0, 1], [3, 3], POINTS[:, ::-1]]), "pixels", 1),
        ("axis-0,axis-1,axis-2\n\n" + rows(POINTS[:, ::-1]) + "\n\n", "pixels", 1),
    ],
    ids=["angstrom", "nm", "A", "comments", "numpy", "comma", "both", "challenge", "napari4", "napari3"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_columns_and_their_units(tmp_path, text, unit, factor, encoding):
    [group] = read_points(written(tmp_path, text, encoding=encoding))
    assert group.unit == unit
    np.testing.assert_allclose(group.coordinates_xyz, POINTS * factor)


def test_napari_points_at_several_times(tmp_path):
    path = written(tmp_path, "axis-0,axis-1,axis-2,axis-3\n0,1,2,3\n1,1,2,3\n")
    with pytest.raises(InputError, match="several values of axis-0, which is no z, y or x"):
        read_points(path)


def test_napari_shapes_are_no_points(tmp_path):
    path = written(tmp_path, "index,shape-type,vertex-index,axis-0,axis-1,axis-2\n0,rectangle,0,1,2,3\n")
    with pytest.raises(InputError, match="save the points layer"):
        read_points(path)


def test_lines_without_values_are_none(tmp_path):
    path = written(tmp_path, "x_px\ty_px\tz_px\n1\t2\t3\n\t\t\n4\tfive\t6\n", name="p.tsv")
    with pytest.raises(InputError, match=r"line 4: y_px"):
        read_points(path)
    [group] = read_points(written(tmp_path, "x_px\ty_px\tz_px\n1\t2\t3\n\t\t\n"))
    assert group.coordinates_xyz.tolist() == [[1, 2, 3]]


def test_a_table_without_names_of_columns(tmp_path):
    with pytest.raises(InputError, match="the first line must name them"):
        read_points(written(tmp_path, rows()))


def test_the_line_of_a_wrong_number_is_that_of_the_file(tmp_path):
    path = written(tmp_path, "# a comment\nx_px,y_px,z_px\n\n1,2,3\n# another\n4,five,6\n")
    with pytest.raises(InputError, match=r"p\.csv, line 6: y_px is no finite number"):
        read_points(path)


def test_a_text_in_another_code_says_what_to_do(tmp_path):
    path = written(tmp_path, "tomogram,x_px,y_px,z_px\nPröbe,1,2,3\n", encoding="latin-1")
    with pytest.raises(InputError, match="save it as UTF-8"):
        read_points(path)


def test_a_decimal_comma_is_none_in_a_name(tmp_path):
    [group] = read_points(written(tmp_path, "tomogram;x_px;y_px;z_px\nTS 1,5;1,5;2;3\n"))
    assert group.tomogram_name == "TS 1,5"
    np.testing.assert_allclose(group.coordinates_xyz, [[1.5, 2, 3]])


def test_a_map_of_names_with_and_without_header(tmp_path):
    found = read_name_map(written(tmp_path, "in picks\tmeant\nalpha\tTS_1\n", encoding="utf-16"))
    assert found["alpha"] == "TS_1"
    assert read_name_map(written(tmp_path, "Alpha,TS_1\nbeta,TS_2\n")) == {"Alpha": "TS_1", "beta": "TS_2"}


def test_a_star_file_with_the_name_of_a_table(tmp_path):
    with pytest.raises(InputError, match="--picks_format star"):
        read_points(written(tmp_path, "data_a\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n1 2\n"))
