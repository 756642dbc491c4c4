"""Train a 3D U-Net on annotated tomograms, one fold or all of them.

    python train.py --data_root /path/to/czi_dataset --fold 0 --comment first_run
    python train.py --encoder_name resnet34 --patch_size 128 128 128 --epochs 50 --run_specific_folds 0 1 2
    python train.py --experiment_name my_run --fold 0 & python train.py --experiment_name my_run --fold 1
    python train.py --num_folds 5 --validate_every 5 --epochs 100
    python train.py --validation_runs TS_12 TS_31
    python train.py --num_folds 3 --minutes 60
    python train.py --extra_data_root phantoms --extra_share 0.3
    python train.py --resume_from_checkpoint checkpoints/my_run/fold_0-last.ckpt --epochs 100

One fold for each run, sorted by name, which holds it out; --num_folds deals the runs out to fewer. Each fold writes
into checkpoints/{encoder}_{comment}_{time}/ or checkpoints/{experiment_name}/ (folds started one by one are one
experiment then): the best checkpoint by the weighted F4 on the held-out tomograms (mean over three validations), the
best one for every particle, the last one, and metrics and learning curves; args.json and thresholds.json describe the
experiment.
"""

from command_line import run_script

import argparse
import functools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_only
from tqdm import tqdm

from data.files import check_still_there, kept_folder
from data.folds import Fold, deal_runs, hold_out, make_folds
from data.patches import check_patch_fits
from data.training_volume import Labels, VolumeSource, check_same_spacing
from errors import InputError, some_names
from particle_config import PARTICLES
from training.argument_checks import check_arguments
from training.arguments import (
    add_data_arguments,
    add_hardware_arguments,
    add_loss_arguments,
    add_model_arguments,
    add_output_arguments,
    add_process_arguments,
    complete_arguments,
    extra_sources,
    hardware,
    resolved_arguments,
    training_settings,
    volume_source,
    with_sizes,
)
from training.checkpoint_files import newest_state
from training.duration import STEPS, measured_pace
from training.experiment import (
    MADE_WITH,
    automatic_name,
    check_resumable,
    check_same_arguments,
    check_same_runs,
    complete_thresholds,
    experiment_of,
    finished_folds,
    forget_result,
    holding_fold,
    open_experiment,
    result_path,
    saved_schedule,
    share_run_id,
)
from training.initial_weights import check_initial_weights
from training.run import train_fold
from training.settings import Hardware
from versions import typed_command, versions

# What changes no network: which folds, where, and how fast. Of the data and masks the content is compared.
ANYWHERE = (
    *("fold", "run_specific_folds", "resume_from_checkpoint", "experiment_name", "comment", "output_dir", "wandb_mode"),
    *("data_root", "extra_data_root", "mask_dir", "cache_dir", "num_workers", "device", "strategy", "runs", MADE_WITH),
    *("minutes", "max_memory_gb", "disable_cache"),  # the last two of earlier versions
)
# More folds than anybody trains without meaning to.
MANY_FOLDS = 10
# What may differ between a run and its continuation.
MAY_CHANGE = (*ANYWHERE, "epochs", "lr", "devices", "num_nodes")


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
    source, machine = volume_source(args), hardware(args)
    check_initial_weights(training_settings(args))
    labels, extra = read_labels(source), [(one, read_labels(one)) for one in extra_sources(args)]
    everything = [*labels, *(one for _, others in extra for one in others)]
    check_same_spacing(everything)
    args = with_sizes(args, [one.mask.shape for one in everything])
    settings = training_settings(args)
    check_patch_fits(everything, settings.patch_size_zyx)
    check_other_data(labels, extra)
    resumed, runs = args.resume_from_checkpoint, {one.run_name: one.content for one in labels}
    held_out = held_out_runs(args, list(runs))
    resumed_fold = None
    if resumed is not None:
        extra_names = {one.run_name for _, others in extra for one in others}
        resumed_fold = check_resumable(resumed, settings, source.tomo_types[0], runs, held_out, extra_names)
    wanted, all_wanted = chosen_folds(args, len(held_out), resumed_fold), wanted_folds(args) is None
    indices = scored_folds(wanted, held_out, labels, source, all_wanted=all_wanted)
    if machine.devices * machine.num_nodes > 1:
        share_run_id()
    experiment_dir, folds = experiment_folder(args), load_folds(source, labels, held_out, extra)
    if args.minutes is not None:
        args = with_epochs(args, experiment_dir, [folds[index] for index in indices], source, machine)
        settings = training_settings(args)
    for number, (_, others) in enumerate(extra, start=1):
        runs |= {f"extra_{number}/{one.run_name}": one.content for one in others}
    check = functools.partial(check_experiment, experiment_dir, args, runs)
    check()
    for one, its in [(source, labels), *extra]:
        report_data(one, its)
    made_with = {"command": typed_command(__file__, argv), "versions": versions()}
    open_experiment(experiment_dir, {**resolved_arguments(args), "runs": runs}, check, made_with)
    say(f"experiment {experiment_dir}")
    for index in indices:
        with holding_fold(experiment_dir, index), kept_folder(experiment_dir):
            if index == resumed_fold:
                forget_result(experiment_dir, index)
            elif index in finished_folds(experiment_dir):
                say(f"fold {index}: finished before")
                complete_thresholds(experiment_dir, PARTICLES)
                continue
            fold = folds[index]
            names = some_names([volume.run_name for volume in fold.validation])
            others = f" and {len(fold.extra)} of other data" if fold.extra else ""
            say(f"fold {index}: {len(fold.training)} training tomograms{others}, held out {names}")
            for volume in _with_bar(fold.validation, "held-out tomograms"):
                volume.prepare()
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


