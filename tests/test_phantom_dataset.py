"""The phantom data set as written by its script: determinism, both layouts, given positions, wrong values."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

import make_phantom_dataset
from data.czi import find_runs
from data.phantom.dataset import VARIED, PhantomSettings, random_generator, reconstruct
from data.phantom.layouts import nominal_spacing_folder, write_portal_run
from data.phantom.scene import Placement
from data.phantom.tomo_types import Denoising
from data.picks import read_ndjson, read_run_picks
from data.spectrum import amplitude_spectrum, largest_difference
from errors import InputError
from particle_config import PARTICLES

TINY = ["--shape", "24", "40", "44", "--tilt_step", "15", "--device", "cpu"]
RUNS = "ExperimentRuns"


def make(output_dir, *more):
    make_phantom_dataset.main([*TINY, "--output_dir", str(output_dir), *more])
    return output_dir


def contents(folder):
    """Path -> bytes, without the command that led to them."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "run_parameters.json"]
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom")
    return make(root, "--num_train", "2", "--num_eval", "1", "--tomo_types", "denoised", "wbp")


def test_same_seed_same_bytes_whatever_else_is_made(data_set, tmp_path):
    again = make(tmp_path / "a", "--num_train", "1", "--num_eval", "1", "--tomo_types", "denoised", "wbp")
    first_run = {k: v for k, v in contents(data_set).items() if "TS_2_1" not in k.parts}
    assert contents(again) == first_run
    other = make(tmp_path / "b", "--num_train", "1", "--num_eval", "0", "--seed", "1")
    picks = Path("train", "overlay", RUNS, "TS_1_1", "Picks", "ribosome.json")
    assert (other / picks).read_bytes() != (data_set / picks).read_bytes()


def test_each_tomogram_of_a_varied_set_is_made_in_its_own_way(tmp_path, capsys):
    """The filters alone reach further than those of programs that a network must carry over between."""
    root = make(tmp_path / "a", "--num_train", "3", "--num_eval", "1", "--vary")
    said = [line.partition("; ")[2] for line in capsys.readouterr().out.splitlines() if line.startswith("TS_")]
    assert len(set(said)) == 4 and all("defocus" in words and "ice in" in words for words in said)
    part = make(tmp_path / "b", "--num_train", "1", "--num_eval", "0", "--vary")
    assert contents(part).items() <= contents(root).items()
    usual = PhantomSettings((64, 64, 64), 10.0, 1.0, 30000.0, 60.0, 3.0)
    drawn = [usual.varied(random_generator(0, f"TS_{number}")) for number in range(300)]
    for values, (low, high) in (
        ([one.noise for one in drawn], VARIED["noise"]),
        ([one.defocus_angstrom / 30000 for one in drawn], VARIED["defocus"]),
        ([one.tilt_range_degrees / 60 for one in drawn], VARIED["tilt range"]),
        ([one.ice_fraction for one in drawn], VARIED["ice"]),
        ([one.denoising.length_angstrom for one in drawn], VARIED["denoising length"]),
        ([one.denoising.resolution_angstrom for one in drawn], VARIED["denoising resolution"]),
    ):
        assert low <= min(values) < low + 0.1 * (high - low) and high - 0.1 * (high - low) < max(values) <= high
    scene = np.random.default_rng(0).normal(size=(64, 64, 64)).astype(np.float32)
    spectra = []
    for denoising in (Denoising(70.0, 12.0), Denoising(220.0, 40.0)):
        made = reconstruct(
            scene, np.random.default_rng(0), replace(usual, denoising=denoising), ["denoised"], torch.device("cpu")
        )
        spectra.append(amplitude_spectrum(made["denoised"]))
    assert largest_difference(*spectra)[0] > 1.0  # ten times the amplitude


