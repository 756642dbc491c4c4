"""Train a 3D U-Net on annotated tomograms, one fold or all of them.

    python train.py --data_root /path/to/czi_dataset --fold 0 --comment first_run
    python train.py --data_root /path/to/czi_dataset --epochs 50 --batch_size 8 --patch_size 128 128 128

Leave-one-out folds over the runs sorted by name. Each fold writes into checkpoints/{encoder}_{comment}_{time}/:
the best checkpoint by weighted F4 on the held-out tomogram, the best one for every particle, the last one, and
the metrics of every epoch; args.json and thresholds.json describe the experiment.
"""

import argparse
from pathlib import Path

from tqdm import tqdm

import config
from data.augmentation import MODES
from data.folds import Fold, leave_one_out
from data.patches import check_patch_fits
from data.training_volume import TrainingVolume, VolumeSource, check_same_spacing
from errors import InputError, run_script
from inference.device import DEVICES, choose_device
from inference.predictor import PRECISIONS, InferenceSettings
from losses import LOSSES
from models import ENCODERS
from models.layers import NORM_TYPES
from particle_config import PARTICLES
from training.experiment import new_experiment, write_thresholds
from training.run import TrainingSettings, train_fold


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    switch = argparse.BooleanOptionalAction

    model = parser.add_argument_group("model and architecture")
    model.add_argument("--encoder_name", choices=ENCODERS, default=config.ENCODER_NAME, help="of the U-Net")
    model.add_argument("--norm_type", choices=NORM_TYPES, default=config.NORM_TYPE, help="normalisation layers")
    model.add_argument(
        "--patch_size", type=int, nargs=3, metavar=("D", "H", "W"), default=config.PATCH_SIZE, help="voxels"
    )

    process = parser.add_argument_group("training process")
    process.add_argument("--epochs", type=int, default=config.EPOCHS, help="validation after each")
    process.add_argument("--steps_per_epoch", type=int, default=config.STEPS_PER_EPOCH, help="batches per epoch")
    process.add_argument("--batch_size", type=int, default=config.BATCH_SIZE, help="patches per batch")
    process.add_argument("--lr", type=float, default=config.LEARNING_RATE, help="initial learning rate (AdamW)")
    process.add_argument("--use_scheduler", action=switch, default=config.USE_SCHEDULER, help="cosine decay")
    process.add_argument("--use_ema", action=switch, default=config.USE_EMA, help="average the weights over steps")
    process.add_argument("--precision", choices=PRECISIONS, default=config.TRAINING_PRECISION, help="of the arithmetic")
    process.add_argument("--seed", type=int, default=config.SEED, help="of everything drawn")
    process.add_argument("--device", choices=DEVICES, default="auto", help="auto: the GPU if there is one")

    loss = parser.add_argument_group("loss function")
    loss.add_argument("--loss_type", choices=LOSSES, default=config.LOSS_TYPE, help="training loss")
    loss.add_argument(
        "--class_loss_weights",
        type=float,
        nargs="+",
        metavar="W",
        help="one per class, background first (default: particle_config.py)",
    )

    data = parser.add_argument_group("data and augmentation")
    data.add_argument("--data_root", type=Path, default=config.CZI_DATA_ROOT, help="training tree")
    data.add_argument("--mask_dir", type=Path, help="output_dir of prepare_mask_czi.py (default: data_root/mask)")
    data.add_argument(
        "--training_tomo_types",
        nargs="+",
        default=config.TRAINING_TOMO_TYPES,
        metavar="TYPE",
        help="one is drawn per patch; validated on the first",
    )
    data.add_argument(
        "--augmentation_level",
        choices=("none", "base"),
        default=config.AUGMENTATION_LEVEL,
        help="base: flips, quarter turns, small affine",
    )
    data.add_argument(
        "--augmentation_mode",
        choices=MODES,
        default=config.AUGMENTATION_MODE,
        help="anisotropic: z is never mixed with x or y",
    )
    data.add_argument("--use_mixup", action=switch, default=config.USE_MIXUP, help="blend patches of a batch")
    data.add_argument(
        "--mixup_prob",
        type=float,
        help=f"of each patch, with --use_mixup (default: {config.MIXUP_PROB:g})",
    )
    data.add_argument(
        "--norm_percentiles",
        type=float,
        nargs=2,
        metavar=("LOWER", "UPPER"),
        default=(config.NORM_LOWER_PERCENTILE, config.NORM_UPPER_PERCENTILE),
        help="clip range in percent of each tomogram's voxels",
    )
    data.add_argument("--radius_fraction", type=float, default=config.RADIUS_FRACTION, help="of the target spheres")
    data.add_argument("--single_pixel_mask", action="store_true", help="targets of one voxel")
    data.add_argument("--voxel_spacing", type=float, metavar="A", help="angstrom; overrides the files'")

    output = parser.add_argument_group("logging and output")
    output.add_argument("--comment", default="", help="part of the experiment's name")
    output.add_argument(
        "--output_dir", type=Path, default=config.OUTPUT_ROOT / "checkpoints", help="of all experiments"
    )
    output.add_argument("--fold", type=int, help="index of the fold to run (default: all)")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    check_arguments(args)
    source = VolumeSource(
        data_root=args.data_root,
        mask_root=args.mask_dir or args.data_root / "mask",
        tomo_types=tuple(args.training_tomo_types),
        radius_fraction=0.0 if args.single_pixel_mask else args.radius_fraction,
        norm_percentiles=tuple(args.norm_percentiles),
        particles=PARTICLES,
        voxel_spacing_angstrom=args.voxel_spacing,
    )
    settings = settings_from(args)
    folds = chosen_folds(source, args.fold)
    check_patch_fits([folds[0].validation, *folds[0].training], settings.patch_size_zyx)
    experiment_dir = new_experiment(args.output_dir, args.encoder_name, args.comment, vars(args))
    print(f"experiment {experiment_dir}")
    results = []
    for fold in folds:
        print(f"fold {fold.index}: {len(fold.training)} training tomograms, held out {fold.validation.run_name}")
        results.append(
            train_fold(
                fold,
                source=source,
                particles=PARTICLES,
                settings=settings,
                experiment_dir=experiment_dir,
            )
        )
        write_thresholds(experiment_dir, results)
    for result in results:
        print(f"fold {result.fold}: weighted F4 {result.f4:.4f} on {result.validation_run}   {result.checkpoint}")


