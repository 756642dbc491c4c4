"""Training: what is scored is what is saved, averages follow their formula, checkpoints carry their description."""

import json
import signal
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from data.content_hash import content_hash
from data.folds import make_folds
from data.training_volume import TrainingVolume
from errors import InputError, Terminated
from inference.checkpoints import load_checkpoint
from inference.predictor import Predictor
from inference.settings import InferenceSettings
from losses import LOSSES
from particle_config import PARTICLES
from postprocessing import METHODS
from training.arguments import detection_defaults, validation_grids
from training.averaging import AveragedWeights, ema_weight, swa_weight
from training.checkpoint_files import AtomicCheckpoints
from training.experiment import finished_folds
from training.metrics_table import kept_epoch
from training.module import DetectionModule, batch_seeds, weighted_f4
from training.run import train_fold
from training.schedule import learning_rate_factor
from training.settings import Hardware, TrainingSettings
from training.validation import ValidationResult

CPU = Hardware()


class HandDrawn:
    """Stands in for a data set on disk: two noisy volumes with dark balls."""

    norm_percentiles = (0.5, 99.5)
    radius_fraction = 0.5
    tomo_types = ("denoised",)

    def load(self, name):
        rng = np.random.default_rng(ord(name))
        centres = {4: np.array([[8.0, 8, 8], [10, 24, 20]]), 1: np.array([[6.0, 20, 8]])}
        volume, mask = rng.normal(0.5, 0.05, (16, 32, 32)).astype(np.float32), np.zeros((16, 32, 32), np.uint8)
        for label, points in centres.items():
            for z, y, x in points.astype(int):
                volume[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3] -= 0.1 * label
                mask[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3] = label
        return TrainingVolume(name, (volume,), mask, centres, 30.0)


def settings(**changes):
    values = {
        "encoder_name": "deepfinder2",
        "norm_type": "batch",
        "output_stride": 1,
        "dropout": 0.2,
        "patch_size_zyx": (16, 16, 16),
        "epochs": 2,
        "validate_every": 1,
        "steps_per_epoch": 3,
        "batch_size": 2,
        "learning_rate": 1e-2,
        "weight_decay": 0.0,
        "gradient_clip": 1.0,
        "use_scheduler": True,
        "warmup_steps": 1,
        "averaging": "ema",
        "ema_decay": 0.9,
        "swa_start_fraction": 0.5,
        "swa_rate_fraction": 0.1,
        "loss_type": "ce_tversky",
        "class_loss_weights": (1.0,) * 7,
        "gradnorm_learning_rate": None,
        "background_fraction": 0.1,
        "augmentation_level": "base",
        "augmentation_mode": "anisotropic",
        "tilt_axis": "y",
        "mixup_prob": 0.0,
        "precision": "fp32",
        "seed": 1,
        "inference": InferenceSettings((32, 32, 32), 0.25, "gaussian", 1, "none", "fp32"),
        "validation_grids": validation_grids(),
        "detection_defaults": detection_defaults(),
    }
    return TrainingSettings(**{**values, **changes})


def train(folder, resume_from=None, radius_fraction=0.5, hardware=CPU, wandb_mode="disabled", callbacks=(), **changes):
    source = HandDrawn()
    source.radius_fraction = radius_fraction
    fold = make_folds([source.load("a"), source.load("b")], ["a", "b"])[0]
    return train_fold(
        fold,
        source=source,
        particles=PARTICLES,
        settings=settings(**changes),
        hardware=hardware,
        experiment_dir=folder,
        resume_from=resume_from,
        wandb_mode=wandb_mode,
        callbacks=callbacks,
    )


def weights_of(folder, key="state_dict"):
    return torch.load(folder / "fold_0-last.ckpt", weights_only=True)[key]


