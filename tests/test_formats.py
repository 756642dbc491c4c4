"""Every reader against a file by the library that owns the format, or by hand, and positions computed by hand."""

import json
import re
import struct

import dynamotable
import imodmodel
import numpy as np
import pandas as pd
import pytest
import starfile

from errors import InputError
from formats import FORMATS, format_of, read_points
from formats.dynamo import tomogram_names
from formats.point_groups import PointGroup, coordinates_zyx_angstrom
from formats.tomogram_names import series_name

SPACING = 10.0
EVEN, ODD = (20, 40, 60), (21, 41, 61)  # z, y, x
# Voxels x, y, z: a corner, the middle, off the grid.
VOXELS = np.array([[0.0, 0.0, 0.0], [30.0, 20.0, 10.0], [11.25, 7.5, 3.0]])


def zyx(group, shape=EVEN, **more):
    return coordinates_zyx_angstrom(group, shape_zyx=shape, voxel_spacing_angstrom=SPACING, **more)


def expected(voxels_xyz=VOXELS):
    return voxels_xyz[:, ::-1] * SPACING


def star_file(path, particles, optics=None):
    blocks = {} if optics is None else {"optics": pd.DataFrame(optics)}
    starfile.write({**blocks, "particles": pd.DataFrame(particles)}, path)
    return path


def columns(names, values):
    return dict(zip(names, np.asarray(values).T, strict=True))


CENTRED = [f"rlnCenteredCoordinate{a}Angst" for a in "XYZ"]
PLAIN = [f"rlnCoordinate{a}" for a in "XYZ"]


# --- The same points in every format ------------------------------------------------------------------
# Each writes them into a folder, for a volume of that shape, in pixels of an nth of the tomogram's voxel.
def relion5(folder, shape, n):
    series = {"rlnTomoName": ["TS_1"], "rlnTomoTiltSeriesPixelSize": [SPACING / n]}
    series |= {f"rlnTomoSize{axis}": [n * size] for axis, size in zip("XYZ", shape[::-1], strict=True)}
    starfile.write({"global": pd.DataFrame(series)}, folder / "tomograms.star")
    centred = (VOXELS - np.array(shape[::-1]) / 2) * SPACING
    return star_file(folder / "p.star", {"rlnTomoName": ["TS_1"] * 3, **columns(CENTRED, centred)})


def relion4(folder, shape, n):
    optics = {"rlnOpticsGroup": [1], "rlnTomoTiltSeriesPixelSize": [SPACING / n]}
    table = {"rlnTomoName": ["TS_1"] * 3, "rlnOpticsGroup": [1] * 3, **columns(PLAIN, VOXELS * n)}
    return star_file(folder / "p.star", table, optics)


def relion3(folder, shape, n):
    return star_file(folder / "p.star", {"rlnMicrographName": ["TS_1.mrc"] * 3, **columns(PLAIN, VOXELS * n)})


def warp(folder, shape, n):
    return star_file(folder / "p.star", {"rlnMicrographName": ["TS_1.tomostar"] * 3, **columns(PLAIN, VOXELS * n)})


def csv(folder, names, values):
    pd.DataFrame(values, columns=names).to_csv(folder / "p.csv", index=False)
    return folder / "p.csv"


def nanometres(folder, shape, n):
    return csv(folder, ["x_nm", "y_nm", "z_nm"], VOXELS * SPACING / 10)


def voxels(folder, shape, n):
    return csv(folder, ["x_voxels", "y_voxels", "z_voxels"], VOXELS * n)


def napari(folder, shape, n):
    return csv(folder, ["axis-2", "axis-1", "axis-0"], VOXELS * n)


def imod_model(folder, shape, n):
    points = VOXELS * n + np.array([0.5, 0.5, 0.0])
    table = pd.DataFrame(points, columns=["x", "y", "z"]).assign(object_id=[0, 0, 1], contour_id=[0, 1, 0])
    imodmodel.write(table, folder / "p.mod")
    return folder / "p.mod"


def imod_coordinates(folder, shape, n):
    np.savetxt(folder / "p.coords", np.column_stack([[1, 1, 1], VOXELS * n + np.array([0.5, 0.5, 0.0])]))
    return folder / "p.coords"


