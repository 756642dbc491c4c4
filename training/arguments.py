"""The command line of training: its flags, and the settings that come of them."""

import argparse
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import config
from data.augmentation import LEVELS
from data.content_hash import content_hash
from data.files import path_argument
from data.names import comment_argument, name_argument
from data.number_ranges import (
    BATCH,
    COUNT,
    DROPOUT,
    INDEX,
    LABEL_SMOOTHING,
    LEARNING_RATE,
    PERCENT,
    PROCESSES,
    SEED,
    SHARE,
    SIDE_VOXELS,
    SPHERE_SHARE,
    VOXEL_SIZE,
    NumberRange,
    whole,
)
from data.spatial_transforms import MODES
from data.training_volume import FIRST_RUN, VolumeSource
from detection.arguments import Hyperparameter, hyperparameters_of
from detection.grid import Grid
from inference.device import DEVICES, choose_device, usable_precision
from inference.settings import PRECISIONS, InferenceSettings
from losses import LOSSES, SMOOTHED_LOSSES
from models import ENCODERS, NORM_TYPES, OUTPUT_STRIDES
from particle_config import PARTICLES
from postprocessing import METHODS
from training.default_sizes import fitting_sizes, total_memory_bytes
from training.initial_weights import initial_checkpoint
from training.settings import WANDB_MODES, Hardware, TrainingSettings
from tta.orientations import TILT_AXES

# Lightning's strategies that fit: every process holds the whole network.
STRATEGIES = ("auto", "ddp")
SWITCH = argparse.BooleanOptionalAction
# What TrainingSettings has about the search for thresholds in validation: of no weight in the network.
OF_VALIDATION = ("inference", "validation_grids", "detection_defaults")
# Fields of TrainingSettings that args.json holds under the name of their flag.
FLAG_OF_FIELD = {
    "patch_size_zyx": "patch_size",
    "learning_rate": "lr",
    "gradnorm_learning_rate": "gradnorm_lr",
}


# What was done before there was a flag for it.
BEFORE_THE_FLAG = {"dropout": 0.2, "label_smoothing": 0.1}


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model and architecture")
    group.add_argument("--encoder_name", choices=ENCODERS, default=config.ENCODER_NAME, help="of the U-Net")
    group.add_argument(
        "--norm_type", choices=NORM_TYPES, default=config.NORM_TYPE, help="mix: instance norm early, batch norm deeper"
    )
    group.add_argument(
        "--patch_size",
        type=SIDE_VOXELS,
        nargs=3,
        metavar=("D", "H", "W"),
        help=f"voxels (default: {_sides(config.PATCH_SIZE)}, on a GPU {_sides(config.GPU_PATCH_SIZE)}, less where a "
        "tomogram or the GPU's memory is smaller)",
    )
    group.add_argument(
        "--output_stride",
        type=int,
        choices=OUTPUT_STRIDES,
        default=config.OUTPUT_STRIDE,
        help="2: the probability map has half the resolution, at less cost",
    )
    group.add_argument(
        "--dropout", type=DROPOUT, metavar="P", help=f"of each feature, deepfinder2 alone (default: {config.DROPOUT:g})"
    )


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training process")
    group.add_argument(
        "--resume_from_checkpoint",
        type=path_argument,
        metavar="CKPT",
        help="go on exactly where that fold stopped, in its experiment; then the folds that are not finished",
    )
    group.add_argument(
        "--init_from_checkpoint",
        type=path_argument,
        metavar="CKPT",
        help="begin each fold with the weights of that network, such as one trained on phantoms",
    )
    group.add_argument("--epochs", type=COUNT, help=f"of training (default: {config.EPOCHS})")
    group.add_argument(
        "--minutes",
        type=NumberRange(0.1, 100_000),
        metavar="M",
        help="in place of --epochs: as many steps as fit into so many minutes, for all folds of the call together",
    )
    group.add_argument(
        "--validate_every",
        type=COUNT,
        metavar="N",
        help="validate after every N-th epoch; --epochs must be a multiple of it (default: "
        f"{config.VALIDATE_EVERY}; with --minutes as often as costs no more than a tenth of the steps)",
    )
    group.add_argument(
        "--steps_per_epoch",
        type=COUNT,
        help=f"batches per epoch (default: {config.STEPS_PER_EPOCH}; with --minutes as many as use all of the time)",
    )
    group.add_argument(
        "--batch_size",
        type=BATCH,
        help=f"patches per batch and device (default: {config.BATCH_SIZE}, less where the GPU's memory is smaller)",
    )
    group.add_argument("--lr", type=LEARNING_RATE, default=config.LEARNING_RATE, help="initial learning rate (AdamW)")
    group.add_argument("--use_scheduler", action=SWITCH, default=config.USE_SCHEDULER, help="cosine decay")
    group.add_argument(
        "--use_swa", action=SWITCH, default=config.USE_SWA, help="mean of the late weights, in place of EMA"
    )
    group.add_argument(
        "--use_ema", action=SWITCH, help=f"moving average of the weights (default: {_on(config.USE_EMA)})"
    )
    group.add_argument("--use_gradnorm", action=SWITCH, default=config.USE_GRADNORM, help="balance a hybrid loss")
    group.add_argument(
        "--gradnorm_lr",
        type=LEARNING_RATE,
        help=f"of the balance, with --use_gradnorm (default: {config.GRADNORM_LR:g})",
    )
    group.add_argument("--precision", choices=PRECISIONS, default=config.TRAINING_PRECISION, help="of the arithmetic")
    group.add_argument("--seed", type=SEED, default=config.SEED, help="of everything drawn")


