"""What one part of training hands to the next, from files to the chosen checkpoint; no side is equal to another."""

import itertools

import drawn_data
import numpy as np
import pytest
import torch
from drawn_data import SHAPE, settings
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import nn

import config
import eval_public_czi
import train as train_script
from data import spatial_transforms
from data.folds import make_folds
from data.masks import pool_labels
from data.patches import PatchBatches
from data.training_volume import TrainingVolume
from evaluation.arguments import tomogram_settings
from inference.checkpoints import read_description
from inference.predictor import Prediction, Predictor
from inference.tomograms import SourceTomogram
from losses.cross_entropy import CrossEntropy
from losses.gradnorm import GradNorm
from particle_config import PARTICLES
from training.arguments import training_settings
from training.module import DetectionModule
from training.run import train_fold
from training.settings import Hardware

PATCH = (16, 24, 32)
CLASSES = len(PARTICLES) + 1


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return drawn_data.source_of(drawn_data.write(tmp_path_factory.mktemp("drawn")))


@pytest.fixture(scope="module")
def fold(source):
    volumes = [source.load(run) for run in source.runs()]
    return make_folds(volumes, [(volume.run_name,) for volume in volumes])[0]


@pytest.fixture
def train(source, fold, tmp_path):
    def call(hardware=None, **changes):
        return train_fold(
            fold,
            source=source,
            particles=PARTICLES,
            settings=settings(**changes),
            hardware=hardware or Hardware(),
            experiment_dir=tmp_path,
        )

    return call


@pytest.fixture
def perfect(monkeypatch, fold):
    """Instead of a network the held-out mask answers; the windows that were used."""
    windows = []

    def answer(self, volume, *rest):
        windows.append(self.window_for(volume.shape))
        assert np.array_equal(volume, fold.validation[0].images[0])
        labels = pool_labels(torch.from_numpy(np.array(fold.validation[0].mask))[None], self.output_stride)
        one_hot = nn.functional.one_hot(labels[0].long(), CLASSES).permute(3, 0, 1, 2).float()
        return Prediction(one_hot, None, self.output_stride)

    monkeypatch.setattr(Predictor, "__call__", answer)
    return windows


@pytest.fixture
def steps(monkeypatch):
    """(image, target, whether every module of the network was in training mode) of every training step."""
    seen = []
    original = DetectionModule.training_step

    def spy(self, batch, batch_idx):
        seen.append((batch["image"], batch["target"], all(module.training for module in self.network.modules())))
        return original(self, batch, batch_idx)

    monkeypatch.setattr(DetectionModule, "training_step", spy)
    return seen


# --- From files to patches ----------------------------------------------------------------------------
def test_patches_lie_about_their_particle_along_every_axis():
    """The offset of the particle from the middle of the patch is 0 on average, and within an eighth of each side."""
    centre, patch = np.array([11, 19, 27]), np.array([8, 16, 24])
    mask = np.zeros(SHAPE, np.uint8)
    mask[tuple(centre)] = 1
    volume = TrainingVolume("TS", (np.zeros(SHAPE, np.float32),), mask, {1: centre[None].astype(float)}, 10.0)
    batches = PatchBatches([volume], patch_size_zyx=tuple(patch), batch_size=2000, background_fraction=0.0, seed=0)
    label = batches[0]["label"]
    assert label.shape[1:] == tuple(patch)
    offsets = torch.nonzero(label)[:, 1:].double().numpy() - (patch - 1) / 2
    assert len(offsets) == 2000 and (np.abs(offsets).max(axis=0) == patch / 8 - 0.5).all()
    np.testing.assert_allclose(offsets.mean(axis=0), 0, atol=0.15)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_dropout_reaches_the_network_that_is_trained(train, perfect, monkeypatch, dropout):
    found = set()
    original = DetectionModule.training_step

    def spy(self, batch, batch_idx):
        found.update(module.p for module in self.network.modules() if isinstance(module, torch.nn.Dropout))
        return original(self, batch, batch_idx)

    monkeypatch.setattr(DetectionModule, "training_step", spy)
    train(encoder_name="deepfinder2", steps_per_epoch=1, dropout=dropout)
    assert found == {dropout}


@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
def test_label_smoothing_reaches_the_loss_that_is_trained(train, perfect, monkeypatch, label_smoothing):
    found = set()
    original = CrossEntropy.forward

    def spy(self, logits, target):
        found.add(self.label_smoothing)
        return original(self, logits, target)

    monkeypatch.setattr(CrossEntropy, "forward", spy)
    train(encoder_name="deepfinder2", steps_per_epoch=1, label_smoothing=label_smoothing)
    assert found == {label_smoothing}


