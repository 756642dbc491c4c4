"""One fold, from files to checkpoints."""

import functools
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException

from data.folds import Fold
from data.training_volume import VolumeSource, appearance_of
from detection.conditions import map_conditions
from errors import MachineError, Terminated, is_out_of_memory
from inference.checkpoints import Description, read_description
from losses import build_loss, term_weights
from losses.gradnorm import GradNorm
from models import build_model
from particle_config import Particle
from training.averaging import AveragedWeights, ema_weight, swa_weight
from training.callbacks import LossGuard, SignalsBetweenSteps, TrainingProgress
from training.checkpoint_files import AtomicCheckpoints, BestCheckpoint, checkpoint_callbacks
from training.experiment import FoldResult, fold_dir, write_result
from training.fold_data import FoldData
from training.initial_weights import take_initial_weights
from training.metrics_table import MetricsTable
from training.module import DetectionModule
from training.settings import Hardware, TrainingSettings
from training.slurm import process_environment

LIGHTNING_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
WANDB_PROJECT = "etfinder"


def train_fold(
    fold: Fold,
    *,
    source: VolumeSource,
    particles: tuple[Particle, ...],
    settings: TrainingSettings,
    hardware: Hardware,
    experiment_dir: Path,
    wandb_mode: str = "disabled",
    resume_from: Path | None = None,
    callbacks: Sequence[pl.Callback] = (),
) -> FoldResult:
    """Train on the fold's runs, validate on those held out, write checkpoints and metrics to the experiment.

    Further ``callbacks`` are called after all others.

    A checkpoint to resume from continues exactly: on a CPU in fp32 the weights are those of the run that was never
    interrupted, bit for bit.
    """
    pl.seed_everything(settings.seed, verbose=False)
    _quiet_lightning()
    folder = fold_dir(experiment_dir, fold.index)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints = checkpoint_callbacks(experiment_dir, fold.index, [particle.name for particle in particles])
    metrics, signals = MetricsTable(folder), SignalsBetweenSteps()
    module = _build_module(fold, source, particles, settings)
    data = FoldData(fold, settings, num_workers=hardware.num_workers, pin_memory=hardware.device == "cuda")
    with _wandb_logger(wandb_mode, experiment_dir, fold.index, settings) as logger:
        trainer = pl.Trainer(
            max_epochs=settings.epochs,
            check_val_every_n_epoch=settings.validate_every,
            accelerator=hardware.device,
            devices=hardware.devices,
            num_nodes=hardware.num_nodes,
            strategy=hardware.strategy,
            precision=LIGHTNING_PRECISION[settings.precision],
            gradient_clip_val=settings.gradient_clip,
            # Where a job that SLURM requeues finds what it saved: a folder of its own for every fold.
            default_root_dir=folder,
            logger=logger,
            callbacks=[
                *_averaging(settings),
                TrainingProgress(fold.index),
                metrics,
                LossGuard(fold.index),
                signals,
                *checkpoints,
                *callbacks,
            ],
            plugins=[AtomicCheckpoints(), *process_environment()],
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # FoldData deals the batches out
            # Patches and windows of validation are always of the same size: the fastest kernels are worth a trial.
            benchmark=hardware.device == "cuda",
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=settings.steps_per_epoch,
        )
        with (
            _memory_message(fold.index, settings),
            _stop_message(experiment_dir / f"fold_{fold.index}-last.ckpt"),
            signals.hearing_sigterm(),
        ):
            trainer.fit(module, datamodule=data, ckpt_path=resume_from, weights_only=True)
    result = _result(fold, Path(checkpoints[0].best_model_path))
    if trainer.is_global_zero:
        # Not at the end of the training, which a run that was killed between it and its result does not come by again.
        metrics.draw(particles)
        for one in checkpoints:
            if isinstance(one, BestCheckpoint):
                one.remove_others()
        write_result(experiment_dir, result, particles)
    return result