def add_hardware_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("hardware")
    group.add_argument("--device", choices=DEVICES, default="auto", help="auto: the GPU if there is one")
    group.add_argument("--devices", type=PROCESSES, default=1, help="GPUs (or CPU processes) per node")
    group.add_argument("--num_nodes", type=PROCESSES, default=1, help="nodes")
    group.add_argument("--strategy", choices=STRATEGIES, default="auto", help="Lightning's, for several devices")
    group.add_argument(
        "--num_workers", type=whole(0, 1024), help="processes that cut patches (default: 2 for a GPU, none for a CPU)"
    )
    group.add_argument(
        "--cache_dir",
        type=path_argument,
        default=config.CACHE_DIR,
        help="of normalised tomograms, 4 bytes per voxel; what is read of them is shared by all processes",
    )


def add_loss_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("loss function")
    group.add_argument(
        "--loss_type",
        choices=LOSSES,
        help=f"training loss (default: {config.LOSS_TYPE}; {config.SINGLE_VOXEL_LOSS_TYPE} for single voxels)",
    )
    group.add_argument(
        "--class_loss_weights",
        type=NumberRange(0, 1e6),
        nargs="+",
        metavar="W",
        help="one per class, background first (default: those of particle_config.py or ETFINDER_PARTICLES; "
        f"1 and {config.SINGLE_VOXEL_LOSS_WEIGHT:g} for single voxels)",
    )
    group.add_argument(
        "--label_smoothing",
        type=LABEL_SMOOTHING,
        metavar="S",
        help="share of the cross-entropy's target spread evenly over all classes; "
        f"{' and '.join(SMOOTHED_LOSSES)} alone (default: {config.LABEL_SMOOTHING:g})",
    )


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data and augmentation")
    group.add_argument("--data_root", type=path_argument, default=config.CZI_DATA_ROOT, help="training tree")
    group.add_argument(
        "--extra_data_root",
        type=path_argument,
        nargs="+",
        default=[],
        metavar="DIR",
        help="further training trees, such as of phantoms: every fold trains on them, none holds them out",
    )
    group.add_argument(
        "--extra_share",
        type=NumberRange(0.001, 0.999),
        metavar="P",
        help=f"of the patches, cut from --extra_data_root (default: {config.EXTRA_SHARE:g})",
    )
    group.add_argument(
        "--mask_dir",
        type=path_argument,
        help="output_dir of prepare_mask_czi.py; runs without a mask there are left out "
        "(default: data_root/mask, where what is missing or outdated is painted from the picks)",
    )
    group.add_argument(
        "--training_tomo_types",
        type=name_argument,
        nargs="+",
        default=config.TRAINING_TOMO_TYPES,
        metavar="TYPE",
        help="one is drawn per patch; validated on denoised, else on the first",
    )
    group.add_argument(
        "--augmentation_level",
        choices=LEVELS,
        default=config.AUGMENTATION_LEVEL,
        help="base: flips, quarter turns, small affine; advanced: grey values and noise too",
    )
    group.add_argument(
        "--augmentation_mode",
        choices=MODES,
        default=config.AUGMENTATION_MODE,
        help="anisotropic: the beam is never mixed with the other axes; wedge: nor these by quarter turns",
    )
    group.add_argument(
        "--tilt_axis",
        choices=TILT_AXES,
        default=config.TILT_AXIS,
        help="of the tomograms, which augmentation and later views follow; y and x: the beam is z (all that matters "
        "here), z: the beam is y",
    )
    group.add_argument(
        "--filter_prob",
        type=SHARE,
        default=config.FILTER_PROB,
        metavar="P",
        help="of each patch, to be filtered by a smooth random curve: for tomograms of other programs and filters",
    )
    group.add_argument("--use_mixup", action=SWITCH, default=config.USE_MIXUP, help="blend patches of a batch")
    group.add_argument(
        "--mixup_prob",
        type=NumberRange(0.001, 1),
        help=f"of each patch, with --use_mixup (default: {config.MIXUP_PROB:g})",
    )
    group.add_argument(
        "--norm_percentiles",
        type=PERCENT,
        nargs=2,
        metavar=("LOWER", "UPPER"),
        help="clip range in percent of each tomogram's voxels "
        f"(default: {config.NORM_LOWER_PERCENTILE:g} {config.NORM_UPPER_PERCENTILE:g})",
    )
    group.add_argument(
        "--disable_global_norm", action="store_true", help="no clipping; patches are z-scored all the same"
    )
    group.add_argument(
        "--radius_fraction", type=SPHERE_SHARE, default=config.RADIUS_FRACTION, help="of the target spheres"
    )
    group.add_argument(
        "--single_pixel_mask", action="store_true", help="targets of one voxel; overrides --radius_fraction"
    )
    group.add_argument("--voxel_spacing", type=VOXEL_SIZE, metavar="A", help="angstrom; overrides the files'")
    group.add_argument(
        "--rescale",
        type=_rescale_argument,
        nargs="?",
        const=FIRST_RUN,
        metavar="A",
        help="resample tomograms of other voxel sizes to this one, angstrom; without a number to that of the first run "
        "(in y and x)",
    )


