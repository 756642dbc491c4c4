"""Compare trained experiments: search hyperparameters on training data, evaluate on other data, rank, report.

    python run_experiment_evaluation.py --experiments_dir checkpoints --experiment_names first_run second_run \\
        --evaluation_strategy best_single --postprocessing_method watershed --hp_search_strategy per_class --use_tta \\
        --comment comparison
    python run_experiment_evaluation.py --experiment_names first_run --evaluation_strategy best_single kfold_ensemble \\
        --postprocessing_method peak_local_max_gpu meanshift --hp_search_strategy global --use_tta --compare_tta

Every strategy is combined with every method. Interrupted? The same command goes on where it stopped. Probability maps
are kept in --cache_dir: other thresholds, methods and ensembles of the same networks cost next to nothing.

Writes into --output_dir: report.html, comparison_summary.csv (ranked by the official score),
comparison_summary_by_particle.csv, per_tomogram_scores.csv, intermediate_results.csv, run_parameters.json,
timings.jsonl; and for each detector {experiment}/{strategy}-{method}-{views}/{detector}/ with
picks/{run}/{particle}.json, submission.csv and hyperparameters/ (thresholds.json, search_grid.csv, search_curves.png).
"""

import argparse
import json
import shlex
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

import config
from data.content_hash import hash_of
from data.czi import find_runs
from errors import InputError, run_script
from evaluation.arguments import (
    add_postprocessing_arguments,
    add_search_arguments,
    for_method,
    resolve_hyperparameters,
    resolve_internal_downsample,
    search_grid,
)
from evaluation.campaign import Campaign, Study
from evaluation.campaign_folder import CampaignFolder
from evaluation.campaign_report import write_campaign_report, write_tables
from evaluation.campaign_tuning import MethodPlan
from evaluation.comparison import as_text
from evaluation.experiments import STRATEGIES, Experiment, load_experiment
from evaluation.inference_arguments import (
    add_inference_arguments,
    inference_settings,
    resolve_norm_percentiles,
    resolve_tomo_type,
)
from evaluation.map_store import MapStore
from evaluation.network_maps import NetworkMaps
from evaluation.runs import truths_of
from evaluation.tomograms import TomogramSettings
from inference.device import choose_device
from particle_config import PARTICLES