@contextmanager
def _memory_message(fold: int, settings: TrainingSettings) -> Iterator[None]:
    """A run that does not fit into memory is told what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MachineError(
            f"fold {fold}: out of memory; lower --batch_size (now {settings.batch_size}) or "
            f"--patch_size (now {' '.join(map(str, settings.patch_size_zyx))})"
        ) from error


@contextmanager
def _stop_message(last: Path) -> Iterator[None]:
    """A run that is told to stop by Ctrl-C or SIGTERM names its checkpoint."""
    try:
        yield
    except SystemExit as stop:  # what Lightning makes of both
        kind = Terminated if isinstance(stop, SIGTERMException) else KeyboardInterrupt
        names_it = rank_zero_only.rank == 0 and last.is_file()
        raise kind(*[f"stopped; go on with --resume_from_checkpoint {last}"] * names_it) from stop


def _averaging(settings: TrainingSettings) -> list[AveragedWeights]:
    if settings.averaging == "ema":
        return [AveragedWeights(functools.partial(ema_weight, decay=settings.ema_decay))]
    if settings.averaging == "swa":
        return [AveragedWeights(functools.partial(swa_weight, start_step=settings.swa_start_step))]
    return []


def _build_module(
    fold: Fold, source: VolumeSource, particles: tuple[Particle, ...], settings: TrainingSettings
) -> DetectionModule:
    architecture = {
        "encoder_name": settings.encoder_name,
        "norm_type": settings.norm_type,
        "num_classes": len(particles) + 1,
        "output_stride": settings.output_stride,
    }
    description = Description(
        architecture=architecture,
        particles=particles,
        patch_size_zyx=settings.patch_size_zyx,
        norm_percentiles=source.norm_percentiles,
        radius_fraction=source.radius_fraction,
        tomo_types=source.tomo_types,
        voxel_spacing_angstrom=fold.validation[0].voxel_spacing_angstrom,
        fold=fold.index,
        validation_runs=tuple(run.run_name for run in fold.validation),
        training_runs=fold.trained_names,
        hyperparameters={},
        f4=0.0,
        augmentation_mode=settings.augmentation_mode,
        tilt_axis=settings.tilt_axis,
        **appearance_of([*fold.training, *fold.validation], fold.extra),
        calibrated_with=map_conditions(
            settings.inference,
            tomo_type=source.tomo_types[0],
            norm_percentiles=source.norm_percentiles,
            trained_radius_fraction=source.radius_fraction,
        ),
    )
    weights = term_weights(settings.loss_type)
    network = build_model(**architecture, dropout=settings.dropout)
    if settings.init_from_checkpoint is not None:
        said = take_initial_weights(network, settings.init_from_checkpoint, particles)
        rank_zero_only(print)(f"fold {fold.index}: {said}", flush=True)
    loss = build_loss(settings.loss_type, settings.class_loss_weights, settings.label_smoothing)
    rate = settings.gradnorm_learning_rate
    return DetectionModule(
        network,
        loss,
        settings=settings,
        term_weights=weights,
        held_out=fold.validation,
        description=description,
        gradnorm=None if rate is None else GradNorm(list(weights), weights, learning_rate=rate),
    )


@contextmanager
def _wandb_logger(mode: str, experiment_dir: Path, fold: int, settings: TrainingSettings) -> Iterator[Logger | bool]:
    """One run of Weights & Biases per fold, grouped by experiment; False without, and beside the first process."""
    if mode == "disabled" or rank_zero_only.rank != 0:
        yield False
        return
    import wandb  # takes a second, which every other run is spared
    from pytorch_lightning.loggers import WandbLogger

    with wandb.init(
        project=WANDB_PROJECT,
        name=f"{experiment_dir.name}_fold_{fold}",
        group=experiment_dir.name,
        config=asdict(settings),
        dir=experiment_dir,
        mode=mode,
    ) as run:
        yield WandbLogger(experiment=run)


def _result(fold: Fold, checkpoint: Path) -> FoldResult:
    description = read_description(checkpoint)
    return FoldResult(
        fold.index,
        description.validation_runs,
        checkpoint.name,
        description.f4,
        dict(description.hyperparameters),
        description.calibrated_with,
    )


def _quiet_lightning() -> None:
    """Hardware banners and advice on data loading say nothing here: batches are cut from memory."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for text in (
        "does not have many workers",
        "exists and is not empty",
        "GPU available but not used",
        "overridden `on_after_batch_transfer`",
        "when logging on epoch level in distributed setting",  # the scores are the same in all processes
        "your dataloader is not resumable",  # it is: FoldData keeps count
        "LeafSpec.*is deprecated",
    ):
        warnings.filterwarnings("ignore", message=f".*{text}.*")