def _rescale_argument(word: str) -> str | float:
    return word if word == FIRST_RUN else VOXEL_SIZE(word)


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("logging and output")
    group.add_argument(
        "--comment", type=comment_argument, default="", help="part of the experiment's name, here and in W&B"
    )
    group.add_argument(
        "--experiment_name",
        type=name_argument,
        metavar="NAME",
        help="of the folder, so that folds started one by one are one experiment (default: encoder, comment and time)",
    )
    group.add_argument(
        "--output_dir",
        type=path_argument,
        default=config.OUTPUT_ROOT / "checkpoints",
        help="of all experiments",
    )
    group.add_argument(
        "--num_folds",
        type=whole(2, 1_000_000),
        metavar="K",
        help="deal the runs out to K folds, by their names and the seed (default: one fold for each run)",
    )
    group.add_argument(
        "--validation_runs",
        nargs="+",
        metavar="RUN",
        help="one fold, which holds out these runs and trains on all others",
    )
    group.add_argument("--fold", type=INDEX, help="index of the fold to run (default: all)")
    group.add_argument(
        "--run_specific_folds", type=INDEX, nargs="+", metavar="FOLD", help="indices of the folds to run (default: all)"
    )
    group.add_argument(
        "--wandb_mode", choices=WANDB_MODES, default=config.WANDB_MODE, help="log to Weights & Biases as well"
    )


def volume_source(args: argparse.Namespace) -> VolumeSource:
    percentiles = args.norm_percentiles or (config.NORM_LOWER_PERCENTILE, config.NORM_UPPER_PERCENTILE)
    return VolumeSource(
        data_root=args.data_root,
        mask_root=args.mask_dir or args.data_root / "mask",
        tomo_types=_validated_first(args.training_tomo_types),
        radius_fraction=0.0 if args.single_pixel_mask else args.radius_fraction,
        norm_percentiles=None if args.disable_global_norm else tuple(percentiles),
        masks_given=args.mask_dir is not None,
        particles=PARTICLES,
        voxel_spacing_angstrom=args.voxel_spacing,
        rescale=args.rescale,
        cache_dir=args.cache_dir,
    )