def equal_weights(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    return folder, train(folder)


def test_the_promised_files(experiment):
    folder, result = experiment
    names = sorted(path.name for path in folder.glob("*.ckpt"))
    assert result.checkpoint == next(name for name in names if name.startswith("fold_0-best-fscore-epoch="))
    assert f"-f4={result.f4:.3f}.ckpt" in result.checkpoint
    for particle in PARTICLES:
        assert any(name.startswith(f"fold_0-best-{particle.name}-epoch=") for name in names)
    assert "fold_0-last.ckpt" in names
    metrics = pd.read_csv(folder / "fold_0" / "metrics.csv")
    assert {"f4", "f4_ribosome", "train_loss", "train_ce", "train_tversky", "learning_rate"} <= set(metrics.columns)
    assert list(metrics["epoch"]) == [0, 1] and list(metrics["step"]) == [3, 6] and metrics.notna().all(axis=None)
    assert (folder / "fold_0" / "learning_curves.png").is_file()
    assert finished_folds(folder) == {0: result}
    assert json.loads((folder / "thresholds.json").read_text())["fold_0"]["checkpoint"] == result.checkpoint


def test_the_checkpoint_describes_itself(experiment):
    folder, result = experiment
    _, description = load_checkpoint(folder / result.checkpoint)
    assert description.validation_runs == ("a",) and description.fold == 0
    assert description.voxel_spacing_angstrom == 30.0 and description.patch_size_zyx == (16, 16, 16)
    assert description.f4 == result.f4 and description.augmentation_mode == "anisotropic"
    assert set(description.hyperparameters) == set(METHODS)
    for method, found in description.hyperparameters.items():
        assert set(found) == {p.name for p in PARTICLES}
        assert all(set(METHODS[method].keywords) <= set(values) for values in found.values())


def test_saved_weights_are_the_scored_weights(experiment, monkeypatch):
    """The map from the last checkpoint equals the map that validation scored last."""
    folder, _ = experiment
    seen = []
    original = Predictor.__call__

    def spy(self, volume, *rest):
        prediction = original(self, volume, *rest)
        seen.append(prediction.probability.clone())
        return prediction

    monkeypatch.setattr(Predictor, "__call__", spy)
    train(folder / "again")
    network, _ = load_checkpoint(folder / "again" / "fold_0-last.ckpt")
    predictor = Predictor([network], settings().inference, torch.device("cpu"))
    assert torch.equal(original(predictor, HandDrawn().load("a").images[0]).probability, seen[1])


def test_equal_states_make_equal_files(tmp_path):
    """A campaign knows the specialists of one epoch as one network."""
    for name in ("apo-ferritin", "ribosome"):
        AtomicCheckpoints().save_checkpoint({"weight": torch.arange(5.0)}, tmp_path / name)
    assert content_hash(tmp_path / "apo-ferritin") == content_hash(tmp_path / "ribosome")
    assert torch.equal(torch.load(tmp_path / "ribosome", weights_only=True)["weight"], torch.arange(5.0))


def test_the_same_seed_gives_the_same_weights(experiment):
    folder, _ = experiment
    train(folder / "same")
    assert equal_weights(weights_of(folder), weights_of(folder / "same"))
    train(folder / "other", seed=2)
    assert not equal_weights(weights_of(folder), weights_of(folder / "other"))


def test_the_best_checkpoint_holds_the_average_and_little_else(tmp_path):
    result = train(tmp_path, epochs=1)
    best = torch.load(tmp_path / result.checkpoint, weights_only=True)
    assert equal_weights(best["state_dict"], weights_of(tmp_path))
    assert not equal_weights(best["state_dict"], weights_of(tmp_path, "current_model_state"))
    sizes = [(tmp_path / name).stat().st_size for name in (result.checkpoint, "fold_0-last.ckpt")]
    assert sizes[0] < 0.3 * sizes[1]


def test_without_averaging_the_raw_weights_are_saved(tmp_path):
    train(tmp_path, averaging="none", epochs=1)
    assert "current_model_state" not in torch.load(tmp_path / "fold_0-last.ckpt", weights_only=True)


SCRIPTED_F4 = (0.1, 0.9, 0.2, 0.6, 0.7, 0.3)
KEPT = "epoch=3-f4=0.600.ckpt"  # of the means over three epochs .033, .333, .4, .567, .5, .533 the highest


@pytest.fixture
def scripted(monkeypatch):
    """Validation finds what is written down for the epoch, in every particle alike."""

    def answer(self):
        return ValidationResult({p.name: SCRIPTED_F4[self.current_epoch] for p in PARTICLES}, {})

    monkeypatch.setattr(DetectionModule, "_validate", answer)


@pytest.mark.parametrize("stops", [(), (1,), (2,), (4,), (5,), (2, 4)], ids=str)
def test_the_best_checkpoint_is_that_of_the_highest_mean_over_epochs(tmp_path, scripted, stops):
    """Not that of the lucky second epoch, wherever the run was interrupted; names hold the F4 of their epoch."""
    resume_from = None
    for epochs in (*stops, len(SCRIPTED_F4)):
        result = train(tmp_path, epochs=epochs, steps_per_epoch=1, resume_from=resume_from, use_scheduler=False)
        resume_from = tmp_path / "fold_0-last.ckpt"
    assert result.checkpoint == f"fold_0-best-fscore-{KEPT}" and result.f4 == 0.6
    best = sorted(path.name.split("-best-")[1] for path in tmp_path.glob("*best*.ckpt"))
    assert best == sorted(f"{name}-{KEPT}" for name in ("fscore", *(p.name for p in PARTICLES)))
    metrics = pd.read_csv(tmp_path / "fold_0" / "metrics.csv")
    assert metrics["smoothed_f4"].round(3).tolist() == [0.033, 0.333, 0.4, 0.567, 0.5, 0.533]
    assert kept_epoch(metrics) == 3


def test_a_run_killed_between_its_checkpoints_keeps_the_same_best(tmp_path, scripted):
    """The best of epoch 3 has replaced that of epoch 2, but the last state is still that of epoch 2."""
    train(tmp_path, epochs=3, steps_per_epoch=1, use_scheduler=False)
    state = (tmp_path / "fold_0-last.ckpt").read_bytes()
    train(tmp_path, epochs=4, steps_per_epoch=1, use_scheduler=False, resume_from=tmp_path / "fold_0-last.ckpt")
    (tmp_path / "fold_0-last.ckpt").write_bytes(state)
    result = train(
        tmp_path, epochs=6, steps_per_epoch=1, use_scheduler=False, resume_from=tmp_path / "fold_0-last.ckpt"
    )
    assert result.checkpoint == f"fold_0-best-fscore-{KEPT}"
    assert len(list(tmp_path.glob("fold_0-best-fscore-*"))) == 1


class Interrupted(Exception):
    pass


def stop_after(monkeypatch, step, where="training_step"):
    """The run breaks off when the module is asked for more."""
    original = getattr(DetectionModule, where)

    def stopping(self, *arguments):
        if self.global_step == step:
            raise Interrupted
        return original(self, *arguments)

    monkeypatch.setattr(DetectionModule, where, stopping)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"averaging": "swa"},
        {"averaging": "none", "augmentation_level": "advanced", "mixup_prob": 0.5},
        {"gradnorm_learning_rate": 0.05},
    ],
    ids=["ema", "swa", "advanced", "gradnorm"],
)
@pytest.mark.parametrize(
    ("step", "where"),
    [(4, "training_step"), (3, "training_step"), (3, "validation_step")],
    ids=["mid-epoch", "between-epochs", "validating"],
)
def test_an_interrupted_run_resumes_exactly(tmp_path, monkeypatch, changes, step, where):
    """CPU, fp32: the same weights as the uninterrupted run bit for bit, averaged and raw, and the same metrics."""
    whole = train(tmp_path / "whole", **changes)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        stop_after(patch, step, where)
        train(tmp_path / "broken", **changes)
    resumed = train(tmp_path / "broken", resume_from=tmp_path / "broken" / "fold_0-last.ckpt", **changes)
    assert resumed == whole
    for key in ["state_dict"] + ["current_model_state"] * (changes.get("averaging") != "none"):
        assert equal_weights(weights_of(tmp_path / "whole", key), weights_of(tmp_path / "broken", key))
    tables = [pd.read_csv(tmp_path / name / "fold_0" / "metrics.csv") for name in ("whole", "broken")]
    kept = ["epoch", "step", "learning_rate", "f4"]
    pd.testing.assert_frame_equal(tables[0][kept], tables[1][kept])