def experiment_folder(args: argparse.Namespace) -> Path:
    """That of the resumed checkpoint, of the name given, or of a new experiment."""
    if args.resume_from_checkpoint is not None:
        return experiment_of(args.resume_from_checkpoint)
    return args.output_dir / (args.experiment_name or automatic_name(args.encoder_name, args.comment))


def with_epochs(
    args: argparse.Namespace, experiment_dir: Path, folds: Sequence[Fold], source: VolumeSource, machine: Hardware
) -> argparse.Namespace:
    """The arguments with as many epochs as the folds have time for; those of the experiment if it has begun."""
    schedule = saved_schedule(experiment_dir)
    if schedule is None:
        say(f"measuring how long {STEPS} steps and a validation take")
        first, settings = folds[0], training_settings(args)
        common = {"source": source, "particles": PARTICLES, "hardware": machine}
        pace = measured_pace(
            settings,
            first.index,
            lambda short, folder: train_fold(first, settings=short, experiment_dir=folder, **common),
        )
        schedule = pace.schedule(
            60 * args.minutes / len(folds),
            usual_steps=settings.steps_per_epoch,
            steps_per_epoch=args.steps_per_epoch,
            validate_every=args.validate_every,
        )
        words = " ".join(f"--{name} {value}" for name, value in schedule._asdict().items())
        say(f"{pace.step:.2f} s a step, {pace.validation:.1f} s a validation: {words}")
    given = {name: value for name, value in vars(args).items() if value is not None}
    return argparse.Namespace(**{**vars(args), **schedule._asdict(), **given})


def check_experiment(folder: Path, args: argparse.Namespace, runs: Mapping[str, str]) -> None:
    """InputError where the folder holds an experiment of other arguments, or on other runs."""
    arguments, defaults = resolved_arguments(args), build_parser().parse_args([])
    if args.resume_from_checkpoint is not None:
        may_differ, advice = MAY_CHANGE, "resume with the same"
    else:
        other = "--comment" if args.experiment_name is None else "--experiment_name"
        may_differ, advice = ANYWHERE, f"give this run another {other}"
    check_same_arguments(
        *(folder, arguments, may_differ, advice),
        complete=functools.partial(complete_arguments, defaults=defaults),
        constants=arguments.keys() - vars(defaults).keys(),
    )
    check_same_runs(folder, runs, args.data_root)


def wanted_folds(args: argparse.Namespace) -> list[int] | None:
    return args.run_specific_folds if args.fold is None else [args.fold]


def held_out_runs(args: argparse.Namespace, names: Sequence[str]) -> list[tuple[str, ...]]:
    """The names of the runs that each fold holds out."""
    if args.validation_runs is not None:
        return hold_out(names, args.validation_runs)
    if args.num_folds is None and wanted_folds(args) is None and len(names) > MANY_FOLDS:
        say(f"{len(names)} folds, one for each run; --num_folds 5 would train 5, --validation_runs one")
    return deal_runs(names, args.num_folds, args.seed)


def chosen_folds(args: argparse.Namespace, count: int, resumed_fold: int | None) -> list[int]:
    """Indices of the folds to run, the resumed one first."""
    wanted = wanted_folds(args)
    for index in wanted or ():
        if not 0 <= index < count:
            raise InputError(f"fold {index} does not exist: {args.data_root} gives folds 0 to {count - 1}")
    indices = list(dict.fromkeys(range(count) if wanted is None else wanted))
    if resumed_fold is None:
        return indices
    if resumed_fold not in indices:
        raise InputError(f"--resume_from_checkpoint is of fold {resumed_fold}, which is not among those to run")
    return [resumed_fold, *(index for index in indices if index != resumed_fold)]


