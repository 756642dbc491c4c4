"""prepare_mask_czi.py on tiny trees."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from data.picks import write_picks
from errors import InputError
from prepare_mask_czi import main

SIMULATED = Path(__file__).parents[1].parent / "shared" / "data" / "czi_sim"
SHAPE = (8, 10, 12)


def make_run(root, name, picks, tomo_type="denoised", shape=SHAPE):
    folder = root / "train" / "static" / "ExperimentRuns" / name / "VoxelSpacing10.000" / f"{tomo_type}.zarr"
    zarr.create_array(folder, shape=shape, chunks=shape, dtype="f4", zarr_format=2)[:] = 1.0
    for particle, points in picks.items():
        path = root / "train" / "overlay" / "ExperimentRuns" / name / "Picks" / f"{particle}.json"
        write_picks(path, particle_name=particle, run_name=name, coordinates_zyx_angstrom=np.array(points))


def test_masks_table_and_pictures(tmp_path, capsys):
    make_run(tmp_path, "TS_1", {"apo-ferritin": [[40.0, 50.0, 60.0]], "ribosome": np.empty((0, 3))})
    make_run(tmp_path, "TS_2", {"thyroglobulin": [[30.0, 20.0, 10.0], [30.0, 20.0, 900.0]]})
    main(["--data_root", str(tmp_path), "--save_plots"])
    folder = tmp_path / "mask" / "segmentations_0.5"
    names = [f"TS_{k}.{kind}" for k in (1, 2) for kind in ("json", "npy", "png")]
    assert sorted(path.name for path in folder.iterdir()) == [*names, "run_parameters.json"]
    record = json.loads((folder / "TS_1.json").read_text())
    assert record["shape_zyx"] == list(SHAPE) and record["voxel_spacing_angstrom"] == 10.0
    assert record["radius_fraction"] == 0.5 and record["particles"][3] == ["ribosome", 4, 150.0]
    mask = np.load(folder / "TS_1.npy")
    assert (mask.shape, mask.dtype) == (SHAPE, np.uint8)
    assert mask[4, 5, 6] == 1
    assert mask[0, 5, 6] == 0
    assert np.load(folder / "TS_2.npy")[3, 2, 1] == 5
    output = capsys.readouterr().out
    assert "2 masks in" in output
    assert "not painted: particles outside the tomogram" in output


def test_single_pixels_beat_the_fraction_and_the_spacing_can_be_given(tmp_path):
    make_run(tmp_path, "TS_1", {"ribosome": [[40.0, 60.0, 80.0]]})
    arguments = ["--data_root", str(tmp_path), "--output_dir", str(tmp_path / "out"), "--voxel_spacing", "20"]
    main([*arguments, "--single_pixel_mask", "--radius_fraction", "0.3"])
    mask = np.load(tmp_path / "out" / "segmentations_0.0" / "TS_1.npy")
    assert np.argwhere(mask).tolist() == [[2, 3, 4]]


def test_only_training_runs_with_the_type(tmp_path, capsys):
    make_run(tmp_path, "TS_1", {"ribosome": [[40.0, 60.0, 80.0]]})
    make_run(tmp_path, "TS_2", {}, tomo_type="wbp")
    main(["--data_root", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "1 masks in" in printed and "left out, without a denoised tomogram: TS_2" in printed


def test_a_run_without_picks_stops_before_anything_is_written(tmp_path):
    make_run(tmp_path, "TS_1", {"ribosome": [[40.0, 60.0, 80.0]]})
    make_run(tmp_path, "TS_2", {})
    with pytest.raises(InputError, match="run TS_2 has no picks: looked in"):
        main(["--data_root", str(tmp_path)])
    assert not (tmp_path / "mask").exists()


def test_an_unknown_particle(tmp_path):
    make_run(tmp_path, "TS_1", {"proteasome": [[40.0, 60.0, 80.0]]})
    with pytest.raises(InputError, match=r"proteasome\.json: particle 'proteasome' is not in"):
        main(["--data_root", str(tmp_path)])


def test_an_absent_root(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        main(["--data_root", str(tmp_path / "absent")])


def test_the_simulated_training_set(tmp_path):
    if not SIMULATED.is_dir():
        pytest.skip("the simulated data is not here")
    main(["--data_root", str(SIMULATED), "--output_dir", str(tmp_path), "--single_pixel_mask"])
    masks = [np.load(path) for path in sorted((tmp_path / "segmentations_0.0").glob("*.npy"))]
    assert [np.count_nonzero(mask) for mask in masks] == [65, 49, 42, 68, 58, 50], "one voxel per particle"