def dynamo(folder, shape, n):
    table = pd.DataFrame({"tag": [1, 2, 3], **columns(["x", "y", "z"], VOXELS * n + 1)})
    dynamotable.write(table.assign(dx=0.0, dy=0.0, dz=0.0), folder / "p.tbl")
    return folder / "p.tbl"


def eman2(folder, shape, n):
    boxes = [[*row, "manual", 0.5, 0] for row in (VOXELS * n).tolist()]
    (folder / "TS_1_info.json").write_text(json.dumps({"boxes_3d": boxes}))
    return folder / "TS_1_info.json"


def eman2_unbinned(folder, shape, n):
    boxes = [[*row, "manual", 0.5, 0] for row in ((VOXELS - np.array(shape[::-1]) // 2) * n).tolist()]
    (folder / "TS_1_info.json").write_text(json.dumps({"boxes_3d": boxes, "apix_unbin": SPACING / n}))
    return folder / "TS_1_info.json"


def chimerax_markers(folder, shape, n):
    markers = "".join(f'<marker id="{i}" x="{x}" y="{y}" z="{z}"/>' for i, (x, y, z) in enumerate(VOXELS * SPACING))
    (folder / "p.cmm").write_text(f"<marker_set>{markers}</marker_set>")
    return folder / "p.cmm"


def copick(folder, shape, n):
    """The second half of every position is in the shift."""
    shifts = [[[1, 0, 0, x], [0, 1, 0, y], [0, 0, 1, z], [0, 0, 0, 1]] for x, y, z in (VOXELS * SPACING / 2).tolist()]
    places = [dict(zip("xyz", row, strict=True)) for row in (VOXELS * SPACING / 2).tolist()]
    points = [{"location": p, "transformation_": s} for p, s in zip(places, shifts, strict=True)]
    content = {"pickable_object_name": "ribosome", "unit": "angstrom", "points": points}
    (folder / "a_1_ribosome.json").write_text(json.dumps(content))
    return folder / "a_1_ribosome.json"


def portal(folder, shape, n):
    path = folder / f"TS_1/Reconstructions/VoxelSpacing{SPACING / n:.3f}/Annotations/1/ribosome-1.0_point.ndjson"
    path.parent.mkdir(parents=True)
    points = [dict(zip("xyz", row, strict=True)) for row in (VOXELS * n).tolist()]
    path.write_text("\n".join(json.dumps({"type": "point", "location": point}) for point in points))
    return path


# What says itself how large its pixels are, or has none; the others are told.
SAYS_ITS_UNIT = {
    "relion5": relion5,
    "relion4": relion4,
    "nanometres": nanometres,
    "eman2_unbinned": eman2_unbinned,
    "chimerax": chimerax_markers,
    "copick": copick,
    "portal": portal,
}
IN_PIXELS = {
    "relion3": relion3,
    "warp": warp,
    "voxels": voxels,
    "napari": napari,
    "imod_model": imod_model,
    "imod_coordinates": imod_coordinates,
    "dynamo": dynamo,
    "eman2": eman2,
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning:imodmodel.*")
@pytest.mark.parametrize("shape", [EVEN, ODD], ids=["even", "odd"])
@pytest.mark.parametrize("n", [1, 4], ids=["binned", "unbinned"])
@pytest.mark.parametrize("name", [*SAYS_ITS_UNIT, *IN_PIXELS])
def test_the_same_points_in_every_format(tmp_path, name, n, shape):
    """A corner, the middle voxel and a place off the grid, in pixels of the tomogram and in smaller ones."""
    groups = read_points({**SAYS_ITS_UNIT, **IN_PIXELS}[name](tmp_path, shape, n))
    pixel = {"pixel_size_angstrom": SPACING / n} if name in IN_PIXELS and n > 1 else {}
    assert {series_name(group.tomogram_name) for group in groups if group.tomogram_name} <= {"TS_1"}
    found = np.concatenate([zyx(group, shape, **pixel) for group in groups])
    np.testing.assert_allclose(found, expected(), atol=1e-3)


# --- STAR ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [EVEN, ODD], ids=["even", "odd"])
def test_relion5_counts_from_a_true_half(tmp_path, shape):
    centred = (VOXELS - np.array(shape[::-1]) / 2) * SPACING
    path = star_file(tmp_path / "p.star", {"rlnTomoName": ["001"] * 3, **columns(CENTRED, centred)})
    [group] = read_points(path)
    assert group.tomogram_name == "001"
    np.testing.assert_allclose(zyx(group, shape), expected(), atol=1e-3)


def test_relion5_takes_the_size_of_the_unbinned_volume(tmp_path):
    """241 unbinned pixels of 2.5 angstrom: 602.5, not the 600 of the binned tomogram."""
    series = {"rlnTomoName": ["TS_1"], "rlnTomoTiltSeriesPixelSize": [2.5]}
    series |= {"rlnTomoSizeX": [241], "rlnTomoSizeY": [161], "rlnTomoSizeZ": [81]}
    starfile.write({"global": pd.DataFrame(series)}, tmp_path / "tomograms.star")
    path = star_file(tmp_path / "p.star", {"rlnTomoName": ["TS_1"], **columns(CENTRED, [[0.0, 0.0, 0.0]])})
    [group] = read_points(path)
    np.testing.assert_allclose(zyx(group), [[81 * 1.25, 161 * 1.25, 241 * 1.25]])


@pytest.mark.parametrize("angles", [(0, 0, 0), (90, 0, 0)], ids=["straight", "turned"])
def test_relion4_unbinned_pixels_and_origins(tmp_path, angles):
    """A turn of the subtomogram by rot = 90 carries an origin along x to -y."""
    table = {"rlnTomoName": ["TS_1"], "rlnOpticsGroup": [1], **columns(PLAIN, [[100.0, 60.0, 40.0]])}
    table |= columns(["rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst"], [[4.0, 0.0, 1.0]])
    table |= columns([f"rlnTomoSubtomogram{a}" for a in ("Rot", "Tilt", "Psi")], [angles])
    path = star_file(tmp_path / "p.star", table, {"rlnOpticsGroup": [1], "rlnTomoTiltSeriesPixelSize": [2.5]})
    [group] = read_points(path)
    shifted = [99.0, 150.0, 246.0] if angles == (0, 0, 0) else [99.0, 154.0, 250.0]
    np.testing.assert_allclose(zyx(group), [shifted], atol=1e-6)


def test_relion4_without_a_pixel_size_asks_for_it(tmp_path):
    [group] = read_points(star_file(tmp_path / "p.star", {"rlnTomoName": ["a"], **columns(PLAIN, [[8.0, 4.0, 2.0]])}))
    with pytest.raises(InputError, match="--coords_angpix"):
        zyx(group)
    np.testing.assert_allclose(zyx(group, pixel_size_angstrom=2.5), [[5, 10, 20]])


def test_relion3_origins_are_pixels(tmp_path):
    table = {"rlnMicrographName": ["a.mrc"], **columns(PLAIN, [[8.0, 4.0, 2.0]])}
    table |= columns(["rlnOriginX", "rlnOriginY", "rlnOriginZ"], [[1.0, -2.0, 0.5]])
    [group] = read_points(star_file(tmp_path / "p.star", table))
    np.testing.assert_allclose(zyx(group), [[15.0, 60.0, 70.0]])
    np.testing.assert_allclose(zyx(group, pixel_size_angstrom=2.0), [[3.0, 12.0, 14.0]])


def test_a_star_file_with_byte_order_mark_and_crlf(tmp_path):
    path = star_file(tmp_path / "p.star", {"rlnTomoName": ["001", "002", "002"], **columns(CENTRED, VOXELS)})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert [(g.tomogram_name, len(g.coordinates_xyz)) for g in read_points(path)] == [("001", 1), ("002", 2)]


# --- Tables -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("id,experiment,particle_type,x,y,z\n0,007,ribosome,10,20,30\n", "angstrom"),
        ("\ufeffTomo;Class;X_nm;Y_nm;Z_nm\r\n007;ribosome;1;2;3\r\n", "angstrom"),
        ("run\tparticle\tx_voxels\ty_voxels\tz_voxels\n007\tribosome\t1\t2\t3\n", "pixels"),
        ("tomogram,label,index,axis-0,axis-1,axis-2\n007,ribosome,0,3,2,1\n", "pixels"),
    ],
    ids=["challenge", "nanometres", "voxels", "napari"],
)
def test_tables_as_people_write_them(tmp_path, text, unit):
    (tmp_path / "p.csv").write_bytes(text.encode())
    [group] = read_points(tmp_path / "p.csv")
    assert (group.tomogram_name, group.particle_name, group.unit) == ("007", "ribosome", unit)
    np.testing.assert_allclose(zyx(group), [[30, 20, 10]])


def test_a_table_that_says_no_unit_is_asked_for_it(tmp_path):
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n")
    [group] = read_points(tmp_path / "p.csv")
    with pytest.raises(InputError, match=r"p\.csv.*--coords_angpix"):
        zyx(group)
    np.testing.assert_allclose(zyx(group, pixel_size_angstrom=1.0), [[3, 2, 1]])


def test_a_value_that_is_no_number_is_named_with_its_line(tmp_path):
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n1,,3\n")
    with pytest.raises(InputError, match="line 3: y"):
        read_points(tmp_path / "p.csv")


# --- Other programs -----------------------------------------------------------------------------------
def test_imod_object_names_and_chunks_between(tmp_path):
    """A model written by its description: a chunk that means nothing here, then a named object."""
    model = b"IMODV1.2" + bytes(232) + b"VIEW" + struct.pack(">i", 4) + bytes(4)
    model += b"OBJT" + b"ribosome".ljust(176, b"\0") + b"CONT" + struct.pack(">iIii", 1, 0, 0, 0)
    model += struct.pack(">3f", 1.5, 2.5, 3.0)
    (tmp_path / "p.mod").write_bytes(model + b"IEOF")
    [group] = read_points(tmp_path / "p.mod")
    assert group.particle_name == "ribosome"
    np.testing.assert_allclose(zyx(group), [[30, 20, 10]])
    (tmp_path / "p.mod").write_bytes(model[:-6])
    with pytest.raises(InputError, match="cut off"):
        read_points(tmp_path / "p.mod")


def test_dynamo_counts_from_one_and_shifts(tmp_path):
    table = pd.DataFrame({"tag": [1, 2, 3], "tomo": [4, 4, 7], "dx": [0.0, 0.0, 0.25], "dy": 0.0, "dz": 0.0})
    table = table.assign(**columns(["x", "y", "z"], VOXELS + 1 - [[0, 0, 0], [0, 0, 0], [0.25, 0, 0]]))
    dynamotable.write(table, tmp_path / "p.tbl")
    (tmp_path / "p.doc").write_text("4 /data/TS_4.mrc\n7 /data/TS_7.rec\n")
    groups = read_points(tmp_path / "p.tbl")
    assert [g.tomogram_name for g in groups] == ["/data/TS_4.mrc", "/data/TS_7.rec"]
    np.testing.assert_allclose(np.concatenate([zyx(g) for g in groups]), expected(), atol=1e-4)


@pytest.mark.parametrize("shape", [EVEN, ODD], ids=["even", "odd"])
def test_eman2_counts_from_the_middle_voxel(tmp_path, shape):
    middle = np.array(shape[::-1]) // 2
    boxes = [[*row, "manual", 0.5, 1] for row in ((VOXELS - middle) * 4).tolist()]
    content = {"boxes_3d": boxes, "class_list": {"1": {"name": "ribosome"}}, "apix_unbin": 2.5}
    (tmp_path / "TS_1_info.json").write_text(json.dumps(content))
    [group] = read_points(tmp_path / "TS_1_info.json")
    assert (group.tomogram_name, group.particle_name) == ("TS_1", "ribosome")
    np.testing.assert_allclose(zyx(group, shape), expected())


def test_chimerax_counts_the_origin_of_the_map(tmp_path):
    markers = "".join(f'<marker id="{i}" x="{x}" y="{y}" z="{z}"/>' for i, (x, y, z) in enumerate(VOXELS * SPACING + 7))
    (tmp_path / "p.cmm").write_text(f'<marker_set name="ribosome">{markers}</marker_set>')
    [group] = read_points(tmp_path / "p.cmm")
    np.testing.assert_allclose(zyx(group, map_origin_xyz_angstrom=(7, 7, 7)), expected())


def test_portal_annotations_have_the_voxels_of_their_folder(tmp_path):
    path = tmp_path / "TS_1/Reconstructions/VoxelSpacing5.000/Annotations/1/cytosolic_ribosome-1.0_point.ndjson"
    path.parent.mkdir(parents=True)
    path.write_text('{"type": "point", "location": {"x": 2, "y": 4, "z": 6}}')
    [group] = read_points(path)
    assert (group.tomogram_name, group.particle_name) == ("TS_1", "cytosolic_ribosome")
    np.testing.assert_allclose(zyx(group), [[30, 20, 10]])


# --- Every format -------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_no_such_file_is_one_error(tmp_path, name):
    path = tmp_path / "broken"
    path.write_bytes(b"\xff\xfe\x00 broken")
    with pytest.raises(InputError, match="broken"):
        read_points(path, format_name=name)


def test_a_format_that_nobody_knows_names_the_flag(tmp_path):
    (tmp_path / "p.xyz").write_text("1 2 3")
    with pytest.raises(InputError, match="--picks_format"):
        format_of(tmp_path / "p.xyz")


def test_coordinates_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(InputError, match="point 2"):
        zyx(PointGroup(tmp_path / "p", np.array([[1.0, 2, 3], [1, np.nan, 3]]), "angstrom"))


# --- Troubles of real files ---------------------------------------------------------------------------
def test_an_imod_model_picked_in_a_flipped_volume(tmp_path):
    """Bit 16 of the flags: IMOD exchanges y and z as they are, and 0.5 belongs to those of the volume."""
    flipped = (VOXELS + np.array([0.5, 0.5, 0.0]))[:, [0, 2, 1]]
    (group,) = imod_group(tmp_path / "p.mod", flipped, (60, 20, 40), flags=1 << 16)
    np.testing.assert_allclose(zyx(group), expected())


def imod_group(path, points_xyz, shape_xyz, flags=0, pixel=0.0, unit=0):
    header = struct.pack(">8s128s4iI", b"IMODV1.2", b"", *shape_xyz, 1, flags).ljust(216, b"\0")
    header += struct.pack(">fi", pixel, unit).ljust(24, b"\0")
    contour = b"CONT" + struct.pack(">4i", len(points_xyz), 0, 0, 0) + points_xyz.astype(">f4").tobytes()
    path.write_bytes(header + b"OBJT" + b"spike".ljust(176, b"\0") + contour + b"IEOF")
    return read_points(path)


def test_an_imod_model_picked_on_a_binned_volume(tmp_path):
    """Half as many voxels, or voxels of 2 nm, are not the tomogram's; --coords_angpix says what they are."""
    points = VOXELS / 2 + [0.5, 0.5, 0.0]
    (group,) = imod_group(tmp_path / "size.mod", points, (30, 20, 10))
    with pytest.raises(InputError, match=r"30 x 20 x 10 voxels .* 60 x 40 x 20 voxels .*--coords_angpix"):
        zyx(group)
    np.testing.assert_allclose(zyx(group, pixel_size_angstrom=20.0), expected())
    (group,) = imod_group(tmp_path / "pixel.mod", points, (0, 0, 0), pixel=2.0, unit=-9)
    with pytest.raises(InputError, match=r"voxels of 20 angstrom, .* voxels of 10 angstrom"):
        zyx(group)
    # Another size in the header of the same voxels, and a section more.
    (group,) = imod_group(tmp_path / "same.mod", VOXELS + np.array([0.5, 0.5, 0.0]), (60, 40, 21), pixel=1.0, unit=-10)
    np.testing.assert_allclose(zyx(group), expected())


def test_coords_of_four_columns(tmp_path):
    """A contour, which is a whole number, before x y z; or a score behind."""
    xyz = VOXELS + np.array([0.5, 0.5, 0.0])
    for name, rows in (
        ("contour", [[1, *row] for row in xyz]),
        ("score", [[*row, 0.75] for row in xyz]),
    ):
        (tmp_path / f"{name}.coords").write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))
        (group,) = read_points(tmp_path / f"{name}.coords")
        np.testing.assert_allclose(zyx(group), expected())


