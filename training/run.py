"""One fold, from files to checkpoints."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader

from data.folds import Fold
from data.patches import BatchIndexSampler, PatchBatches
from data.training_volume import TrainingVolume, VolumeSource
from inference.checkpoints import Description, read_description
from inference.predictor import InferenceSettings
from losses import build_loss, term_weights
from models import build_model
from particle_config import Particle
from training.callbacks import ExponentialAveraging, TrainingProgress, checkpoint_callbacks
from training.module import Augmentation, DetectionModule, Optimisation, Validation

LIGHTNING_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True)
class TrainingSettings:
    """Everything about a training run but its data.

    ``patch_size_zyx`` is in voxels, ``class_loss_weights`` starts with the background, ``radius_fraction`` is 0 for
    single-voxel targets; the other names are those of the command line.
    """

    encoder_name: str
    norm_type: str
    patch_size_zyx: tuple[int, int, int]
    epochs: int
    steps_per_epoch: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    gradient_clip: float
    use_scheduler: bool
    warmup_steps: int
    use_ema: bool
    ema_decay: float
    loss_type: str
    class_loss_weights: tuple[float, ...]
    background_fraction: float
    augmentation_level: str
    augmentation_mode: str
    mixup_prob: float
    precision: str
    seed: int
    device: str
    inference: InferenceSettings
    nms_radius_fraction: float


@dataclass(frozen=True)
class FoldResult:
    """The best generalist of a fold and its weighted F4 on the held-out run."""

    fold: int
    validation_run: str
    checkpoint: Path
    f4: float
    hyperparameters: dict


class HeldOutTomogram(torch.utils.data.Dataset):
    """The one tomogram that is validated on."""

    def __init__(self, volume: TrainingVolume) -> None:
        self.volume = torch.from_numpy(volume.images[0])

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"volume": self.volume}

    def __len__(self) -> int:
        return 1


def train_fold(
    fold: Fold[TrainingVolume],
    *,
    source: VolumeSource,
    particles: tuple[Particle, ...],
    settings: TrainingSettings,
    experiment_dir: Path,
) -> FoldResult:
    """Train on the fold's runs, validate on the held-out one, write checkpoints and metrics to the experiment."""
    pl.seed_everything(settings.seed, verbose=False)
    module = _build_module(fold, source, particles, settings)
    checkpoints = checkpoint_callbacks(experiment_dir, fold.index, [particle.name for particle in particles])
    _quiet_lightning()
    trainer = pl.Trainer(
        max_epochs=settings.epochs,
        accelerator=settings.device,
        devices=1,
        precision=LIGHTNING_PRECISION[settings.precision],
        gradient_clip_val=settings.gradient_clip,
        logger=CSVLogger(experiment_dir, name="", version=f"fold_{fold.index}"),
        callbacks=[
            *([ExponentialAveraging(settings.ema_decay)] if settings.use_ema else []),
            TrainingProgress(fold.index),
            *checkpoints,
        ],
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=settings.steps_per_epoch,
    )
    held_out = DataLoader(HeldOutTomogram(fold.validation), batch_size=None)
    trainer.fit(module, _training_loader(fold.training, settings), held_out)
    return _result(fold, Path(checkpoints[0].best_model_path))


def _build_module(
    fold: Fold[TrainingVolume], source: VolumeSource, particles: tuple[Particle, ...], settings: TrainingSettings
) -> DetectionModule:
    held_out = fold.validation
    architecture = {
        "encoder_name": settings.encoder_name,
        "norm_type": settings.norm_type,
        "num_classes": len(particles) + 1,
    }
    description = Description(
        architecture=architecture,
        particles=particles,
        patch_size_zyx=settings.patch_size_zyx,
        norm_percentiles=source.norm_percentiles,
        radius_fraction=source.radius_fraction,
        tomo_types=source.tomo_types,
        voxel_spacing_angstrom=held_out.voxel_spacing_angstrom,
        fold=fold.index,
        validation_run=held_out.run_name,
        hyperparameters={},
        f4=0.0,
    )
    truth = {
        particle.name: held_out.centres_zyx_voxels.get(particle.label, np.empty((0, 3)))
        * held_out.voxel_spacing_angstrom
        for particle in particles
    }
    return DetectionModule(
        build_model(**architecture),
        build_loss(settings.loss_type, settings.class_loss_weights),
        term_weights=term_weights(settings.loss_type),
        optimisation=Optimisation(
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            use_scheduler=settings.use_scheduler,
            warmup_steps=settings.warmup_steps,
            total_steps=settings.epochs * settings.steps_per_epoch,
        ),
        augmentation=Augmentation(
            settings.augmentation_level, settings.augmentation_mode, settings.mixup_prob, settings.seed
        ),
        validation=Validation(truth, settings.inference, settings.nms_radius_fraction),
        description=description,
    )


def _training_loader(volumes: Sequence[TrainingVolume], settings: TrainingSettings) -> DataLoader:
    batches = PatchBatches(
        volumes,
        patch_size_zyx=settings.patch_size_zyx,
        batch_size=settings.batch_size,
        background_fraction=settings.background_fraction,
        seed=settings.seed,
    )
    return DataLoader(batches, sampler=BatchIndexSampler(settings.steps_per_epoch), batch_size=None)


def _result(fold: Fold[TrainingVolume], checkpoint: Path) -> FoldResult:
    description = read_description(checkpoint)
    return FoldResult(
        fold.index, description.validation_run, checkpoint, description.f4, dict(description.hyperparameters)
    )


def _quiet_lightning() -> None:
    """Hardware banners and advice on data loader workers say nothing here: batches are cut from memory."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for text in (
        "does not have many workers",
        "exists and is not empty",
        "GPU available but not used",
        "LeafSpec.*is deprecated",
    ):
        warnings.filterwarnings("ignore", message=f".*{text}.*")