def test_a_checkpoint_taken_during_validation_resumes_exactly(tmp_path, monkeypatch):
    """As SLURM's signal may want it: the weights and their average are swapped just then."""
    original = DetectionModule.validation_step

    def saving(self, *arguments):
        if self.global_step == 3:
            self.trainer.save_checkpoint(tmp_path / "hpc.ckpt")
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(DetectionModule, "validation_step", saving)
        train(tmp_path / "whole")
    (tmp_path / "requeued").mkdir()
    train(tmp_path / "requeued", resume_from=tmp_path / "hpc.ckpt")
    for key in ("state_dict", "current_model_state"):
        assert equal_weights(weights_of(tmp_path / "whole", key), weights_of(tmp_path / "requeued", key))


@pytest.mark.parametrize(
    "changes",
    [
        {"norm_type": "instance"},
        {"norm_type": "mix"},
        {"output_stride": 2},
        {"patch_size_zyx": (16, 16, 24)},
        {"batch_size": 3},
        {"learning_rate": 1e-3},
        {"use_scheduler": False},
        {"weight_decay": 0.5},
        {"gradient_clip": 0.01},
        {"averaging": "swa"},
        {"averaging": "none"},
        {"loss_type": "focal"},
        {"class_loss_weights": (1.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0)},
        {"gradnorm_learning_rate": 0.1},
        {"background_fraction": 1.0},
        {"augmentation_level": "none"},
        {"augmentation_level": "advanced"},
        {"augmentation_mode": "isotropic"},
        {"tilt_axis": "z"},
        {"mixup_prob": 1.0},
        {"precision": "bf16"},
        {"seed": 2},
    ],
    ids=str,
)
def test_every_setting_has_an_effect(experiment, tmp_path, changes):
    """The same seed and data, one setting changed: other weights."""
    folder, _ = experiment
    train(tmp_path, **changes)
    assert not equal_weights(weights_of(folder), weights_of(tmp_path))


