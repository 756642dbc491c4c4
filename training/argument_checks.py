"""What a command line of training must not say."""

import argparse
import math
import os

import torch

from data.normalization import check_percentiles
from errors import InputError
from losses import HYBRID_LOSSES, SMOOTHED_LOSSES
from models import ENCODERS, nearest_patch_size
from particle_config import PARTICLES
from training.arguments import epochs_of, loss_type, validate_every_of
from training.experiment import experiment_of
from training.slurm import check_slurm_tasks, started_by_slurm


def check_arguments(args: argparse.Namespace) -> None:
    """InputError for values that no run could use together, and for flags that contradict each other."""
    epochs = epochs_of(args)
    validate_every = validate_every_of(args)
    if args.minutes is None and epochs % validate_every:
        nearest = math.ceil(epochs / validate_every) * validate_every
        raise InputError(
            f"--epochs {epochs} is not a multiple of --validate_every {validate_every}, and the last epoch "
            f"would not be validated; give --epochs {nearest}"
        )
    _check_experiment_name(args)
    _check_weights(args.class_loss_weights)
    _check_exclusive(args)
    _check_devices(args)
    if args.patch_size is None:  # one that fits is chosen
        return
    patch_size = tuple(args.patch_size)
    nearest = nearest_patch_size(args.encoder_name, patch_size)
    if nearest != patch_size:
        raise InputError(
            f"--patch_size {_words(patch_size)} does not fit {args.encoder_name}; "
            f"the nearest that does: {_words(nearest)}"
        )


def _check_experiment_name(args: argparse.Namespace) -> None:
    name = args.experiment_name
    if name is None:
        return
    if args.comment:
        raise InputError("--comment is part of the name that --experiment_name replaces; give one of them")
    resumed = args.resume_from_checkpoint
    if resumed is not None and experiment_of(resumed).resolve().name != name:
        raise InputError(f"--resume_from_checkpoint {resumed} is not of the experiment {name}; leave out one of them")


def _check_weights(weights: list[float] | None) -> None:
    if weights is None:
        return
    if len(weights) != len(PARTICLES) + 1:
        raise InputError(
            f"--class_loss_weights needs {len(PARTICLES) + 1} values (background first), got {len(weights)}"
        )
    if max(weights[1:]) == 0:
        raise InputError("--class_loss_weights must not all be 0 for the particles")


def _check_exclusive(args: argparse.Namespace) -> None:
    if args.minutes is not None and args.epochs is not None:
        raise InputError("--minutes and --epochs exclude each other: give one of them")
    if args.minutes is not None and args.resume_from_checkpoint is not None:
        raise InputError("--minutes is for a training from its beginning; resume with --epochs, or leave it out")
    if args.minutes is not None and args.devices * args.num_nodes > 1:
        raise InputError("--minutes measures one process; on several devices give --epochs")
    if args.use_swa and args.use_ema:
        raise InputError("--use_swa and --use_ema exclude each other: give one of them")
    if args.dropout and not ENCODERS[args.encoder_name].has_dropout:
        raise InputError(f"--dropout: {args.encoder_name} has none; leave it out, or give --encoder_name deepfinder2")
    if args.label_smoothing and loss_type(args) not in SMOOTHED_LOSSES:
        raise InputError(f"--label_smoothing: {loss_type(args)} has no cross-entropy; leave it out")
    if args.mixup_prob is not None and not args.use_mixup:
        raise InputError("--mixup_prob has no effect without --use_mixup; give both or neither")
    if args.extra_share is not None and not args.extra_data_root:
        raise InputError("--extra_share has no effect without --extra_data_root; give both or neither")
    if args.use_mixup and args.batch_size == 1:
        raise InputError("--use_mixup blends patches of a batch and needs --batch_size 2 or more")
    if args.gradnorm_lr is not None and not args.use_gradnorm:
        raise InputError("--gradnorm_lr has no effect without --use_gradnorm; give both or neither")
    if args.use_gradnorm and loss_type(args) not in HYBRID_LOSSES:
        raise InputError(
            f"--use_gradnorm balances the terms of a hybrid loss, which {loss_type(args)} is not; "
            f"use --loss_type {' or '.join(HYBRID_LOSSES)}"
        )
    if args.disable_global_norm and args.norm_percentiles is not None:
        raise InputError("--norm_percentiles has no effect with --disable_global_norm; give one of them")
    if args.norm_percentiles is not None:
        check_percentiles(*args.norm_percentiles)
    if args.num_folds is not None and args.validation_runs is not None:
        raise InputError("--num_folds and --validation_runs exclude each other: give one of them")
    if args.fold is not None and args.run_specific_folds is not None:
        raise InputError("--fold and --run_specific_folds exclude each other: give one of them")


def _check_devices(args: argparse.Namespace) -> None:
    gpus = torch.cuda.device_count()
    if args.device != "cpu" and 0 < gpus < args.devices:
        raise InputError(f"--devices {args.devices}: this machine has {gpus} GPUs; give as many or fewer")
    if started_by_slurm():
        check_slurm_tasks(os.environ, args.devices, args.num_nodes)


def _words(sides: tuple[int, ...]) -> str:
    return " ".join(str(side) for side in sides)