def scored_folds(
    indices: list[int],
    held_out: Sequence[Collection[str]],
    labels: Sequence[Labels],
    source: VolumeSource,
    *,
    all_wanted: bool,
) -> list[int]:
    """The folds that have points to train on, and hold out a tomogram of the first type with points to be scored by.

    Where all are wanted, those that cannot be scored are left out with a line; where they were named, InputError.
    """
    scored = []
    for index in indices:
        names = held_out[index]
        if not any(one.points > one.outside for one in labels if one.run_name not in names):
            raise InputError(
                f"fold {index}: its training runs have no point inside their tomograms; "
                "check their picks and --voxel_spacing"
            )
        lacking = "points to be scored by"
        with_points = [one for one in labels if one.run_name in names and has_scored_points(one)]
        if with_points:
            if any(source.tomo_types[0] in one.tomograms for one in with_points):
                scored.append(index)
                continue
            lacking = f"{source.tomo_types[0]} tomogram"
        have = "which has" if len(names) == 1 else "which have"
        problem = f"fold {index} holds out {some_names(names)}, {have} no {lacking}"
        if not all_wanted:
            raise InputError(f"{problem}; choose other folds")
        say(f"{problem}: left out")
    if not scored:
        raise InputError("no run has points of a particle that is scored; check the picks")
    return scored


def has_scored_points(labels: Labels) -> bool:
    return any(p.score_weight > 0 and len(labels.centres_zyx_voxels.get(p.label, ())) for p in PARTICLES)


def read_labels(source: VolumeSource) -> list[Labels]:
    """What the picks of all runs say: mistakes in them are found before tomograms are read."""
    return [source.labels(run) for run in _with_bar(source.runs(), "picks")]


def check_other_data(labels: Sequence[Labels], extra: Sequence[tuple[VolumeSource, Sequence[Labels]]]) -> None:
    """InputError where the other data hold a run that a fold is scored on."""
    own = {one.content: one.run_name for one in labels if one.points}
    for source, others in extra:
        if copied := [own[one.content] for one in others if one.content in own]:
            raise InputError(
                f"--extra_data_root {source.data_root} holds {some_names(copied)} of --data_root; folds that hold them "
                "out would train on them: give other data"
            )


def report_data(source: VolumeSource, labels: Sequence[Labels]) -> None:
    """One line for each thing about the data that the user should know of."""
    for lacking, names in grouped(source.left_out()).items():
        say(f"left out, without a {lacking}: {', '.join(names)} (folds count the other {len(labels)} runs)")
    without = {one.run_name: " or ".join(sorted(set(source.tomo_types) - set(one.tomograms))) for one in labels}
    for lacking, names in grouped({name: types for name, types in without.items() if types}).items():
        say(f"patches of other types alone, without a {lacking} tomogram: {', '.join(names)}")
    for reason, names in grouped({one.run_name: one.painted_since for one in labels if one.painted_since}).items():
        say(f"warning: mask painted from the picks, since that in {source.mask_root} {reason}: {', '.join(names)}")
    for one in labels:
        if one.outside:
            say(
                f"{one.run_name}: {one.outside} of {one.points} points lie outside of the tomogram; "
                "are --voxel_spacing and the picks right?"
            )


def grouped(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """Run -> reason, turned round."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return names


def load_folds(
    source: VolumeSource,
    labels: Sequence[Labels],
    held_out: Sequence[Collection[str]] | None = None,
    extra: Sequence[tuple[VolumeSource, Sequence[Labels]]] = (),
) -> list[Fold]:
    """All folds, by default one for each run; their tomograms are read when they are first cut.

    ``extra`` are other data to train on in every fold.
    """
    volumes = [source.load(one.run, one) for one in labels]
    others = [where.load(one.run, one) for where, its in extra for one in its]
    names = [volume.run_name for volume in volumes]
    untyped = [one.run_name for one in labels if source.tomo_types[0] not in one.tomograms]
    return make_folds(volumes, held_out or deal_runs(names, None, seed=0), unfit=untyped, extra=others)


def _with_bar(items: Sequence, text: str) -> tqdm:
    return tqdm(items, desc=text, unit="run", disable=True if rank_zero_only.rank else None)  # None: without a terminal


@rank_zero_only
def report(experiment_dir: Path, indices: list[int]) -> None:
    check_still_there(result_path(experiment_dir, index) for index in indices)
    results = finished_folds(experiment_dir)
    for index in sorted(indices):
        result = results[index]
        print(
            f"fold {index}: weighted F4 {result.f4:.4f} on {some_names(result.validation_runs)}   "
            f"{experiment_dir / result.checkpoint}"
        )


@rank_zero_only
def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    run_script(main)
