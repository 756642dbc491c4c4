"""Which runs, folds and arguments an experiment is of: train.py up to the training itself."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_campaign

import prepare_mask_czi
import train
from data.picks import write_picks
from errors import InputError
from particle_config import PARTICLES
from training.experiment import FoldResult, finished_folds, write_result

ROOT = Path(__file__).parents[1]
RUNS = ("TS_1", "TS_2", "TS_3")


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Three runs of noise; the list of folds that would have been trained, each with its held-out run."""
    for seed, name in enumerate(RUNS):
        tiny_campaign.write_run(tmp_path / "data", name, seed)
    folds = []

    def train_fold(fold, *, experiment_dir, **_):
        names = tuple(volume.run_name for volume in fold.validation)
        folds.append((fold.index, *names))
        write_result(experiment_dir, FoldResult(fold.index, names, "best.ckpt", 0.5, {}), PARTICLES)

    monkeypatch.setattr(train, "train_fold", train_fold)
    monkeypatch.setattr("training.experiment.LOCK_SECONDS", 0)
    return folds


def words(tmp_path, *more, root="data"):
    return [
        *("--data_root", tmp_path / root, "--cache_dir", tmp_path / "cache", "--output_dir", tmp_path / "out"),
        *("--patch_size", 16, 32, 32, "--device", "cpu", *more),
    ]


def start(tmp_path, *more, root="data"):
    train.main([str(word) for word in words(tmp_path, *more, root=root)])


def arguments(tmp_path, name="one"):
    return json.loads((tmp_path / "out" / name / "args.json").read_text())


def picks_dir(tmp_path, run):
    return tmp_path / "data" / "train" / "overlay" / "ExperimentRuns" / run / "Picks"


def write_points(tmp_path, run, points, names=tiny_campaign.NAMES):
    for name in names:
        path = picks_dir(tmp_path, run) / f"{name}.json"
        write_picks(path, particle_name=name, run_name=run, coordinates_zyx_angstrom=np.array(points))


# --- Masks --------------------------------------------------------------------------------------------
def test_a_mask_dir_that_is_not_there_is_refused_before_anything_is_written(tmp_path, trained):
    with pytest.raises(InputError, match=r"--mask_dir \S+/nowhere: segmentations_0.5 does not exist"):
        start(tmp_path, "--mask_dir", tmp_path / "nowhere")
    assert trained == [] and sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_runs_without_a_given_mask_are_named_and_kept_with_the_experiment(tmp_path, trained, capsys):
    prepare_mask_czi.main(["--data_root", str(tmp_path / "data"), "--output_dir", str(tmp_path / "masks")])
    (tmp_path / "masks" / "segmentations_0.5" / "TS_2.npy").unlink()
    start(tmp_path, "--experiment_name", "one", "--mask_dir", tmp_path / "masks", "--fold", 1)
    assert trained == [(1, "TS_3")]
    left_out = f"left out, without a mask in {tmp_path / 'masks' / 'segmentations_0.5'}: TS_2"
    assert f"{left_out} (folds count the other 2 runs)" in capsys.readouterr().out
    assert list(arguments(tmp_path)["runs"]) == ["TS_1", "TS_3"]
    with pytest.raises(InputError, match=r"is not what .*one was trained on: it has a further run TS_2; give the"):
        start(tmp_path, "--experiment_name", "one", "--fold", 0)


def test_own_masks_that_are_missing_or_outdated_are_painted(tmp_path, trained, capsys):
    prepare_mask_czi.main(["--data_root", str(tmp_path / "data")])
    (tmp_path / "data" / "mask" / "segmentations_0.5" / "TS_2.npy").unlink()
    write_points(tmp_path, "TS_3", [[120.0, 160.0, 160.0]])
    start(tmp_path, "--experiment_name", "one")
    assert trained == [(0, "TS_1"), (1, "TS_2"), (2, "TS_3")]
    printed = capsys.readouterr().out
    since = f"warning: mask painted from the picks, since that in {tmp_path / 'data' / 'mask'}"
    assert f"{since} is missing: TS_2" in printed
    assert f"{since} is not that of the picks: TS_3" in printed