def test_a_loss_that_is_no_number_stops_the_run(tmp_path, monkeypatch):
    """The last checkpoint stays that of the epoch before, however long it takes to notice."""
    monkeypatch.setattr("training.callbacks.STEPS_BETWEEN_CHECKS", 4)
    original = DetectionModule.training_step

    def diverging(self, batch, batch_idx):
        loss = original(self, batch, batch_idx)
        return loss * torch.nan if self.global_step >= 12 else loss

    monkeypatch.setattr(DetectionModule, "training_step", diverging)
    with pytest.raises(InputError, match="no number any more at step 20"):
        train(tmp_path, epochs=2, steps_per_epoch=12)
    assert all(torch.isfinite(values).all() for values in weights_of(tmp_path).values())
    assert torch.load(tmp_path / "fold_0-last.ckpt", weights_only=True)["global_step"] == 12


def test_a_learning_rate_at_which_weights_become_no_numbers_is_an_error(tmp_path):
    """In fewer steps than the loss is looked at twice; no checkpoint of such weights is left."""
    with pytest.raises(InputError, match="fold 0: the weights are no numbers any more at step 15; lower --lr"):
        train(tmp_path, learning_rate=1e6, epochs=2, steps_per_epoch=15)
    assert not list(tmp_path.glob("*.ckpt")) and finished_folds(tmp_path) == {}


def test_a_loss_far_above_guessing_in_the_end_is_an_error(tmp_path):
    """Guessing costs 2 log 7 + 0.98, four times of which are forgiven."""
    with pytest.raises(InputError, match=r"the loss is \S+, that of guessing 4\.8\d, at step 6"):
        train(tmp_path, learning_rate=30.0)
    assert finished_folds(tmp_path) == {}


def test_seeds_differ_by_run_and_batch_in_what_a_cpu_generator_takes_in():
    seeds = [number for seed in range(20) for index in range(100) for number in batch_seeds(seed, index)]
    assert len(set(seeds)) == len(seeds) and max(seeds) < 2**32
    first, second = (torch.rand(3, generator=torch.Generator().manual_seed(batch_seeds(s, 7)[0])) for s in (0, 1))
    assert not torch.equal(first, second)


STOPS = [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]