def test_a_star_file_of_several_blocks_of_particles(tmp_path):
    """Named inside, or by the names of the blocks."""
    table = pd.DataFrame(columns(PLAIN, VOXELS))
    starfile.write({"TS_1": table, "TS_2": table + 1}, tmp_path / "blocks.star")
    first, second = read_points(tmp_path / "blocks.star")
    assert (first.tomogram_name, second.tomogram_name) == ("TS_1", "TS_2")
    np.testing.assert_allclose(zyx(first), expected())
    np.testing.assert_allclose(zyx(second), expected(VOXELS + 1))


def test_lines_that_end_with_a_separator_and_names_of_rows(tmp_path):
    """One field more than the header: nothing behind the last, or a name before the first (as R writes it)."""
    for name, line in (("trailing", "{},{},{},"), ("rows", "row,{},{},{}")):
        lines = ["x_px,y_px,z_px", *(line.format(*row) for row in VOXELS)]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
        (group,) = read_points(tmp_path / f"{name}.csv")
        np.testing.assert_allclose(zyx(group), expected())


def test_columns_that_differ_in_capitals_alone(tmp_path):
    (tmp_path / "p.csv").write_text("X,Y,Z,x,y,z\n1,2,3,10,20,30\n")
    with pytest.raises(InputError, match="several columns are named 'x'"):
        read_points(tmp_path / "p.csv")