def extra_sources(args: argparse.Namespace) -> list[VolumeSource]:
    """Of the further data; their masks are those of their own folders, or painted."""
    source = volume_source(args)
    rescale = source.rescale_to_angstrom if args.extra_data_root else None
    return [
        replace(source, data_root=root, mask_root=root / "mask", masks_given=False, rescale=rescale)
        for root in dict.fromkeys(args.extra_data_root)
    ]


def _validated_first(tomo_types: list[str]) -> tuple[str, ...]:
    """Validation is on the first type: denoised where it is among them."""
    return tuple(sorted(dict.fromkeys(tomo_types), key=lambda name: name != "denoised"))


def with_sizes(args: argparse.Namespace, shapes_zyx: Collection[Sequence[int]]) -> argparse.Namespace:
    """The arguments with sizes of patches and batches that fit, where none were given.

    Parameters
    ----------
    shapes_zyx : of the tomograms to train on
    """
    patch_size, batch_size = fitting_sizes(
        training_settings(args),
        shapes_zyx,
        memory_bytes=total_memory_bytes(choose_device(args.device)),
        patch_given=args.patch_size is not None,
        batch_given=args.batch_size is not None,
    )
    return argparse.Namespace(**{**vars(args), "patch_size": patch_size, "batch_size": batch_size})


def training_settings(args: argparse.Namespace) -> TrainingSettings:
    """Of sizes that were not given, the defaults of the device."""
    device = choose_device(args.device)
    precision, initial = usable_precision(args.precision, device), args.init_from_checkpoint
    usual = config.GPU_PATCH_SIZE if device.type == "cuda" else config.PATCH_SIZE
    patch_size = tuple(_given_or(args.patch_size, usual))
    return TrainingSettings(
        init_from_checkpoint=None if initial is None else initial_checkpoint(Path(initial)),
        encoder_name=args.encoder_name,
        norm_type=args.norm_type,
        output_stride=args.output_stride,
        dropout=_given_or(args.dropout, config.DROPOUT) if ENCODERS[args.encoder_name].has_dropout else 0.0,
        patch_size_zyx=patch_size,
        epochs=epochs_of(args),
        validate_every=validate_every_of(args),
        steps_per_epoch=_given_or(args.steps_per_epoch, config.STEPS_PER_EPOCH),
        batch_size=_given_or(args.batch_size, config.BATCH_SIZE),
        learning_rate=args.lr,
        weight_decay=config.WEIGHT_DECAY,
        gradient_clip=config.GRADIENT_CLIP,
        use_scheduler=args.use_scheduler,
        warmup_steps=config.WARMUP_STEPS,
        averaging=_averaging(args),
        ema_decay=config.EMA_DECAY,
        swa_start_fraction=config.SWA_START_FRACTION,
        swa_rate_fraction=config.SWA_RATE_FRACTION,
        loss_type=loss_type(args),
        class_loss_weights=_class_loss_weights(args),
        label_smoothing=_given_or(args.label_smoothing, config.LABEL_SMOOTHING)
        if loss_type(args) in SMOOTHED_LOSSES
        else 0.0,
        gradnorm_learning_rate=_given_or(args.gradnorm_lr, config.GRADNORM_LR) if args.use_gradnorm else None,
        background_fraction=config.BACKGROUND_FRACTION,
        augmentation_level=args.augmentation_level,
        augmentation_mode=args.augmentation_mode,
        tilt_axis=args.tilt_axis,
        filter_prob=args.filter_prob,
        extra_share=_given_or(args.extra_share, config.EXTRA_SHARE) if args.extra_data_root else 0.0,
        mixup_prob=_given_or(args.mixup_prob, config.MIXUP_PROB) if args.use_mixup else 0.0,
        precision=precision,
        seed=args.seed,
        inference=InferenceSettings(
            # The output of networks with instance norm depends on the size of the window.
            window=config.VALIDATION_WINDOW if args.norm_type == "batch" else patch_size,
            overlap=config.SW_OVERLAP,
            blend_mode=config.BLEND_MODE,
            batch_size=config.VALIDATION_SW_BATCH_SIZE,
            tta_group="none",
            precision=precision,
        ),
        validation_grids=validation_grids(),
        detection_defaults=detection_defaults(),
    )


