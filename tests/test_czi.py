"""Finding runs in both trees."""

import json
from pathlib import Path

import pytest

from data.czi import Run, find_runs
from errors import InputError

SIMULATED = Path(__file__).parents[1].parent / "shared" / "data" / "czi_sim"


def training_run(root, name, types=("denoised",), split="train", spacing="10.000", suffix=".zarr"):
    for tomo_type in types:
        folder = root / split / "static" / "ExperimentRuns" / name / f"VoxelSpacing{spacing}"
        (folder / f"{tomo_type}{suffix}").mkdir(parents=True)


def portal_run(root, name, processing="denoised", spacing="10.012", number="100", suffix=".zarr", **metadata):
    folder = root / name / "Reconstructions" / f"VoxelSpacing{spacing}" / "Tomograms" / number
    (folder / f"{name}{suffix}").mkdir(parents=True)
    if processing is not None:
        content = {"processing": processing, **metadata}
        (folder / "tomogram_metadata.json").write_text(json.dumps(content))
    return folder / f"{name}{suffix}"


# --- training layout ----------------------------------------------------------------------------------
def test_training_tree(tmp_path):
    training_run(tmp_path, "TS_2", ("denoised", "wbp"))
    training_run(tmp_path, "TS_1")
    (tmp_path / "train" / "static" / "ExperimentRuns" / ".hidden" / "VoxelSpacing10.000").mkdir(parents=True)
    runs = find_runs(tmp_path)
    assert [run.name for run in runs] == ["TS_1", "TS_2"]
    assert set(runs[1].tomogram_paths) == {"denoised", "wbp"}
    assert runs[0].picks_dir == tmp_path / "train" / "overlay" / "ExperimentRuns" / "TS_1" / "Picks"
    assert [run.name for run in find_runs(tmp_path, tomo_type="wbp")] == ["TS_2"]
    assert [run.name for run in find_runs(tmp_path, names=["TS_1"])] == ["TS_1"]


def test_a_run_in_both_splits_appears_once_as_the_training_run(tmp_path):
    for split in ("train", "test"):
        training_run(tmp_path, "TS_1", split=split)
    training_run(tmp_path, "TS_0", split="test")
    assert [(run.name, run.split) for run in find_runs(tmp_path)] == [("TS_0", "test"), ("TS_1", "train")]
    assert [run.name for run in find_runs(tmp_path, split="train")] == ["TS_1"]
    test = find_runs(tmp_path, split="test")
    assert [(run.name, run.split) for run in test] == [("TS_0", "test"), ("TS_1", "test")]


@pytest.mark.parametrize("below", ["train", "train/static", "train/static/ExperimentRuns"])
def test_the_root_may_be_given_further_down(tmp_path, below):
    training_run(tmp_path, "TS_1")
    run = find_runs(tmp_path / below)[0]
    assert run.picks_dir == tmp_path / "train" / "overlay" / "ExperimentRuns" / "TS_1" / "Picks"
    assert run.split == "train"


def test_of_several_spacings_the_one_nearest_to_ten_angstrom(tmp_path):
    for spacing in ("4.990", "13.480", "10.012", "7.840"):
        training_run(tmp_path, "TS_1", spacing=spacing)
    assert find_runs(tmp_path)[0].tomogram_path("denoised").parent.name == "VoxelSpacing10.012"


def test_mrc_tomograms_and_feature_maps(tmp_path):
    training_run(tmp_path, "TS_1", ("denoised", "denoised_unet_features"), suffix=".mrc")
    assert list(find_runs(tmp_path)[0].tomogram_paths) == ["denoised"]
    training_run(tmp_path, "TS_1", ("denoised",), suffix=".zarr")
    assert find_runs(tmp_path)[0].tomogram_path("denoised").suffix == ".zarr"


# --- portal layout ------------------------------------------------------------------------------------
def test_portal_tree(tmp_path):
    path = portal_run(tmp_path, "TS_1")
    wbp = portal_run(tmp_path, "TS_1", "raw", number="101", suffix=".mrc")
    annotations = tmp_path / "TS_1" / "Reconstructions" / "VoxelSpacing4.990" / "Annotations" / "7"
    annotations.mkdir(parents=True)
    (annotations / "ribosome-1.0_point.ndjson").touch()
    (tmp_path / "not_a_run").mkdir()
    (run,) = find_runs(tmp_path)
    assert run.tomogram_paths == {"denoised": path, "raw": wbp}
    assert (run.split, run.picks_dir) == ("portal", tmp_path / "TS_1" / "Picks")
    assert run.annotation_paths == (annotations / "ribosome-1.0_point.ndjson",)


def test_wbp_is_what_the_portal_calls_raw(tmp_path):
    path = portal_run(tmp_path, "TS_1", "raw")
    (run,) = find_runs(tmp_path, tomo_type="wbp")
    assert run.tomogram_paths["wbp"] == run.tomogram_path("wbp") == run.tomogram_path("raw") == path


def test_a_single_tomogram_without_metadata_is_taken_with_a_warning(tmp_path):
    path = portal_run(tmp_path, "TS_1", None)
    with pytest.warns(UserWarning, match=r"taken as 'denoised' \(1 runs: TS_1\)"):
        (run,) = find_runs(tmp_path, tomo_type="denoised")
    assert run.tomogram_path("denoised") == path


