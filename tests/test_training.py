"""Training: what is scored is what is saved, averages follow their formula, checkpoints carry their description."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from data.folds import leave_one_out
from data.training_volume import TrainingVolume
from inference.checkpoints import load_checkpoint
from inference.predictor import InferenceSettings, Predictor
from losses import LOSSES
from particle_config import PARTICLES
from training.callbacks import ExponentialAveraging, ema_decay_at
from training.module import weighted_f4
from training.run import TrainingSettings, train_fold


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
        "patch_size_zyx": (16, 16, 16),
        "epochs": 2,
        "steps_per_epoch": 3,
        "batch_size": 2,
        "learning_rate": 1e-2,
        "weight_decay": 0.0,
        "gradient_clip": 1.0,
        "use_scheduler": True,
        "warmup_steps": 1,
        "use_ema": True,
        "ema_decay": 0.9,
        "loss_type": "ce_tversky",
        "class_loss_weights": (1.0,) * 7,
        "background_fraction": 0.1,
        "augmentation_level": "base",
        "augmentation_mode": "anisotropic",
        "mixup_prob": 0.0,
        "precision": "fp32",
        "seed": 1,
        "device": "cpu",
        "inference": InferenceSettings((32, 32, 32), 0.25, "gaussian", 1, "none", "fp32"),
        "nms_radius_fraction": 0.8,
    }
    return TrainingSettings(**{**values, **changes})


def train(folder, **changes):
    source = HandDrawn()
    fold = leave_one_out([source.load("a"), source.load("b")])[0]
    return train_fold(fold, source=source, particles=PARTICLES, settings=settings(**changes), experiment_dir=folder)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    return folder, train(folder)


def test_the_promised_files(experiment):
    folder, result = experiment
    names = sorted(path.name for path in folder.glob("*.ckpt"))
    assert result.checkpoint.name == next(name for name in names if name.startswith("fold_0-best-fscore-epoch="))
    assert f"-f4={result.f4:.3f}.ckpt" in result.checkpoint.name
    for particle in PARTICLES:
        assert any(name.startswith(f"fold_0-best-{particle.name}-epoch=") for name in names)
    assert "fold_0-last.ckpt" in names
    metrics = pd.read_csv(folder / "fold_0" / "metrics.csv")
    assert {"f4", "f4_ribosome", "train_loss", "train_ce", "train_tversky", "epoch"} <= set(metrics.columns)
    assert metrics["f4"].notna().sum() == 2


def test_the_checkpoint_describes_itself(experiment):
    _, result = experiment
    _, description = load_checkpoint(result.checkpoint)
    assert description.validation_run == "a" and description.fold == 0
    assert description.voxel_spacing_angstrom == 30.0 and description.patch_size_zyx == (16, 16, 16)
    assert description.f4 == result.f4
    assert set(description.hyperparameters["peak_local_max_gpu"]) == {p.name for p in PARTICLES}


def test_saved_weights_are_the_scored_weights(experiment, monkeypatch):
    """The map from the last checkpoint equals the map that validation scored last."""
    folder, _ = experiment
    seen = []
    original = Predictor.__call__

    def spy(self, volume, *rest):
        seen.append(original(self, volume, *rest).clone())
        return seen[-1]

    monkeypatch.setattr(Predictor, "__call__", spy)
    train(folder / "again")
    network, _ = load_checkpoint(folder / "again" / "fold_0-last.ckpt")
    predictor = Predictor([network], settings().inference, torch.device("cpu"))
    assert torch.equal(original(predictor, HandDrawn().load("a").images[0]), seen[1])


def test_the_same_seed_gives_the_same_weights(experiment):
    folder, _ = experiment
    first = torch.load(folder / "fold_0-last.ckpt", weights_only=True)["state_dict"]
    train(folder / "same")
    second = torch.load(folder / "same" / "fold_0-last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_without_averaging_the_raw_weights_are_saved(tmp_path):
    train(tmp_path, use_ema=False, epochs=1)
    assert "current_model_state" not in torch.load(tmp_path / "fold_0-last.ckpt", weights_only=True)


@pytest.mark.parametrize("loss_type", LOSSES)
def test_every_loss_trains_with_mixup(tmp_path, loss_type):
    assert train(tmp_path, loss_type=loss_type, mixup_prob=1.0, epochs=1).f4 >= 0
    assert np.isfinite(pd.read_csv(tmp_path / "fold_0" / "metrics.csv")["train_loss"].dropna()).all()


def test_averages_follow_the_closed_form_buffers_included():
    """x_k = k, averaged with the decay of every step; the counter of batch norm is copied."""
    averaging = ExponentialAveraging(decay=0.5)
    model = pl.LightningModule()
    model.weight, model.norm = nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1, affine=False)
    averaging.setup(None, model, "fit")
    expected, trainer = None, SimpleNamespace(global_step=0)
    for step in range(1, 7):
        with torch.no_grad():
            model.weight.weight.fill_(step)
            model.norm.running_mean.fill_(10.0 * step)
            model.norm.num_batches_tracked.fill_(step)
        trainer.global_step = step
        averaging.on_train_batch_end(trainer, model, None, None, 0)
        averaging.on_train_batch_end(trainer, model, None, None, 0)  # a batch without an optimizer step
        decay = ema_decay_at(step - 1, 0.5)
        expected = float(step) if expected is None else decay * expected + (1 - decay) * step
    average = averaging._average_model.module
    assert float(average.weight.weight.detach()) == pytest.approx(expected)
    assert float(average.norm.running_mean) == pytest.approx(10 * expected)
    assert int(average.norm.num_batches_tracked) == 6


def test_decay_rises_to_its_limit():
    assert ema_decay_at(0, 0.999) == 0.1 and ema_decay_at(10**6, 0.999) == 0.999


def test_the_weighted_score_counts_the_particles_that_are_there():
    f4 = {particle.name: 0.5 for particle in PARTICLES} | {"thyroglobulin": 1.0}
    present = [p for p in PARTICLES if p.name in {"thyroglobulin", "ribosome", "beta-amylase"}]
    assert weighted_f4(f4, present) == pytest.approx((2 * 1.0 + 0.5) / 3)
    assert weighted_f4(f4, []) == 0.0