def test_training_layout(data_set):
    for run in ("TS_1_1", "TS_2_1"):
        static = data_set / "train" / "static" / RUNS / run / "VoxelSpacing10.000"
        assert sorted(p.name for p in static.iterdir()) == ["denoised.zarr", "wbp.zarr"]
        group = zarr.open_group(static / "denoised.zarr", mode="r")
        assert group.metadata.zarr_format == 2
        assert [group[str(k)].shape for k in range(3)] == [(24, 40, 44), (12, 20, 22), (6, 10, 11)]
        volume = group["0"][:]
        assert volume.dtype == np.float32
        assert volume.std() == pytest.approx(1e-5, rel=1e-3)
        picks = data_set / "train" / "overlay" / RUNS / run / "Picks"
        points = read_run_picks(picks)
        assert list(points) == [p.name for p in PARTICLES]
        assert sum(map(len, points.values())) > 0
        content = json.loads((picks / "ribosome.json").read_text())
        assert content["trust_orientation"] is True
        rotation = np.array(content["points"][0]["transformation_"])[:3, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
        assert not np.allclose(rotation, np.eye(3))


def test_multiscales_tell_scale_and_half_voxel_shift(data_set):
    static = data_set / "train" / "static" / RUNS / "TS_1_1" / "VoxelSpacing10.000"
    (scales,) = zarr.open_group(static / "wbp.zarr", mode="r").attrs["multiscales"]
    assert scales["version"] == "0.4"
    steps = [[t[t["type"]][0] for t in d["coordinateTransformations"]] for d in scales["datasets"]]
    # Voxel j of level k lies at (j + 0.5) * 2^k - 0.5 fine voxels.
    expected = [[10.012 * 2**k, 10.012 * (0.5 * 2**k - 0.5)] for k in range(3)]
    np.testing.assert_allclose(steps, expected)


def test_portal_layout(data_set):
    spacing_folder = data_set / "public" / "TS_201_1" / "Reconstructions" / "VoxelSpacing10.012"
    metadata = json.loads((spacing_folder / "Tomograms" / "100" / "tomogram_metadata.json").read_text())
    assert metadata["processing"] == "denoised"
    assert metadata["voxel_spacing"] == 10.012
    assert metadata["size"] == {"z": 24, "y": 40, "x": 44}
    for number in ("100", "101"):
        assert (spacing_folder / "Tomograms" / number / "TS_201_1.zarr" / ".zattrs").is_file()
    names = sorted(p.name for p in (spacing_folder / "Annotations").rglob("*.ndjson"))
    assert names == [
        "beta_amylase-1.0_orientedpoint.ndjson",
        "beta_galactosidase-1.0_point.ndjson",
        "cytosolic_ribosome-1.0_orientedpoint.ndjson",
        "ferritin_complex-1.0_point.ndjson",
        "thyroglobulin-1.0_point.ndjson",
        "virus_like_capsid-1.0_orientedpoint.ndjson",
    ]
    ribosomes = spacing_folder / "Annotations" / "103"
    count = json.loads((ribosomes / "cytosolic_ribosome-1.0.json").read_text())["object_count"]
    voxels = read_ndjson(ribosomes / "cytosolic_ribosome-1.0_orientedpoint.ndjson")
    assert len(voxels) == count > 0
    assert (voxels >= 0).all() and (voxels <= np.array([23, 39, 43])).all()


def test_portal_points_are_voxels_and_rotations_turn_xyz_vectors(tmp_path):
    # z -> y, y -> -z in zyx; on xyz vectors: y -> -z, z -> y.
    rotation = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    placement = Placement(np.array([[40.0, 50.0, 60.0]]), rotation[None])
    truth = {p.name: placement for p in PARTICLES}
    write_portal_run(tmp_path, "R", {"wbp": np.zeros((8, 8, 8), np.float32)}, truth, 5.0, PARTICLES, "key")
    (path,) = tmp_path.rglob("cytosolic_ribosome*.ndjson")
    assert path.parents[2].name == "VoxelSpacing5.000"
    np.testing.assert_allclose(read_ndjson(path), [[8.0, 10.0, 12.0]])
    point = json.loads(path.read_text())
    np.testing.assert_allclose(np.array(point["xyz_rotation_matrix"]) @ [1, 2, 3], [1, 3, -2])


def test_folder_name_is_nominal_only_near_whole_angstrom():
    names = [nominal_spacing_folder(spacing) for spacing in (10.012, 10.0, 13.48, 4.99)]
    assert names == ["VoxelSpacing10.000", "VoxelSpacing10.000", "VoxelSpacing13.480", "VoxelSpacing5.000"]


# --- Given positions ----------------------------------------------------------------------------------
def write_csv(path, *rows):
    path.write_text("experiment,particle_type,x,y,z\n" + "\n".join(rows) + "\n")
    return str(path)


def test_picks_csv_places_particles_where_it_says(tmp_path):
    rows = ["RUN_B,ferritin_complex,300,200,120", "RUN_B,apo-ferritin,100.5,200,110", "RUN_A,ribosome,200,190,115"]
    csv = write_csv(tmp_path / "p.csv", *rows)
    root = make(tmp_path / "o", "--picks_csv", csv, "--num_train", "5", "--num_eval", "0")
    overlay = root / "train" / "overlay" / RUNS
    assert sorted(p.name for p in overlay.iterdir()) == ["RUN_A", "RUN_B"]
    points = read_run_picks(overlay / "RUN_B" / "Picks")
    np.testing.assert_allclose(points["apo-ferritin"], [[120, 200, 300], [110, 200, 100.5]])
    assert len(points["ribosome"]) == 0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("R,ribosome,900,100,100", "outside the tomogram"),
        ("R,unicorn,100,100,100", "'unicorn'"),
        ("../R,ribosome,100,100,100", "holds a slash"),
        ("TS_201_1,ribosome,100,100,100", "portal run"),
    ],
)
def test_bad_picks_csv(tmp_path, row, message):
    with pytest.raises(InputError, match=message):
        make(tmp_path / "o", "--picks_csv", write_csv(tmp_path / "p.csv", row))
    assert not (tmp_path / "o").exists()