def chosen_folds(source: VolumeSource, index: int | None) -> list[Fold[TrainingVolume]]:
    """The fold of that index, or all of them, with their tomograms in memory."""
    runs = source.runs()
    if index is not None and not 0 <= index < len(leave_one_out(runs)):
        raise InputError(f"--fold {index}: {source.data_root} gives folds 0 to {len(runs) - 1}")
    volumes = [source.load(run) for run in tqdm(runs, desc="reading", unit="run", disable=None)]
    check_same_spacing(volumes)
    folds = leave_one_out(volumes)
    return folds if index is None else [folds[index]]


def check_arguments(args: argparse.Namespace) -> None:
    """InputError for values that no run could use."""
    for name in ("epochs", "steps_per_epoch", "batch_size", "lr"):
        if getattr(args, name) <= 0:
            raise InputError(f"--{name} must be above 0, got {getattr(args, name)}")
    if not args.single_pixel_mask and not 0 < args.radius_fraction <= 1:
        raise InputError(f"--radius_fraction must be above 0 and at most 1, got {args.radius_fraction:g}")
    if args.class_loss_weights is not None and len(args.class_loss_weights) != len(PARTICLES) + 1:
        raise InputError(
            f"--class_loss_weights needs {len(PARTICLES) + 1} values (background first), "
            f"got {len(args.class_loss_weights)}"
        )
    if not 0 <= args.seed < 2**31:
        raise InputError(f"--seed must be from 0 to 2147483647, got {args.seed}")
    if args.mixup_prob is not None and not args.use_mixup:
        raise InputError("--mixup_prob has no effect without --use_mixup; give both or neither")
    if args.mixup_prob is not None and not 0 < args.mixup_prob <= 1:
        raise InputError(f"--mixup_prob must be above 0 and at most 1, got {args.mixup_prob:g}")
    divisor = ENCODERS[args.encoder_name]().divisor
    if any(side <= 0 or side % divisor for side in args.patch_size):
        nearest = " ".join(str(max(divisor, round(side / divisor) * divisor)) for side in args.patch_size)
        raise InputError(f"--patch_size must be multiples of {divisor} for {args.encoder_name}; nearest: {nearest}")


def chosen_mixup_prob(args: argparse.Namespace) -> float:
    """0 without mixup; the flag, else config.py, with it."""
    if not args.use_mixup:
        return 0.0
    return config.MIXUP_PROB if args.mixup_prob is None else args.mixup_prob


def settings_from(args: argparse.Namespace) -> TrainingSettings:
    default_weights = (1.0, *(particle.loss_weight for particle in PARTICLES))
    return TrainingSettings(
        encoder_name=args.encoder_name,
        norm_type=args.norm_type,
        patch_size_zyx=tuple(args.patch_size),
        epochs=args.epochs,
        steps_per_epoch=args.steps_per_epoch,
        batch_size=args.batch_size,
        learning_rate=args.lr,
        weight_decay=config.WEIGHT_DECAY,
        gradient_clip=config.GRADIENT_CLIP,
        use_scheduler=args.use_scheduler,
        warmup_steps=config.WARMUP_STEPS,
        use_ema=args.use_ema,
        ema_decay=config.EMA_DECAY,
        loss_type=args.loss_type,
        class_loss_weights=tuple(args.class_loss_weights or default_weights),
        background_fraction=config.BACKGROUND_FRACTION,
        augmentation_level=args.augmentation_level,
        augmentation_mode=args.augmentation_mode,
        mixup_prob=chosen_mixup_prob(args),
        precision=args.precision,
        seed=args.seed,
        device=choose_device(args.device, args.precision).type,
        inference=InferenceSettings(
            window_zyx=config.INFERENCE_WINDOW,
            overlap=config.SW_OVERLAP,
            blend_mode=config.BLEND_MODE,
            batch_size=config.VALIDATION_SW_BATCH_SIZE,
            tta_group="none",
            precision=args.precision,
        ),
        nms_radius_fraction=config.NMS_RADIUS_FRACTION,
    )


if __name__ == "__main__":
    run_script(main)