def test_tomograms_star_is_found_by_the_name_of_the_tilt_series(tmp_path):
    """The particles name the tomogram's file: size and pixel size are of its tilt series."""
    series = {"rlnTomoName": ["TS_1"], "rlnTomoTiltSeriesPixelSize": [2.5]}
    series |= {"rlnTomoSizeX": [241], "rlnTomoSizeY": [161], "rlnTomoSizeZ": [81]}
    starfile.write({"global": pd.DataFrame(series)}, tmp_path / "tomograms.star")
    for names, wanted in ((CENTRED, [81 * 1.25, 161 * 1.25, 241 * 1.25]), (PLAIN, [0.0, 0.0, 0.0])):
        path = star_file(tmp_path / "p.star", {"rlnTomoName": ["rec_TS_1.mrc"], **columns(names, [[0.0, 0.0, 0.0]])})
        (group,) = read_points(path)
        np.testing.assert_allclose(zyx(group), [wanted])


# --- What damaged files showed ------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a_info.json", {"boxes_3d": [[1, 2, 3, "m", 1, 0]], "class_list": {"0": {"name": [1]}}}, "no name of a class"),
        ("a_info.json", {"boxes_3d": [[1, 2, 3, "m", 1, float("inf")]]}, "not a readable EMAN2 info file"),
        ("a.json", {"pickable_object_name": "a", "points": [{"location": dict.fromkeys("xyz", 10**400)}]}, "from -1e"),
        (
            "a.json",
            {"pickable_object_name": "a", "points": [{"location": dict.fromkeys("xyz", 1), "score": "high"}]},
            "point 0: score is no finite number",
        ),
    ],
)
def test_damaged_json_is_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        read_points(tmp_path / name)