@pytest.mark.parametrize(("number", "stop"), STOPS)
def test_a_signal_waits_for_the_end_of_the_step(tmp_path, monkeypatch, number, stop):
    """In the middle of step 4; the run resumes exactly, GradNorm and averages included."""
    changes = {"gradnorm_learning_rate": 0.05}
    train(tmp_path / "whole", **changes)
    original = DetectionModule._balance

    def signalled(self, terms):
        if self.global_step == 4:
            signal.raise_signal(number)
        return original(self, terms)

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch, pytest.raises(stop) as stopped:
        patch.setattr(DetectionModule, "_balance", signalled)
        train(tmp_path / "broken", **changes)
    signal.signal(signal.SIGINT, before)
    last = tmp_path / "broken" / "fold_0-last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 5
    assert stopped.type is stop and str(stopped.value) == f"stopped; go on with --resume_from_checkpoint {last}"
    train(tmp_path / "broken", resume_from=last, **changes)
    for key in ("state_dict", "current_model_state"):
        assert equal_weights(weights_of(tmp_path / "whole", key), weights_of(tmp_path / "broken", key))
    balances = [weights_of(tmp_path / name, "gradnorm") for name in ("whole", "broken")]
    assert all(torch.equal(balances[0][key], balances[1][key]) for key in ("weights", "initial_losses"))
    memories = [balance["optimizer"]["state"][0] for balance in balances]
    assert equal_weights(*memories)


def test_a_finished_run_goes_on_with_more_epochs(tmp_path):
    """The schedule is that of the longer run, and the metrics of all epochs stay."""
    train(tmp_path)
    train(tmp_path, resume_from=tmp_path / "fold_0-last.ckpt", epochs=4, learning_rate=1e-3)
    metrics = pd.read_csv(tmp_path / "fold_0" / "metrics.csv")
    assert list(metrics["epoch"]) == [0, 1, 2, 3] and list(metrics["step"]) == [3, 6, 9, 12]
    factor = learning_rate_factor(9, total_steps=12, warmup_steps=1)
    assert metrics["learning_rate"][2] == pytest.approx(1e-3 * factor)


def test_every_batch_is_drawn_once(tmp_path, monkeypatch):
    """Also by a run that was interrupted: batch 0 to 5, each once."""
    seen, drawn = [], {batch_seeds(1, index)[1]: index for index in range(10)}
    original = DetectionModule.training_step

    def spy(self, batch, batch_idx):
        if self.global_step == 4 and len(seen) == 4:
            raise Interrupted
        seen.append(drawn[batch["seed"]])
        return original(self, batch, batch_idx)

    monkeypatch.setattr(DetectionModule, "training_step", spy)
    with pytest.raises(Interrupted):
        train(tmp_path)
    seen.append("interrupted")
    train(tmp_path, resume_from=tmp_path / "fold_0-last.ckpt")
    assert seen == [0, 1, 2, 3, "interrupted", 4, 5]


def test_gradnorm_moves_the_weights_and_leaves_the_schedule(tmp_path):
    train(tmp_path, gradnorm_learning_rate=0.1)
    metrics = pd.read_csv(tmp_path / "fold_0" / "metrics.csv")
    assert metrics["weight_ce"][1] != 2.0
    np.testing.assert_allclose(metrics["weight_ce"] + metrics["weight_tversky"], 3.0, rtol=1e-5)
    expected = [1e-2 * learning_rate_factor(step, total_steps=6, warmup_steps=1) for step in (3, 6)]
    np.testing.assert_allclose(metrics["learning_rate"], expected, atol=1e-12)


@pytest.mark.parametrize("radius_fraction", [0.0, 0.5])
def test_a_network_with_stride_two_trains_and_finds(tmp_path, radius_fraction):
    result = train(tmp_path, output_stride=2, radius_fraction=radius_fraction, epochs=1)
    network, description = load_checkpoint(tmp_path / result.checkpoint)
    assert network.output_stride == description.architecture["output_stride"] == 2
    predictor = Predictor([network], settings().inference, torch.device("cpu"))
    assert predictor(HandDrawn().load("a").images[0]).probability.shape == (7, 8, 16, 16)


def test_patches_cut_by_other_processes_are_the_same(tmp_path, experiment):
    folder, _ = experiment
    train(tmp_path, hardware=Hardware(num_workers=1))
    assert equal_weights(weights_of(folder), weights_of(tmp_path))


def test_wandb_offline_writes_a_run(tmp_path, monkeypatch):
    """For real: the library writes its files, nothing is sent."""
    monkeypatch.setenv("WANDB_SILENT", "true")
    train(tmp_path, epochs=1, wandb_mode="offline")
    [run] = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    assert run.stat().st_size > 1000