def validation_grids() -> tuple[Grid, ...]:
    """Of each method: thresholds as in a search, which cost nothing; few values of what a map is searched again for."""
    few = {"conf_threshold": config.VALIDATION_CONF_THRESHOLDS}

    def values(row: Hyperparameter, method: str) -> tuple[float, ...]:
        if row.keyword == METHODS[method].threshold_keyword:
            return row.grid_for(method)
        return few.get(row.keyword, (row.default_for(method),))

    return tuple(
        Grid(method, {row.keyword: values(row, method) for row in hyperparameters_of(method)}) for method in METHODS
    )


def detection_defaults() -> dict[str, dict[str, float]]:
    """Method -> keyword -> value."""
    return {method: {row.keyword: row.default_for(method) for row in hyperparameters_of(method)} for method in METHODS}


def resolved_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """For args.json: every flag with the value in effect, and what config.py and the particle table add."""
    source, settings = volume_source(args), training_settings(args)
    values = {
        field.name: getattr(settings, field.name) for field in fields(settings) if field.name not in OF_VALIDATION
    }
    return {
        **vars(args),
        **{FLAG_OF_FIELD.get(name, name): value for name, value in values.items()},
        **{f"validation_{name}": getattr(settings.inference, name) for name in ("window", "overlap", "blend_mode")},
        "use_ema": settings.averaging == "ema",
        "init_from_checkpoint": _with_content(settings.init_from_checkpoint),
        "data_root": source.data_root.resolve(),
        "extra_data_root": [Path(root).resolve() for root in args.extra_data_root],
        "mask_dir": args.mask_dir and args.mask_dir.resolve(),
        "training_tomo_types": source.tomo_types,
        "radius_fraction": source.radius_fraction,
        "norm_percentiles": source.norm_percentiles,
        "rescale": source.rescale_to_angstrom,
        "validation_runs": args.validation_runs and sorted(set(args.validation_runs)),
        "particles": [[p.name, p.label, p.radius_angstrom, p.score_weight] for p in PARTICLES],
    }


def complete_arguments(saved: Mapping[str, Any], defaults: argparse.Namespace) -> dict[str, Any]:
    """What args.json says, as resolved_arguments would now.

    Earlier versions kept the flags as they were given: the others count as the defaults of today, or as what was done
    before there was a flag.
    """
    flags = {name: saved.get(name, BEFORE_THE_FLAG.get(name, default)) for name, default in vars(defaults).items()}
    flags |= {"data_root": Path(flags["data_root"]), "mask_dir": None, "init_from_checkpoint": None}
    resolved = resolved_arguments(argparse.Namespace(**flags))
    initial = {"init_from_checkpoint": saved.get("init_from_checkpoint")}
    return {**resolved, **initial, **{name: value for name, value in saved.items() if name not in flags}}


def _with_content(checkpoint: Path | None) -> str | None:
    """A file of the same name may hold other weights by the next fold."""
    return None if checkpoint is None else f"{checkpoint} (content {content_hash(checkpoint)[:8]})"


def epochs_of(args: argparse.Namespace) -> int:
    return _given_or(args.epochs, config.EPOCHS)


def validate_every_of(args: argparse.Namespace) -> int:
    return _given_or(args.validate_every, config.VALIDATE_EVERY)


def loss_type(args: argparse.Namespace) -> str:
    return args.loss_type or (config.SINGLE_VOXEL_LOSS_TYPE if args.single_pixel_mask else config.LOSS_TYPE)


def hardware(args: argparse.Namespace) -> Hardware:
    device = choose_device(args.device, args.precision).type
    return Hardware(
        device=device,
        devices=args.devices,
        num_nodes=args.num_nodes,
        strategy=args.strategy,
        num_workers=_given_or(args.num_workers, config.NUM_WORKERS if device == "cuda" else 0),
    )


def _averaging(args: argparse.Namespace) -> str:
    if args.use_swa:
        return "swa"
    return "ema" if _given_or(args.use_ema, config.USE_EMA) else "none"


def _class_loss_weights(args: argparse.Namespace) -> tuple[float, ...]:
    if args.class_loss_weights is not None:
        return tuple(args.class_loss_weights)
    if args.single_pixel_mask:
        return (1.0, *(config.SINGLE_VOXEL_LOSS_WEIGHT for _ in PARTICLES))
    return (1.0, *(particle.loss_weight for particle in PARTICLES))


def _given_or(value, default):
    return default if value is None else value


def _sides(sides: Sequence[int]) -> str:
    return " ".join(map(str, sides))


def _on(value: bool) -> str:
    return "on" if value else "off"
