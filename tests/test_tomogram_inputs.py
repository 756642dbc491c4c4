"""Tomograms as a person names them."""

import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from errors import InputError
from formats.tomogram_inputs import masks_of, runs_of_copick, runs_of_words, with_names


def tomogram(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path) as file:
        file.set_data(np.zeros((4, 5, 6), np.float32))
        file.voxel_size = 10.0
    return path


def named(runs, tomo_type="denoised"):
    return {run.name: run.tomogram_path(tomo_type) for run in runs}


@pytest.fixture
def layout(tmp_path):
    """The training tree with one run."""
    where = "train/static/ExperimentRuns/TS_9/VoxelSpacing10.000/denoised.mrc"
    return tmp_path / "tree", tomogram(tmp_path / "tree" / where)


def test_files_globs_folders_lists_and_layouts_together(tmp_path, layout):
    root, inside = layout
    first, second = tomogram(tmp_path / "a" / "rec_TS_1_10.00Apx.mrc"), tomogram(tmp_path / "b" / "TS_2.mrc")
    third = tomogram(tmp_path / "TS_3.rec")
    (tmp_path / "list.txt").write_text(f"{third}\n")
    words = [f"{tmp_path}/a/*.mrc", str(tmp_path / "b"), str(tmp_path / "list.txt"), str(root)]
    assert named(runs_of_words(words, tomo_type="denoised")) == {
        "TS_1": first,
        "TS_2": second,
        "TS_3": third,
        "TS_9": inside,
    }


def test_two_tomograms_of_one_name_are_named(tmp_path, layout):
    root, inside = layout
    other = tomogram(tmp_path / "TS_9.mrc")
    with pytest.raises(InputError, match=rf"{inside} and {other} are both tomogram 'TS_9'"):
        runs_of_words([str(root), str(other)], tomo_type="denoised")


def test_a_copick_project(tmp_path, layout):
    root, inside = layout
    config = {
        "config_type": "filesystem",
        "pickable_objects": [],
        "overlay_root": f"local://{root / 'train' / 'static'}",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert named(runs_of_copick(tmp_path / "config.json", tomo_type="denoised")) == {"TS_9": inside}
    with pytest.raises(InputError, match="no tomogram of type 'wbp'"):
        runs_of_copick(tmp_path / "config.json", tomo_type="wbp")


def test_some_by_name(tmp_path):
    for name in ("TS_1", "TS_2"):
        tomogram(tmp_path / f"{name}.mrc")
    runs = runs_of_words([str(tmp_path)], tomo_type="denoised")
    assert list(named(with_names(runs, ["TS_2"]))) == ["TS_2"]
    assert with_names(runs, None) == runs
    with pytest.raises(InputError, match="--limit_tomos_by_id 'TS_3': no such tomogram; there are: TS_1, TS_2"):
        with_names(runs, ["TS_3"])


def test_masks_belong_to_the_tomograms_in_their_names():
    folder = Path("masks")
    files = [folder / "TS_1_segmented.mrc", folder / "TS_12_segmented.mrc", folder / "TS_5_segmented.mrc"]
    assert masks_of(folder, ["TS_1", "TS_12"], files) == {"TS_1": files[0], "TS_12": files[1]}
    with pytest.raises(InputError, match="--mask_dir masks has no mask of TS_2"):
        masks_of(folder, ["TS_1", "TS_2"], files)
    with pytest.raises(InputError, match="are both masks of TS_1"):
        masks_of(folder, ["TS_1"], [files[0], folder / "TS_1_membrane.mrc"])