def test_of_several_tomograms_without_metadata_none_is_guessed(tmp_path):
    portal_run(tmp_path, "TS_1", None)
    path = portal_run(tmp_path, "TS_1", None, number="101")
    with pytest.raises(InputError, match="there are: unknown-100, unknown-101"):
        find_runs(tmp_path, tomo_type="denoised")
    assert find_runs(tmp_path, tomo_type="unknown-101")[0].tomogram_path("unknown-101") == path


def test_the_nearest_spacing_then_the_portals_default_then_the_lowest_id(tmp_path):
    portal_run(tmp_path, "TS_1", spacing="4.990", number="1")
    portal_run(tmp_path, "TS_1", number="100")
    default = portal_run(tmp_path, "TS_1", number="101", is_visualization_default=True)
    portal_run(tmp_path, "TS_2", number="1000")
    lowest = portal_run(tmp_path, "TS_2", number="999")
    with pytest.warns(UserWarning, match=r"several 'denoised' tomograms.*\(2 runs: TS_1, TS_2\)"):
        runs = find_runs(tmp_path)
    assert [run.tomogram_path("denoised") for run in runs] == [default, lowest]


def test_corrupt_metadata_is_named(tmp_path):
    path = portal_run(tmp_path, "TS_1").with_name("tomogram_metadata.json")
    path.write_text("{")
    with pytest.raises(InputError, match=r"tomogram_metadata\.json: not a readable JSON file"):
        find_runs(tmp_path)


# --- mistakes -----------------------------------------------------------------------------------------
def test_no_root_no_runs(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        find_runs(tmp_path / "absent")
    with pytest.raises(InputError, match=r"no runs in .*static/ExperimentRuns.*Reconstructions"):
        find_runs(tmp_path)
    portal_run(tmp_path, "TS_1")
    with pytest.raises(InputError, match="no test runs"):
        find_runs(tmp_path, split="test")
    assert [run.name for run in find_runs(tmp_path, split="train")] == ["TS_1"]  # it can be trained on


def test_unknown_names_and_types_name_what_there_is(tmp_path):
    for number in range(7):
        training_run(tmp_path, f"TS_{number}", ("denoised", "isonetcorrected"))
    with pytest.raises(InputError, match=r"no run 'TS_9' .* there are: TS_0, TS_1, TS_2, TS_3, TS_4, \.\.\."):
        find_runs(tmp_path, names=["TS_1", "TS_9"])
    with pytest.raises(InputError, match="type 'wbp'; there are: denoised, isonetcorrected"):
        find_runs(tmp_path, tomo_type="wbp")
    training_run(tmp_path, "TS_8", ("wbp",))
    with pytest.raises(InputError, match="run TS_0 has no tomogram of type 'wbp'"):
        find_runs(tmp_path, tomo_type="wbp", names=["TS_8", "TS_0"])


def test_a_run_without_tomograms_says_so():
    with pytest.raises(InputError, match="there are: none"):
        Run("TS_1", {}, Path("picks")).tomogram_path("denoised")


def test_simulated_trees():
    if not SIMULATED.is_dir():
        pytest.skip("the simulated data is not here")
    assert len(find_runs(SIMULATED)) == 6
    assert len(find_runs(SIMULATED, tomo_type="wbp")) == 3
    runs = find_runs(SIMULATED / "10445", tomo_type="denoised")
    assert [len(run.annotation_paths) for run in runs] == [6] * 6


def test_links_anywhere_in_the_portals_tree(tmp_path):
    root, store = tmp_path / "data", tmp_path / "store"
    portal_run(root, "TS_201", spacing="10.000")
    annotations = root / "TS_201" / "Reconstructions" / "VoxelSpacing10.000" / "Annotations"
    annotations.mkdir()
    (store / "100").mkdir(parents=True)
    (store / "100" / "cytosolic_ribosome-1.0_point.ndjson").write_text("")
    (annotations / "100").symlink_to(store / "100")
    (run,) = find_runs(root)
    assert run.annotation_paths == (annotations / "100" / "cytosolic_ribosome-1.0_point.ndjson",)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "TS_7").symlink_to(root / "TS_201")
    (run,) = find_runs(tmp_path / "linked")
    assert run.name == "TS_7" and len(run.annotation_paths) == 1


@pytest.mark.parametrize("name", ["denoised.recon", "TS_1.stack8.denoised", "a.map.rec", "with blanks"])
@pytest.mark.parametrize("suffix", [".mrc", ".REC", ".ali", ".map.gz", ".ccp4", ".zarr"])
def test_a_type_is_the_name_of_the_file_without_its_last_suffix(tmp_path, name, suffix):
    training_run(tmp_path, "TS 1.5", types=(name,), suffix=suffix)
    (run,) = find_runs(tmp_path, tomo_type=name)
    assert run.name == "TS 1.5" and set(run.tomogram_paths) == {name}


def test_files_of_other_kinds_are_named(tmp_path):
    training_run(tmp_path, "TS_1", types=("wbp",))
    (tmp_path / "train/static/ExperimentRuns/TS_1/VoxelSpacing10.000/denoised.tif").write_text("")
    with pytest.raises(InputError, match=r"not readable as tomograms, convert to MRC or zarr: denoised\.tif"):
        find_runs(tmp_path, tomo_type="denoised")


def test_a_name_that_is_not_written_in_utf8_is_said(tmp_path):
    try:
        training_run(tmp_path, "TS_\udcc3")  # what Python makes of a letter in another encoding
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system takes no such names")
    with pytest.raises(InputError, match="rename its folder"):
        find_runs(tmp_path)