@pytest.mark.parametrize("loss_type", LOSSES)
def test_every_loss_trains_with_mixup(tmp_path, loss_type):
    assert train(tmp_path, loss_type=loss_type, mixup_prob=1.0, epochs=1).f4 >= 0
    assert np.isfinite(pd.read_csv(tmp_path / "fold_0" / "metrics.csv")["train_loss"].dropna()).all()


@pytest.mark.parametrize(
    ("weight_of_step", "expected"),
    [
        (lambda step: ema_weight(step, 0.5), None),
        (lambda step: swa_weight(step, 2), (3 + 4 + 5 + 6) / 4),
    ],
    ids=["ema", "swa"],
)
def test_averages_follow_their_closed_form_buffers_included(weight_of_step, expected):
    """x_k = k after the k-th step; the first is taken as it is, the counter of batch norm copied."""
    averaging = AveragedWeights(weight_of_step)
    model = pl.LightningModule()
    model.weight, model.norm = nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1, affine=False)
    averaging.setup(None, model, "fit")
    recursive, trainer = None, SimpleNamespace(global_step=0)
    for step in range(1, 7):
        with torch.no_grad():
            model.weight.weight.fill_(step)
            model.norm.running_mean.fill_(10.0 * step)
            model.norm.num_batches_tracked.fill_(step)
        trainer.global_step = step
        averaging.on_train_batch_end(trainer, model, None, None, 0)
        averaging.on_train_batch_end(trainer, model, None, None, 0)  # a batch without an optimizer step
        weight = weight_of_step(step - 1)
        recursive = float(step) if recursive is None else (1 - weight) * recursive + weight * step
    average = averaging._average_model.module
    assert float(average.weight.weight.detach()) == pytest.approx(recursive if expected is None else expected)
    assert float(average.norm.running_mean) == pytest.approx(10 * float(average.weight.weight.detach()))
    assert int(average.norm.num_batches_tracked) == 6


def test_the_decay_rises_to_its_limit():
    assert ema_weight(0, 0.999) == pytest.approx(0.9) and ema_weight(10**6, 0.999) == pytest.approx(0.001)


def test_the_learning_rate_over_a_run():
    rates = [learning_rate_factor(step, total_steps=100, warmup_steps=5) for step in range(101)]
    assert rates[0] == 0.05 and rates[5] == 1.0 == max(rates) and rates[100] == pytest.approx(0)
    assert rates[52] > rates[53] and sorted(rates[5:], reverse=True) == rates[5:]
    held = [learning_rate_factor(s, total_steps=100, warmup_steps=5, floor=0.1, floor_from_step=75) for s in range(101)]
    assert held[75:] == pytest.approx([0.1] * 26) and held[74] > 0.1


def test_the_weighted_score_counts_the_particles_that_are_there():
    f4 = {particle.name: 0.5 for particle in PARTICLES} | {"thyroglobulin": 1.0}
    present = [p for p in PARTICLES if p.name in {"thyroglobulin", "ribosome", "beta-amylase"}]
    assert weighted_f4(f4, present) == pytest.approx((2 * 1.0 + 0.5) / 3)
    assert weighted_f4(f4, []) == 0.0


# --- Several held-out tomograms, and epochs without validation -----------------------------------------
def test_only_every_nth_epoch_is_validated(tmp_path, monkeypatch):
    """Its rows and its checkpoints alone: the scores that Lightning remembers in between are of older weights."""
    scores = iter([0.9, 0.9, 0.9, 0.0])
    answer = dict.fromkeys([p.name for p in PARTICLES], 0.0)
    monkeypatch.setattr(
        DetectionModule, "_validate", lambda self: ValidationResult(dict.fromkeys(answer, next(scores)), {})
    )
    result = train(tmp_path, epochs=8, validate_every=2, steps_per_epoch=1)
    metrics = pd.read_csv(tmp_path / "fold_0" / "metrics.csv")
    assert list(metrics["epoch"]) == [1, 3, 5, 7] and list(metrics["step"]) == [2, 4, 6, 8]
    np.testing.assert_allclose(metrics["f4"], [0.9, 0.9, 0.9, 0.0], rtol=1e-6)
    np.testing.assert_allclose(metrics["smoothed_f4"], [0.3, 0.6, 0.9, 0.6], rtol=1e-6)
    assert result.checkpoint == "fold_0-best-fscore-epoch=5-f4=0.900.ckpt" and result.f4 == pytest.approx(0.9)
    assert len(list(tmp_path.glob("fold_0-best-fscore-*.ckpt"))) == 1


