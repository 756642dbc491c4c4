"""prepare_fullpublic_eval_annotations.py: which annotation, in which voxels."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

import prepare_fullpublic_eval_annotations as script
from data.picks import read_run_picks
from errors import InputError
from prepare_fullpublic_eval_annotations import main

SIMULATED = Path(__file__).parents[1].parent / "shared" / "data" / "czi_sim" / "10445"
POINTS_XYZ = [(30, 20, 10), (33, 22, 11.5)]
POINTS_ZYX = np.array(POINTS_XYZ)[:, ::-1]


def annotate(root, file="ribosome-1.0_point.ndjson", points=POINTS_XYZ, run="TS_1", number="100", **more):
    spacing = more.pop("spacing", "10.000")
    folder = root / run / "Reconstructions" / f"VoxelSpacing{spacing}" / "Annotations" / number
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"type": "point", "location": dict(zip("xyz", p, strict=True))}) for p in points]
    (folder / file).write_text("\n".join(lines))
    if more:
        (folder / (file.rpartition("_")[0] + ".json")).write_text(json.dumps(more))
    return folder / file


def picks(root, run="TS_1"):
    return read_run_picks(root / run / "Picks")


def convert(root, *arguments):
    main(["--data_dir", str(root), *arguments])


def test_voxels_are_those_of_the_annotations_own_folder(tmp_path):
    annotate(tmp_path, spacing="4.990")
    tomogram = tmp_path / "TS_1" / "Reconstructions" / "VoxelSpacing10.012" / "Tomograms" / "1" / "TS_1.zarr"
    zarr.create_array(tomogram, shape=(20, 30, 40), chunks=(20, 30, 40), dtype="f4", zarr_format=2)[:] = 1.0
    convert(tmp_path)
    np.testing.assert_allclose(picks(tmp_path)["ribosome"], POINTS_ZYX * 4.99)
    content = json.loads((tmp_path / "TS_1" / "Picks" / "ribosome.json").read_text())
    assert (content["run_name"], content["unit"]) == ("TS_1", "angstrom")
    assert content["points"][0]["location"]["x"] == pytest.approx(30 * 4.99)


def test_the_voxel_size_can_be_given(tmp_path):
    annotate(tmp_path, spacing="4.990")
    convert(tmp_path, "--voxel_spacing", "2.5")
    np.testing.assert_allclose(picks(tmp_path)["ribosome"], POINTS_ZYX * 2.5)


def test_points_outside_of_the_tomogram_are_worth_a_warning(tmp_path):
    annotate(tmp_path, spacing="10.012")
    tomogram = tmp_path / "TS_1" / "Reconstructions" / "VoxelSpacing10.012" / "Tomograms" / "1" / "TS_1.zarr"
    zarr.create_array(tomogram, shape=(20, 30, 31), chunks=(20, 30, 31), dtype="f4", zarr_format=2)[:] = 1.0
    with pytest.warns(UserWarning, match="TS_1: 1 points lie outside of the tomogram"):
        convert(tmp_path)


def test_picks_of_an_earlier_conversion_are_named(tmp_path):
    """They would count as truth; or somebody has put them there."""
    annotate(tmp_path)
    thyroglobulin = annotate(tmp_path, "thyroglobulin-1.0_point.ndjson", number="101")
    convert(tmp_path)
    thyroglobulin.unlink()
    with pytest.warns(UserWarning, match="Picks also holds thyroglobulin, of which there is no annotation; remove"):
        convert(tmp_path)
    assert set(picks(tmp_path)) == {"ribosome", "thyroglobulin"}


def test_point_and_orientedpoint_of_one_annotation_are_the_same_points(tmp_path, capsys):
    annotate(tmp_path)
    annotate(tmp_path, "ribosome-1.0_orientedpoint.ndjson", [*POINTS_XYZ, (1, 2, 3)])
    convert(tmp_path)
    assert len(picks(tmp_path)["ribosome"]) == 3, "the file with orientations is preferred"
    assert "several annotations" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [
        ({}, {}, "99"),
        ({"ground_truth_status": False}, {"ground_truth_status": True}, "100"),
        ({"ground_truth_status": True}, {"is_curator_recommended": True}, "100"),
        ({"ground_truth_status": True}, {}, "99"),
    ],
)
def test_of_several_annotations_one_is_taken_and_named(tmp_path, capsys, first, second, taken):
    annotate(tmp_path, "ribosome-1.0_point.ndjson", [(9, 9, 9)], number="99", **first)
    annotate(tmp_path, "cytosolic_ribosome-1.0_point.ndjson", [(100, 100, 100)], number="100", **second)
    convert(tmp_path)
    assert picks(tmp_path)["ribosome"].tolist() == [[10.0 * float(taken)] * 3 if taken == "100" else [90.0] * 3]
    output = capsys.readouterr().out
    assert "several annotations of one particle in 1 cases" in output
    assert f"/{taken}/" in output.split("is taken")[0].splitlines()[-1]


def test_unknown_objects_are_named_once_and_skipped(tmp_path):
    for run in ("TS_1", "TS_2"):
        annotate(tmp_path, run=run)
        annotate(tmp_path, "membrane-1.0_point.ndjson", run=run, number="101")
    with pytest.warns(UserWarning, match="skipped: membrane") as caught:
        convert(tmp_path)
    assert len(caught) == 1
    assert list(picks(tmp_path)) == ["ribosome"]


def test_repeated_points_are_kept_once(tmp_path):
    annotate(tmp_path, points=POINTS_XYZ * 2)
    with pytest.warns(UserWarning, match=r"ribosome-1\.0_point\.ndjson: 2 points are given more than once"):
        convert(tmp_path)
    assert len(picks(tmp_path)["ribosome"]) == 2


def test_a_run_without_annotations_is_a_warning_all_of_them_an_error(tmp_path):
    (tmp_path / "TS_2" / "Reconstructions").mkdir(parents=True)
    with pytest.raises(InputError, match="fetch them first"):
        convert(tmp_path)
    annotate(tmp_path, "membrane-1.0_point.ndjson")
    with pytest.raises(InputError, match=r"add aliases to .* for: membrane"):
        convert(tmp_path)
    annotate(tmp_path)
    (tmp_path / "TS_1/Reconstructions/VoxelSpacing10.000/Annotations/100/membrane-1.0_point.ndjson").unlink()
    with pytest.warns(UserWarning, match="no annotation of a known particle in: TS_2"):
        convert(tmp_path)


def test_a_corrupt_line_is_named_and_nothing_is_written(tmp_path):
    annotate(tmp_path)
    path = annotate(tmp_path, run="TS_2")
    path.write_text(path.read_text() + '\n{"type": "point", "loc')
    with pytest.raises(InputError, match="line 3: not valid JSON") as error:
        convert(tmp_path)
    assert str(path) in str(error.value)
    assert not list(tmp_path.rglob("Picks"))


def test_corrupt_metadata_is_named(tmp_path):
    annotate(tmp_path).with_name("ribosome-1.0.json").write_text("{")
    annotate(tmp_path, number="101")
    with pytest.raises(InputError, match=r"ribosome-1\.0\.json: not a readable JSON file"):
        convert(tmp_path)


def test_a_folder_without_a_spacing_demands_it(tmp_path):
    annotate(tmp_path, spacing="0.000")
    with pytest.raises(InputError, match="give --voxel_spacing"):
        convert(tmp_path)


def test_an_absent_or_empty_data_dir(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        convert(tmp_path / "absent")
    with pytest.raises(InputError, match="no portal runs"):
        convert(tmp_path)


def test_the_simulated_public_set(tmp_path):
    if not SIMULATED.is_dir():
        pytest.skip("the simulated data is not here")
    without_voxels = shutil.ignore_patterns("[012].[012].[012]")
    shutil.copytree(SIMULATED, tmp_path / "10445", ignore=without_voxels, copy_function=shutil.copyfile)
    convert(tmp_path / "10445")
    extent = 96 * 10.012, 192 * 10.012, 192 * 10.012
    for run in sorted(path.name for path in (tmp_path / "10445").iterdir() if path.is_dir()):
        points = np.concatenate(list(picks(tmp_path / "10445", run).values()))
        assert ((points >= 0) & (points <= extent)).all()
        # The points fill the volume in every run, TS_201_4 with its finer annotation voxels included.
        assert (points.max(axis=0) > 0.85 * np.array(extent)).all()


def test_picks_of_a_run_that_are_not_all_there_are_not_scored_by(tmp_path, monkeypatch):
    annotate(tmp_path)
    annotate(tmp_path, file="thyroglobulin-1.0_point.ndjson", number="101")
    write_picks, calls = script.write_picks, []

    def killed_at_the_second(path, **content):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write_picks(path, **content)

    monkeypatch.setattr(script, "write_picks", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path)
    with pytest.raises(InputError, match=r"TS_1/Picks is incomplete: .*; run it again"):
        picks(tmp_path)
    convert(tmp_path)
    assert list(picks(tmp_path)) == ["ribosome", "thyroglobulin"]
