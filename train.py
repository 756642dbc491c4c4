"""Train a 3D U-Net on annotated tomograms, one fold or all of them.

    python train.py --data_root /path/to/czi_dataset --fold 0 --comment first_run
    python train.py --encoder_name resnet34 --patch_size 128 128 128 --epochs 50 --run_specific_folds 0 1 2
    python train.py --resume_from_checkpoint checkpoints/my_run/fold_0-last.ckpt --epochs 100

Leave-one-out folds over the runs sorted by name. Each fold writes into checkpoints/{encoder}_{comment}_{time}/:
the best checkpoint by weighted F4 on the held-out tomogram, the best one for every particle, the last one, and
metrics and learning curves; args.json and thresholds.json describe the experiment.
"""

import argparse
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_only
from tqdm import tqdm

from command_line import run_script
from data.folds import Fold, leave_one_out
from data.patches import check_patch_fits
from data.training_volume import VolumeSource, check_same_spacing
from errors import InputError
from particle_config import PARTICLES
from training.argument_checks import check_arguments
from training.arguments import (
    add_data_arguments,
    add_hardware_arguments,
    add_loss_arguments,
    add_model_arguments,
    add_output_arguments,
    add_process_arguments,
    hardware,
    training_settings,
    volume_source,
)
from training.checkpoint_files import newest_state
from training.experiment import (
    check_resumable,
    check_same_arguments,
    experiment_of,
    finished_folds,
    forget_result,
    open_experiment,
    share_run_id,
)
from training.run import train_fold

# What may differ between the tasks of one job array,
FOLD_FLAGS = ("fold", "run_specific_folds")
# and between a run and its continuation: how long, how fast, where.
MAY_CHANGE = (
    *FOLD_FLAGS,
    *("resume_from_checkpoint", "epochs", "lr", "data_root", "mask_dir", "output_dir", "comment", "wandb_mode"),
    *("device", "devices", "num_nodes", "strategy", "num_workers", "cache_dir"),
    *("max_memory_gb", "disable_cache"),  # flags of earlier versions, which changed no weight
)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add_model_arguments(parser)
    add_process_arguments(parser)
    add_hardware_arguments(parser)
    add_loss_arguments(parser)
    add_data_arguments(parser)
    add_output_arguments(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    check_arguments(args)
    source, settings, machine = volume_source(args), training_settings(args), hardware(args)
    runs = [run.name for run in source.runs()]
    resumed = args.resume_from_checkpoint
    resumed_fold = None if resumed is None else check_resumable(resumed, settings, source.tomo_types[0], runs)
    indices = chosen_folds(args, len(runs), resumed_fold)
    folds = load_folds(source)
    check_patch_fits([folds[0].validation, *folds[0].training], settings.patch_size_zyx)
    if machine.devices * machine.num_nodes > 1:
        share_run_id()
    experiment_dir = experiment_of_run(args, resumed_fold)
    say(f"experiment {experiment_dir}")
    for index in indices:
        if index in finished_folds(experiment_dir):
            say(f"fold {index}: finished before")
            continue
        fold = folds[index]
        say(f"fold {index}: {len(fold.training)} training tomograms, held out {fold.validation.run_name}")
        train_fold(
            fold,
            source=source,
            particles=PARTICLES,
            settings=settings,
            hardware=machine,
            experiment_dir=experiment_dir,
            wandb_mode=args.wandb_mode,
            resume_from=resumed if index == resumed_fold else newest_state(experiment_dir, index),
        )
    report(experiment_dir, indices)


def experiment_of_run(args: argparse.Namespace, resumed_fold: int | None) -> Path:
    """The folder of a new experiment, or that of the resumed checkpoint, whose fold then counts as unfinished."""
    if resumed_fold is None:
        return open_experiment(args.output_dir, args.encoder_name, args.comment, vars(args), FOLD_FLAGS)
    folder = experiment_of(args.resume_from_checkpoint)
    check_same_arguments(folder, vars(args), MAY_CHANGE, "resume with the same")
    forget_result(folder, resumed_fold)
    return folder


def chosen_folds(args: argparse.Namespace, count: int, resumed_fold: int | None) -> list[int]:
    """Indices of the folds to run, the resumed one first."""
    wanted = args.run_specific_folds if args.fold is None else [args.fold]
    for index in wanted or ():
        if not 0 <= index < count:
            raise InputError(f"fold {index} does not exist: {args.data_root} gives folds 0 to {count - 1}")
    indices = list(dict.fromkeys(range(count) if wanted is None else wanted))
    if resumed_fold is None:
        return indices
    if resumed_fold not in indices:
        raise InputError(f"--resume_from_checkpoint is of fold {resumed_fold}, which is not among those to run")
    return [resumed_fold, *(index for index in indices if index != resumed_fold)]


def load_folds(source: VolumeSource) -> list[Fold]:
    """All folds, with their tomograms ready to be cut."""
    runs = source.runs()
    silent = True if rank_zero_only.rank else None  # None: without a terminal
    volumes = [source.load(run) for run in tqdm(runs, desc="reading", unit="run", disable=silent)]
    check_same_spacing(volumes)
    return leave_one_out(volumes)


@rank_zero_only
def report(experiment_dir: Path, indices: list[int]) -> None:
    results = finished_folds(experiment_dir)
    for index in sorted(indices):
        result = results[index]
        print(
            f"fold {index}: weighted F4 {result.f4:.4f} on {result.validation_run}   "
            f"{experiment_dir / result.checkpoint}"
        )


@rank_zero_only
def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    run_script(main)