def test_several_tomograms_are_held_out(tmp_path):
    """All of them are validated on and named; none is trained on."""
    source = HandDrawn()
    fold = make_folds([source.load(name) for name in "abcd"], [("a", "c")])[0]
    places = {"hardware": CPU, "experiment_dir": tmp_path}
    result = train_fold(fold, source=source, particles=PARTICLES, settings=settings(epochs=1), **places)
    _, description = load_checkpoint(tmp_path / result.checkpoint)
    assert description.validation_runs == result.validation_runs == ("a", "c")
    assert description.training_runs == ("b", "d")
    assert finished_folds(tmp_path) == {0: result}


def test_results_of_a_version_with_one_held_out_run_are_read(experiment, tmp_path):
    folder, result = experiment
    content = json.loads((folder / "fold_0" / "result.json").read_text())
    content["validation_run"] = content.pop("validation_runs")[0]
    (tmp_path / "fold_0").mkdir()
    (tmp_path / "fold_0" / "result.json").write_text(json.dumps(content))
    assert finished_folds(tmp_path) == {0: result}


def test_a_run_killed_after_its_last_checkpoint_is_finished_by_the_next(tmp_path):
    """Its picture is drawn, leftovers of best checkpoints go, and the result is the same."""
    whole = train(tmp_path)
    (tmp_path / "fold_0" / "learning_curves.png").unlink()
    best = tmp_path / whole.checkpoint
    left = best.with_name("fold_0-best-fscore-epoch=0-f4=0.001.ckpt")
    left.write_bytes(best.read_bytes())
    assert train(tmp_path, resume_from=tmp_path / "fold_0-last.ckpt") == whole
    assert (tmp_path / "fold_0" / "learning_curves.png").is_file()
    assert not left.exists() and best.is_file()


def test_a_damaged_table_of_metrics_begins_anew(tmp_path):
    train(tmp_path)
    table = tmp_path / "fold_0" / "metrics.csv"
    table.write_bytes(b"epoch,f4\n\xff,x\n")
    with pytest.warns(UserWarning, match=r"metrics\.csv is damaged; its rows begin anew"):
        train(tmp_path, resume_from=tmp_path / "fold_0-last.ckpt", epochs=3)
    assert list(pd.read_csv(table)["epoch"]) == [2]


class Signalled(pl.Callback):
    """Raises a signal in one of the last hooks of a training."""

    def __init__(self, number, hook):
        self.number = number
        setattr(self, hook, self.signal_in_the_end)

    def signal_in_the_end(self, trainer, *_):
        if trainer.current_epoch >= trainer.max_epochs - 1:
            signal.raise_signal(self.number)


@pytest.mark.parametrize(("number", "stop"), STOPS)
@pytest.mark.parametrize(
    "hook",
    ["on_train_batch_end", "on_validation_start", "on_validation_batch_end", "on_train_epoch_end", "on_train_end"],
)
def test_a_signal_in_the_last_epoch_is_heard(tmp_path, number, stop, hook):
    """The fold has no result, and the next one does not begin; the same run goes on to the result."""
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(stop) as stopped:
        train(tmp_path, callbacks=[Signalled(number, hook)])
    assert stopped.type is stop and finished_folds(tmp_path) == {}
    signal.signal(signal.SIGINT, before[0])
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before
    train(tmp_path, resume_from=tmp_path / "fold_0-last.ckpt")
    assert list(finished_folds(tmp_path)) == [0]


@pytest.mark.parametrize("hook", ["setup", "on_fit_start", "on_train_start"])
def test_sigterm_before_the_first_step_is_heard(tmp_path, hook):
    class Early(Signalled):
        def signal_in_the_end(self, *_, **__):
            signal.raise_signal(self.number)

    with pytest.raises(Terminated):
        train(tmp_path, callbacks=[Early(signal.SIGTERM, hook)])
    assert torch.load(tmp_path / "fold_0-last.ckpt", weights_only=True)["global_step"] <= 1