# --- Points -------------------------------------------------------------------------------------------
def test_training_without_any_point_is_refused(tmp_path, trained):
    for run in RUNS[1:]:
        write_points(tmp_path, run, np.empty((0, 3)))
    with pytest.raises(InputError, match="fold 0: its training runs have no point inside their tomograms"):
        start(tmp_path, "--fold", 0)
    for run in RUNS[1:]:
        write_points(tmp_path, run, [[9000.0, 100.0, 100.0]])
    with pytest.raises(InputError, match="fold 0: its training runs have no point inside their tomograms"):
        start(tmp_path, "--fold", 0)
    assert trained == [] and not (tmp_path / "out").exists()


def test_a_held_out_run_without_points_is_no_fold(tmp_path, trained, capsys):
    """Points of particles that score nothing count as none."""
    write_points(tmp_path, "TS_2", np.empty((0, 3)), [p.name for p in PARTICLES if p.score_weight > 0])
    start(tmp_path)
    assert trained == [(0, "TS_1"), (2, "TS_3")]
    assert "fold 1 holds out TS_2, which has no points to be scored by: left out" in capsys.readouterr().out
    with pytest.raises(InputError, match="fold 1 holds out TS_2, which has no points to be scored by; choose"):
        start(tmp_path, "--fold", 1)


def test_points_outside_of_the_tomogram_are_counted(tmp_path, trained, capsys):
    write_points(tmp_path, "TS_2", [[100.0, 100.0, 100.0], [100.0, 100.0, 900.0]], ["ribosome"])
    start(tmp_path)
    assert "TS_2: 1 of 12 points lie outside of the tomogram" in capsys.readouterr().out


# --- The same experiment ------------------------------------------------------------------------------
def test_folds_started_one_by_one_are_one_experiment(tmp_path, trained, capsys):
    """On machines with caches of their own and other numbers of processes; what is finished is not done again."""
    start(tmp_path, "--experiment_name", "one", "--fold", 0)
    elsewhere = ["--cache_dir", tmp_path / "elsewhere", "--num_workers", 3, "--strategy", "ddp"]
    start(tmp_path, "--experiment_name", "one", "--fold", 2, *elsewhere)
    assert sorted(finished_folds(tmp_path / "out" / "one")) == [0, 2]
    start(tmp_path, "--experiment_name", "one")
    assert trained == [(0, "TS_1"), (2, "TS_3"), (1, "TS_2")]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["one"]


def test_another_recipe_is_another_experiment(tmp_path, trained, monkeypatch):
    start(tmp_path, "--experiment_name", "one", "--fold", 0)
    again = ["--experiment_name", "one", "--fold", 1]
    with pytest.raises(InputError, match=r"one is of a run with --lr 0.002, not 0.1; .* another --experiment_name"):
        start(tmp_path, *again, "--lr", 0.1)
    with pytest.raises(InputError, match="with --devices 1, not 2"):
        start(tmp_path, *again, "--devices", 2)
    with pytest.raises(InputError, match=r"with --norm_percentiles \[0.5, 99.5\], not \[1.0, 99.0\]"):
        start(tmp_path, *again, "--norm_percentiles", 1, 99)
    start(tmp_path, *again, "--norm_percentiles", 0.5, 99.5)  # what config.py gave
    monkeypatch.setattr("config.WEIGHT_DECAY", 0.5)
    with pytest.raises(InputError, match=r"with weight_decay in config.py or particle_config.py: 0.01, not 0.5"):
        start(tmp_path, *again)
    assert trained == [(0, "TS_1"), (1, "TS_2")]


def test_an_experiment_of_an_earlier_version_goes_on(tmp_path, trained):
    """Its args.json holds the flags as they were given, and nothing about the data."""
    given = [str(word) for word in words(tmp_path, "--single_pixel_mask", "--loss_type", "ce_tversky", "--fold", 0)]
    earlier = vars(train.build_parser().parse_args(given)) | {"max_memory_gb": 4.0}
    del earlier["experiment_name"]
    (tmp_path / "out" / "one").mkdir(parents=True)
    (tmp_path / "out" / "one" / "args.json").write_text(json.dumps(earlier, default=str))
    again = ["--experiment_name", "one", "--single_pixel_mask", "--fold", 1]
    with pytest.raises(InputError, match="with --loss_type ce_tversky, not ce"):
        start(tmp_path, *again)
    start(tmp_path, *again, "--loss_type", "ce_tversky")
    assert trained == [(1, "TS_2")]


