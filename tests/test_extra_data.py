"""Training on other data beside the user's own, such as phantoms: a share of the patches, and never held out."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny_campaign
from scipy import ndimage

import train
from data.folds import make_folds
from data.patches import PatchBatches
from data.training_volume import TrainingVolume, appearance_of
from errors import InputError
from inference.checkpoints import read_description

SHAPE = (16, 32, 32)
CENTRES = {1: np.array([[8.0, 16, 16]])}


def volume(name, grey_value):
    return TrainingVolume(name, (np.full(SHAPE, grey_value, np.float32),), np.zeros(SHAPE, np.uint8), CENTRES, 10.0)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_that_share_of_the_patches_is_cut_from_them(share):
    sizes = {"patch_size_zyx": (8, 8, 8), "batch_size": 2000, "background_fraction": 0.1, "seed": 0}
    batches = PatchBatches([volume("own", 0.0)], **sizes, extra=[volume("a", 1.0), volume("b", 2.0)], extra_share=share)
    found = batches[0]["image"][:, 0, 0, 0, 0]
    assert (found > 0).double().mean().item() == pytest.approx(share, abs=0.04)
    assert (found == 1).sum().item() == pytest.approx((found == 2).sum().item(), rel=0.4)


def test_every_fold_trains_on_them_and_none_holds_them_out():
    own, others = [volume(name, 0.0) for name in ("TS_1", "TS_2")], [volume("TS_2", 1.0), volume("TS_9", 1.0)]
    folds = make_folds(own, [("TS_1",), ("TS_2",)], extra=others)
    assert all(fold.extra == tuple(others) and len(fold.training) == len(fold.validation) == 1 for fold in folds)
    # The other TS_2 is not the one that the second fold holds out.
    assert [fold.trained_names for fold in folds] == [("TS_2", "TS_9"), ("TS_1", "TS_9")]
    # Nor where it cannot be validated on.
    folds = make_folds(own, [("TS_1",), ("TS_2",)], unfit=["TS_2"], extra=others)
    assert [fold.trained_names for fold in folds] == [("TS_2", "TS_9"), ("TS_1", "TS_9")]


@pytest.fixture
def world(tmp_path):
    for seed, name in enumerate(("TS_1", "TS_2")):
        tiny_campaign.write_run(tmp_path / "own", name, seed)
    for seed, name in enumerate(("TS_2", "TS_9"), start=10):
        tiny_campaign.write_run(tmp_path / "phantoms", name, seed)
    return tmp_path


def words(world, *flags, extra="phantoms"):
    folders = ("--data_root", world / "own", "--output_dir", world / "out", "--cache_dir", world / "cache")
    steps = ("--epochs", 1, "--steps_per_epoch", 1, "--batch_size", 2, "--patch_size", 16, 32, 32)
    machine = ("--device", "cpu", "--precision", "fp32", "--encoder_name", "deepfinder2", "--fold", 0)
    named = ("--experiment_name", "one", "--extra_data_root", world / extra, *flags)
    return list(map(str, (*folders, *steps, *machine, *named)))


def test_their_spectra_are_known_to_the_network():
    rng = np.random.default_rng(0)
    own = [replace(volume("TS_1", 0.0), images=(rng.normal(size=SHAPE).astype(np.float32),))]
    smooth = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1).astype(np.float32)
    alone, both = appearance_of(own), appearance_of(own, [replace(volume("a", 0.0), images=(smooth,))])
    assert alone["spectrum"] == both["spectrum"] == pytest.approx(alone["spectrum_range"][0])
    assert both["spectrum_range"][0][-1] < 0.5 * alone["spectrum_range"][0][-1]


def test_from_the_command_line_to_the_checkpoint(world, capsys):
    train.main(words(world))
    assert "fold 0: 1 training tomograms and 2 of other data, held out TS_1" in capsys.readouterr().out
    description = read_description(next((world / "out" / "one").glob("fold_0-best-fscore-*.ckpt")))
    assert description.training_runs == ("TS_2", "TS_9") and description.validation_runs == ("TS_1",)
    arguments = json.loads((world / "out" / "one" / "args.json").read_text())
    assert set(arguments["runs"]) == {"TS_1", "TS_2", "extra_1/TS_2", "extra_1/TS_9"}
    assert arguments["extra_share"] == 0.5
    # The same experiment, also where the other data are in another place; it goes on with more epochs.
    (world / "phantoms").rename(world / "moved")
    train.main(words(world, extra="moved"))
    assert "finished before" in capsys.readouterr().out
    last = world / "out" / "one" / "fold_0-last.ckpt"
    resumed = ("--resume_from_checkpoint", last, "--epochs", 2)
    train.main([word for word in words(world, *resumed, extra="moved") if word not in ("--experiment_name", "one")])
    assert "weighted F4" in capsys.readouterr().out
    (world / "moved" / "train" / "overlay" / "ExperimentRuns" / "TS_9" / "Picks" / "ribosome.json").unlink()
    with pytest.raises(InputError, match="other picks, shape or voxel size of run extra_1/TS_9"):
        train.main(words(world, extra="moved"))
    with pytest.raises(InputError, match=r"--extra_share 0\.5, not 0\.25"):
        train.main(words(world, "--extra_share", "0.25", extra="moved"))


def test_what_a_fold_holds_out_is_not_trained_on_under_another_path(world):
    with pytest.raises(InputError, match=r"--extra_data_root .* holds TS_1, TS_2 of --data_root"):
        train.main(words(world, extra="own"))
    assert not (world / "out").exists()