def test_a_number_of_a_tomogram_that_is_none(tmp_path):
    row = ["0"] * 35
    row[19] = "nan"
    (tmp_path / "a.tbl").write_text(" ".join(row) + "\n")
    with pytest.raises(InputError, match=r"a\.tbl, row 1: nan is no number of a tomogram or class"):
        read_points(tmp_path / "a.tbl")


def test_two_star_files_behind_each_other(tmp_path):
    table = "data_particles\n\nloop_\n_rlnTomoName #1\n" + "".join(
        f"_rlnCenteredCoordinate{axis}Angst #{n}\n" for n, axis in enumerate("XYZ", start=2)
    )
    (tmp_path / "a.star").write_text(f"{table}TS_1 1 2 3\n\n{table}TS_2 4 5 6\n")
    with pytest.raises(InputError, match=r"a\.star: several blocks are named data_particles; make them one"):
        read_points(tmp_path / "a.star")


def test_a_star_column_that_others_need_or_that_is_there_twice(tmp_path):
    names = ["rlnTomoName", *(f"rlnCoordinate{a}" for a in "XYZ"), *(f"rlnOrigin{a}Angst" for a in "XYZ")]
    for wrong, message in (("rlnOriginX", "column rlnOriginXAngst is missing"), ("rlnOriginYAngst", "is there twice")):
        columns = [wrong if name == "rlnOriginXAngst" else name for name in names]
        lines = ["data_", "loop_", *(f"_{name}" for name in columns), "TS_1 1 2 3 4 5 6", ""]
        (tmp_path / "a.star").write_text("\n".join(lines))
        with pytest.raises(InputError, match=message):
            read_points(tmp_path / "a.star")