# --- From patches to the loss -------------------------------------------------------------------------
def test_image_and_target_stay_together_on_their_way_to_the_network(train, perfect, steps, monkeypatch):
    """Flips and quarter turns move both: the darker the voxel, the higher its label."""
    monkeypatch.setattr(spatial_transforms, "AFFINE_PROBABILITY", 0.0)
    train(output_stride=1, steps_per_epoch=6, augmentation_mode="anisotropic")
    compared = 0
    for images, targets, _ in steps:
        for image, target in zip(images[:, 0], targets, strict=True):
            greys = [image[target == label] for label in sorted(target.unique().tolist(), reverse=True)]
            compared += len(greys) - 1
            assert all(dark.max() < bright.min() for dark, bright in itertools.pairwise(greys))
    assert compared > 10


def test_the_z_score_does_not_undo_the_shift_of_statistics(train, perfect, steps):
    train(augmentation_level="advanced", batch_size=8)
    means = torch.cat([image.mean(dim=(1, 2, 3, 4)) for image, _, _ in steps])
    assert 1 <= int((means.abs() > 0.01).sum()) < len(means) and means.abs().max() < 0.21


def test_the_background_comes_first_among_the_class_weights():
    weights = training_settings(train_script.build_parser().parse_args([])).class_loss_weights
    assert weights[0] == 1 and all(weights[particle.label] == particle.loss_weight for particle in PARTICLES)


# --- The network in training --------------------------------------------------------------------------
def test_the_network_is_in_training_mode_at_every_step(train, steps):
    """Also after validation, which is not."""
    train(epochs=2)
    assert len(steps) == 4 and all(training for _, _, training in steps)


class Reducing(SingleDeviceStrategy):
    """Remembers what went from process to process."""

    def __init__(self):
        super().__init__("cpu")
        self.reduced = []

    def reduce(self, tensor, *arguments, **keywords):
        self.reduced.append(tensor.clone())
        return self.reduced[-1]


def test_gradnorm_gets_means_over_the_processes_in_the_order_of_its_terms(train, perfect, monkeypatch):
    strategy, terms_seen, updates = Reducing(), [], []
    norms_of, update = GradNorm.gradient_norms, GradNorm.update

    def spy_norms(self, terms, *rest, **keywords):
        terms_seen.append({name: float(term.detach()) for name, term in terms.items()})
        return norms_of(self, terms, *rest, **keywords)

    def spy_update(self, losses, norms):
        for values in (losses, norms):
            assert any(values is reduced for reduced in strategy.reduced)
        updates.append([terms_seen[-1][name] for name in self.names] == losses.tolist())
        return update(self, losses, norms)

    monkeypatch.setattr(GradNorm, "gradient_norms", spy_norms)
    monkeypatch.setattr(GradNorm, "update", spy_update)
    train(Hardware(strategy=strategy), gradnorm_learning_rate=0.01)
    assert updates == [True, True]


# --- From validation to the checkpoint ----------------------------------------------------------------
@pytest.mark.parametrize("output_stride", [1, 2])
def test_a_perfect_network_scores_1_and_of_equal_checkpoints_the_last_is_kept(train, perfect, output_stride):
    result = train(epochs=2, steps_per_epoch=1, output_stride=output_stride)
    assert result.f4 == 1 and "epoch=1-f4=1.000" in result.checkpoint
    assert perfect == [(16, 24, 32)] * 2


def test_sides_of_the_validation_window_keep_their_order(monkeypatch):
    def window(*words):
        return training_settings(train_script.build_parser().parse_args(words)).inference.window

    monkeypatch.setattr(config, "VALIDATION_WINDOW", (32, 64, 96))
    assert window() == (32, 64, 96)
    assert window("--norm_type", "instance", "--patch_size", "16", "48", "80") == (16, 48, 80)


def test_evaluation_reads_a_tomogram_as_training_did(source, tmp_path):
    """By what the checkpoint says of itself: grey values, voxel size, patch size, radius, type."""
    words = ["--data_root", source.data_root, "--output_dir", tmp_path, "--cache_dir", tmp_path / "cache"]
    words += ["--patch_size", *PATCH, "--norm_percentiles", 2, 90, "--radius_fraction", 0.4]
    words += ["--epochs", 1, "--steps_per_epoch", 1, "--batch_size", 1, "--fold", 0, "--device", "cpu"]
    train_script.main([str(word) for word in words])
    [checkpoint] = tmp_path.glob("*/fold_0-best-fscore-*.ckpt")
    description = read_description(checkpoint)
    assert description.patch_size_zyx == PATCH and description.radius_fraction == 0.4
    words = ["--model_path", str(checkpoint), "--data_root", str(source.data_root)]
    settings = tomogram_settings(eval_public_czi.build_parser().parse_args(words), [description])
    trained = drawn_data.source_of(source.data_root, norm_percentiles=(2.0, 90.0), cache_dir=tmp_path / "other")
    run = trained.runs()[0]
    tomogram, volume = SourceTomogram(run, settings), trained.load(run)
    assert np.array_equal(tomogram.voxels()[1], volume.images[0])
    assert tomogram.voxel_spacing_angstrom == volume.voxel_spacing_angstrom == settings.trained_spacing_angstrom