def test_the_data_root_is_known_by_its_content(tmp_path, trained, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start(Path(), "--experiment_name", "one", "--fold", 0)
    assert arguments(tmp_path)["data_root"] == str(tmp_path / "data")
    again = ["--experiment_name", "one", "--fold", 1]
    (tmp_path / "data").rename(tmp_path / "moved")
    start(tmp_path, *again, root="moved")
    shutil.copytree(tmp_path / "moved", tmp_path / "data")
    write_points(tmp_path, "TS_2", [[100.0, 100.0, 100.0]], ["ribosome"])
    with pytest.raises(InputError, match="it has other picks, shape or voxel size of run TS_2"):
        start(tmp_path, *again)
    shutil.rmtree(picks_dir(tmp_path, "TS_2").parent)
    shutil.rmtree(tmp_path / "data" / "train" / "static" / "ExperimentRuns" / "TS_2")
    with pytest.raises(InputError, match="it has no run TS_2"):
        start(tmp_path, *again)
    assert trained == [(0, "TS_1"), (1, "TS_2")]


def test_a_checkpoint_goes_on_with_the_runs_that_it_was_trained_on(tmp_path, trained):
    """Also where args.json is of an earlier version: fold 0 held out TS_1 and was trained on TS_2 alone."""
    checkpoint = tmp_path / "out" / "one" / "fold_0-last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    tiny_campaign.write_checkpoint(checkpoint, 0, seed=0)
    with pytest.raises(InputError, match=r"last.ckpt was trained on other runs: TS_3; give the same --data_root"):
        start(tmp_path, "--output_stride", 1, "--resume_from_checkpoint", checkpoint)
    assert trained == []


HOLDER = """
import sys, time
from pathlib import Path
from training.experiment import holding_fold
with holding_fold(Path(sys.argv[1]), 0):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_fold_is_trained_by_one_process_at_a_time(tmp_path, trained):
    """A finished result stays when a second one is refused; one that was killed holds nothing."""
    start(tmp_path, "--experiment_name", "one")
    folder = tmp_path / "out" / "one"
    (folder / "fold_0" / "result.json").unlink()
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "held\n"
            with pytest.raises(InputError, match=r"is training fold 0 of .*one: process \d+ on .*; wait for it"):
                start(tmp_path, "--experiment_name", "one", "--fold", 0)
            start(tmp_path, "--experiment_name", "one", "--fold", 1)  # another fold, finished before
        finally:
            other.kill()
    start(tmp_path, "--experiment_name", "one", "--fold", 0)
    assert trained == [(0, "TS_1"), (1, "TS_2"), (2, "TS_3"), (0, "TS_1")]


def test_a_damaged_result_is_made_again_and_thresholds_completed(tmp_path, trained):
    start(tmp_path, "--experiment_name", "one")
    folder = tmp_path / "out" / "one"
    whole = (folder / "thresholds.json").read_bytes()
    for content in (b"", b"[1]", b"{}", b"[" * 10**5, b"\xff", b'{"fold": "x"}'):
        (folder / "fold_1" / "result.json").write_bytes(content)
        trained.clear()
        with pytest.warns(UserWarning, match=r"fold_1.result\.json is damaged and made again"):
            start(tmp_path, "--experiment_name", "one")
        assert [fold for fold, *_ in trained] == [1]
        assert (folder / "thresholds.json").read_bytes() == whole
    (folder / "thresholds.json").unlink()  # killed before it was written
    start(tmp_path, "--experiment_name", "one")
    assert (folder / "thresholds.json").read_bytes() == whole


@pytest.mark.parametrize("content", [b"", b"[1]", b"[" * 10**5, b"\xff", b'{"runs": [1]}', b'{"data_root": 5}'])
def test_damaged_arguments_are_one_line(tmp_path, trained, content):
    start(tmp_path, "--experiment_name", "one", "--fold", 0)
    (tmp_path / "out" / "one" / "args.json").write_bytes(content)
    with pytest.raises(InputError, match=r"args\.json|is of a run with"):
        start(tmp_path, "--experiment_name", "one", "--fold", 1)