def test_decimal_commas_in_a_table_of_commas(tmp_path):
    (tmp_path / "a.csv").write_text("tomogram,x_nm,y_nm,z_nm\nTS_1,30,5,20,5,10,5\n")
    with pytest.raises(InputError, match="more values than the header has names; write decimals with a point"):
        read_points(tmp_path / "a.csv")


def test_lines_of_model2point_that_are_no_numbers(tmp_path):
    (tmp_path / "a.coords").write_text("1e400 2 3\n")
    with pytest.raises(InputError, match=r"a\.coords: point 1 has a coordinate that is not a number from -1e\+09 to"):
        read_points(tmp_path / "a.coords")


HUGE = {"1e308": 1e308, "-1e308": -1e308, "9" * 5000: np.inf}


def with_huge_numbers(folder, word, value):
    """A file of every format, with a coordinate, pixel size or number that no tomogram has."""
    texts = {
        "a.csv": f"x_angstrom,y_angstrom,z_angstrom\n1,{word},3\n",
        "a.coords": f"1 {word} 3\n",
        "a.tbl": " ".join(["0"] * 23 + ["1", word, "3"]),
        "a.star": f"data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n1.0 {word} 3.0\n",
        "a.cmm": f'<marker_set name="a"><marker id="1" x="1" y="{word}" z="3"/></marker_set>',
        "a.json": f'{{"pickable_object_name": "a", "points": [{{"location": {{"x": 1, "y": {word}, "z": 3}}}}]}}',
        "a_info.json": f'{{"boxes_3d": [[1, {word}, 3, "manual", 1, 0]]}}',
        "b_info.json": f'{{"boxes_3d": [[1, 2, 3, "manual", 1, 0]], "apix_unbin": {word}}}',
        "a-1.0_point.ndjson": f'{{"type": "point", "location": {{"x": 1, "y": {word}, "z": 3}}}}\n',
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
        yield folder / name
    with np.errstate(over="ignore"):
        list_of_one = struct.pack("<4B3i", 6, 0, 0, 5, 20, 1, 1).ljust(512, b"\0") + np.full(20, value, "<f4").tobytes()
    (folder / "a.em").write_bytes(list_of_one)
    yield folder / "a.em"


@pytest.mark.parametrize("word", HUGE, ids=lambda word: word[:6])
def test_numbers_that_no_tomogram_has_are_one_line_in_every_format(tmp_path, word):
    for path in with_huge_numbers(tmp_path, word, HUGE[word]):
        with pytest.raises(InputError, match=re.escape(path.name)):
            read_points(path)


def test_text_in_another_line_separator_stays_in_its_line(tmp_path):
    """U+2028 ends a line for str.splitlines, and for no program that writes these files."""
    (tmp_path / "a.doc").write_text("1 rec\u2028one.mrc\n² two.mrc\n" + "9" * 5000 + " three.mrc\n")
    assert tomogram_names(tmp_path / "a.tbl") == {1: "rec\u2028one.mrc"}


def test_an_imod_model_that_is_cut_off_or_leads_back(tmp_path):
    head = b"IMODV1.2".ljust(240, b"\0")
    for rest in (b"", b"MESH" + struct.pack(">2i", -100, 0).ljust(16, b"\0"), b"IMAT" + struct.pack(">i", 4)):
        (tmp_path / "a.mod").write_bytes(head + rest)
        with pytest.raises(InputError, match=r"not a readable IMOD model \((its end is cut off|a mesh has no size)"):
            read_points(tmp_path / "a.mod")