NO_VIEWS = "none"
# Flags that change no result.
WITHOUT_EFFECT = (
    "output_dir",
    "force_rerun",
    "cache_dir",
    "cache_limit_gb",
    "max_memory_gb",
    "compile",
    "sw_batch_size",
)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    group = parser.add_argument_group("campaign")
    group.add_argument(
        "--experiments_dir",
        type=Path,
        default=config.OUTPUT_ROOT / "checkpoints",
        help="output_dir of train.py",
    )
    group.add_argument("--experiment_names", nargs="+", required=True, metavar="NAME", help="folders in it")
    group.add_argument(
        "--evaluation_strategy",
        nargs="+",
        choices=STRATEGIES,
        default=["best_single"],
        help="each fold's generalist; each fold's specialists; the generalists of all folds together",
    )
    group.add_argument(
        "--data_root", type=Path, default=config.CZI_PUBLIC_EVAL_DATA_ROOT, help="to evaluate on, either layout"
    )
    group.add_argument(
        "--training_data_root", type=Path, help="to search hyperparameters on (default: what was trained on)"
    )
    group.add_argument("--tomo_type", help="type of tomogram (default: the one validated on in training)")
    group.add_argument("--voxel_spacing", type=float, metavar="A", help="angstrom; overrides the evaluated files'")
    group.add_argument("--training_radius_fraction", type=float, metavar="F", help="default: from the checkpoints")
    group.add_argument("--compare_tta", action="store_true", help="with --use_tta: evaluate without views as well")
    group.add_argument("--limit_final_eval_tomos", type=int, metavar="N", help="evaluate on the first N tomograms")
    group.add_argument("--comment", default="", help="part of the folder's name")
    group.add_argument("--output_dir", type=Path, help="default: results/campaign_{comment}_{hash of the flags}")
    group.add_argument("--force_rerun", action="store_true", help="do all again, the networks' maps too")
    group.add_argument("--cache_dir", type=Path, default=config.CACHE_DIR, help="of probability maps, in maps/")
    group.add_argument(
        "--cache_limit_gb", type=float, default=config.CACHE_LIMIT_GB, metavar="GB", help="then the oldest maps go"
    )
    add_inference_arguments(parser)
    add_postprocessing_arguments(parser, several_methods=True)
    add_search_arguments(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    check_arguments(args)
    plans = [method_plan(args, method) for method in dict.fromkeys(args.postprocessing_method)]
    searched = any(plan.grid is not None for plan in plans)
    experiments = [load_experiment(args.experiments_dir, name) for name in dict.fromkeys(args.experiment_names)]
    studies = [study_of(experiment, args, searched) for experiment in experiments]
    truths = scored_runs(studies, args)
    for study in studies:  # a mistake in the last does not cost the time of the others
        study.sources(args.data_root, truths)
        study.tuning_tomograms(PARTICLES)
    device = choose_device(args.device, args.precision)
    folder = CampaignFolder(args.output_dir or default_output_dir(args))
    command = shlex.join(["python", Path(__file__).name, *(sys.argv[1:] if argv is None else argv)])
    with folder.opened(parameters(args), command=command):
        print(f"{len(studies)} experiments, {len(truths)} tomograms, results in {folder.root}")
        store = MapStore(args.cache_dir / "maps", args.cache_limit_gb)
        maps = NetworkMaps(store, device, particles=PARTICLES, remake=args.force_rerun)
        campaign = Campaign(folder, maps, data_root=args.data_root, truths=truths, plans=plans, particles=PARTICLES)
        if args.force_rerun:
            folder.forget(campaign.configurations(studies))
        campaign.run(studies)
        results = write_tables(campaign, studies)
        write_campaign_report(campaign, studies, results, comment=args.comment, command=command)
    print(f"\n{as_text(results)}\n")
    print(f"report    {folder.root / 'report.html'}")


def check_arguments(args: argparse.Namespace) -> None:
    for flag, at_least in (("limit_final_eval_tomos", 1), ("cache_limit_gb", 0)):
        value = getattr(args, flag)
        if value is not None and value < at_least:
            raise InputError(f"--{flag} must be {at_least} or more, got {value}")
    if args.training_radius_fraction is not None and not 0 <= args.training_radius_fraction <= 1:
        raise InputError(f"--training_radius_fraction must be from 0 to 1, got {args.training_radius_fraction:g}")


def study_of(experiment: Experiment, args: argparse.Namespace, searched: bool) -> Study:
    """An experiment with what its checkpoints and arguments say, unless the command line says otherwise."""
    trained = experiment.descriptions[0]
    tomograms = TomogramSettings(
        tomo_type=resolve_tomo_type(args, experiment.descriptions),
        norm_percentiles=resolve_norm_percentiles(args, trained.norm_percentiles),
        trained_spacing_angstrom=trained.voxel_spacing_angstrom,
        voxel_spacing_angstrom=args.voxel_spacing,
    )
    inference = inference_settings(args, experiment.descriptions)
    if args.compare_tta and inference.tta_group == NO_VIEWS:
        raise InputError("--compare_tta compares with test-time augmentation; give --use_tta too")
    fraction = args.training_radius_fraction
    return Study(
        experiment=experiment,
        detectors={name: STRATEGIES[name](experiment, PARTICLES) for name in dict.fromkeys(args.evaluation_strategy)},
        views=[inference, replace(inference, tta_group=NO_VIEWS)] if args.compare_tta else [inference],
        tomograms=tomograms,
        training_tomograms=replace(tomograms, voxel_spacing_angstrom=experiment.arguments.get("voxel_spacing")),
        training_root=training_root(experiment, args) if searched else None,
        trained_radius_fraction=trained.radius_fraction if fraction is None else fraction,
    )


def training_root(experiment: Experiment, args: argparse.Namespace) -> Path:
    root = args.training_data_root or Path(experiment.arguments["data_root"])
    if not root.is_dir():
        raise InputError(
            f"{experiment.name} was trained on {root}, which is not there; "
            "name the place of its training data by --training_data_root"
        )
    return root


def method_plan(args: argparse.Namespace, method: str) -> MethodPlan:
    args = for_method(args, method)
    return MethodPlan(
        method,
        given=lambda trained: resolve_hyperparameters(args, PARTICLES, trained),
        internal_downsample=resolve_internal_downsample(args),
        search_strategy=args.hp_search_strategy,
        grid=search_grid(args),
    )


def scored_runs(studies: Sequence[Study], args: argparse.Namespace) -> dict[str, pd.DataFrame]:
    """Run name -> reference points, of the runs to evaluate on."""
    runs = find_runs(args.data_root, tomo_type=studies[0].tomograms.tomo_type)
    truths = {name: truth for name, truth in truths_of(runs, PARTICLES).items() if len(truth)}
    if not truths:
        raise InputError(
            f"no tomogram in {args.data_root} has picks to be scored by; where there are annotations of the portal, "
            "prepare_fullpublic_eval_annotations.py makes them"
        )
    if len(truths) < len(runs):
        warnings.warn(
            f"{len(runs) - len(truths)} of {len(runs)} tomograms have no picks and are left out", stacklevel=2
        )
    chosen = sorted(truths)[: args.limit_final_eval_tomos]
    for study in studies:
        if known := study.experiment.trained_on(chosen):
            warnings.warn(
                f"{study.experiment.name} was trained on {', '.join(known)}: evaluated on the same, it looks better "
                "than it is",
                stacklevel=2,
            )
    return {name: truths[name] for name in chosen}


def parameters(args: argparse.Namespace) -> dict:
    """The flags that the results depend on, as plain values."""
    kept = {name: value for name, value in vars(args).items() if name not in WITHOUT_EFFECT}
    return json.loads(json.dumps(kept, default=str))


def default_output_dir(args: argparse.Namespace) -> Path:
    """The same for the same flags, so that a command given again goes on where it stopped."""
    parts = ["campaign", *([args.comment] if args.comment else []), hash_of(parameters(args))[:8]]
    return config.OUTPUT_ROOT / "results" / "_".join(parts)


if __name__ == "__main__":
    run_script(main)