# --- Wrong values -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "flags",
    [
        "--tilt_step 61",
        "--num_train 0 --num_eval 0",
        "--density_dir nowhere",
    ],
)
def test_wrong_values_are_input_errors_that_name_the_flag(tmp_path, flags):
    flag = flags.split()[0]
    with pytest.raises(InputError, match=flag):
        make(tmp_path / "o", *flags.split())
    assert not (tmp_path / "o").exists()


def test_existing_run_is_kept_unless_overwrite(tmp_path):
    root = make(tmp_path, "--num_train", "1", "--num_eval", "0")
    before = contents(root)
    with pytest.raises(InputError, match="--overwrite"):
        make(root, "--num_train", "1", "--num_eval", "1", "--seed", "7")
    assert contents(root) == before
    make(root, "--num_train", "1", "--num_eval", "0", "--seed", "7", "--overwrite")
    assert contents(root) != before
    with pytest.warns(UserWarning, match="also holds TS_1_1, which stay as they are"):
        make(root, "--num_train", "0", "--num_eval", "1")
    assert not [p for p in root.rglob("*") if p.name.startswith(".TS")]


def test_an_interrupted_command_goes_on_with_what_is_missing(tmp_path, monkeypatch):
    whole = make(tmp_path / "whole", "--num_train", "2", "--num_eval", "1")
    write, calls = make_phantom_dataset.write_training_run, []

    def killed_at_the_second(*args):
        calls.append(args[1])
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(*args)

    monkeypatch.setattr(make_phantom_dataset, "write_training_run", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "broken", "--num_train", "2", "--num_eval", "1")
    with pytest.raises(InputError, match=r"ExperimentRuns is incomplete: .*; run it again"):
        find_runs(tmp_path / "broken")
    monkeypatch.setattr(make_phantom_dataset, "write_training_run", lambda *args: (calls.append(args[1]), write(*args)))
    make(tmp_path / "broken", "--num_train", "2", "--num_eval", "1")
    assert calls == ["TS_1_1", "TS_2_1", "TS_2_1"]
    # Killed at the first of the other tree: the marker of this one goes, too.
    shutil.rmtree(tmp_path / "broken" / "public" / "TS_201_1")
    (tmp_path / "broken" / "train" / "static" / RUNS / ".incomplete").touch()
    (tmp_path / "broken" / "public" / ".TS_201_1.x.partial").mkdir()
    make(tmp_path / "broken", "--num_train", "2", "--num_eval", "1")
    (tmp_path / "broken" / "public" / ".TS_201_1.x.partial").rmdir()
    assert contents(tmp_path / "broken") == contents(whole)
    make(tmp_path / "broken", "--num_train", "2", "--num_eval", "1")
    assert len(calls) == 3
    with pytest.raises(InputError, match="made with other flags"):
        make(tmp_path / "broken", "--num_train", "2", "--num_eval", "1", "--noise", "0.5")
