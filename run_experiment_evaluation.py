"""Compare trained experiments: search hyperparameters on training data, evaluate on other data, rank, report.

    python run_experiment_evaluation.py --experiments_dir checkpoints --experiment_names first_run second_run \\
        --evaluation_strategy best_single --postprocessing_method watershed --hp_search_strategy per_class --use_tta \\
        --comment comparison
    python run_experiment_evaluation.py --experiment_names first_run --evaluation_strategy best_single kfold_ensemble \\
        --postprocessing_method peak_local_max_gpu meanshift --hp_search_strategy global --use_tta --compare_tta

Every strategy is combined with every method. Interrupted? The same command goes on where it stopped. Probability maps
are kept in --cache_dir: other thresholds, methods and ensembles of the same networks cost next to nothing. What fails
(a network that diverged, a tomogram that cannot be read) is named at the end and in failures.csv, and the exit code is
1; the rest is finished. A tomogram that failed everywhere is left out for all configurations; a configuration that
lacks any other is not ranked.

Writes into --output_dir: report.html, comparison_summary.csv (ranked by the official score),
comparison_summary_by_particle.csv, per_tomogram_scores.csv, intermediate_results.csv, run_parameters.json,
timings.jsonl; and for each detector {experiment}/{strategy}-{method}-{views}/{detector}/ with
picks/{run}/{particle}.json, submission.csv and hyperparameters/ (thresholds.json, search_grid.csv, search_curves.png).
"""

from command_line import end_with_failures, run_script

import argparse
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

import config
from cluster.arguments import add_cluster_arguments, check_cluster_arguments, workers_of
from data.content_hash import ContentHashes, hash_of
from data.czi import find_runs
from data.files import path_argument
from data.names import comment_argument, name_argument
from data.number_ranges import COUNT
from errors import InputError
from evaluation.arguments import (
    add_data_arguments,
    add_postprocessing_arguments,
    add_result_arguments,
    add_search_arguments,
    for_method,
    is_untuned,
    map_settings,
    output_dir,
    parameters,
    resolve_hyperparameters,
    resolve_overlaps,
    resolve_radius_fraction,
    search_grid,
    tomogram_settings,
)
from evaluation.campaign.campaign import Campaign, MethodPlan, Study
from evaluation.campaign.comparison import Evaluated, as_text
from evaluation.campaign.experiments import STRATEGIES, Experiment, load_experiment, trained_table
from evaluation.campaign.folder import CampaignFolder
from evaluation.exports import FAILURES_TABLE
from evaluation.ownership import Command, data_hashes
from evaluation.progress import ProgressBars
from evaluation.report.campaign_report import write_campaign_report, write_tables
from evaluation.training_use import cautions, training_use
from evaluation.truth import truths_of
from inference.arguments import add_inference_arguments, check_merge, inference_settings
from inference.checkpoints import table_in_use
from particle_config import GIVEN_PARTICLES, PARTICLES, Particle
from versions import typed_command

NO_VIEWS = "none"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    group = parser.add_argument_group("campaign")
    group.add_argument(
        "--experiments_dir",
        type=path_argument,
        default=config.OUTPUT_ROOT / "checkpoints",
        help="output_dir of train.py",
    )
    group.add_argument(
        "--experiment_names", type=name_argument, nargs="+", required=True, metavar="NAME", help="folders in it"
    )
    group.add_argument(
        "--evaluation_strategy",
        nargs="+",
        choices=STRATEGIES,
        default=["best_single"],
        help="each fold's generalist; each fold's specialists; the generalists of all folds together",
    )
    group.add_argument(
        "--training_data_root", type=path_argument, help="to search hyperparameters on (default: what was trained on)"
    )
    group.add_argument("--compare_tta", action="store_true", help="with --use_tta: evaluate without views as well")
    group.add_argument("--limit_final_eval_tomos", type=COUNT, metavar="N", help="evaluate on the first N tomograms")
    group.add_argument("--comment", type=comment_argument, default="", help="part of the folder's name")
    add_data_arguments(parser.add_argument_group("data"))
    add_result_arguments(parser.add_argument_group("results"), "results/campaign_{comment}_{hash of the flags}")
    add_inference_arguments(parser)
    add_postprocessing_arguments(parser, several_methods=True)
    add_search_arguments(parser)
    add_cluster_arguments(parser.add_argument_group("many machines"), "networks' maps")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    check_cluster_arguments(args)
    names = list(dict.fromkeys(args.experiment_names))
    trained = trained_table(args.experiments_dir, names[0])
    particles = table_in_use(trained, given=GIVEN_PARTICLES, here=PARTICLES)
    plans = [method_plan(args, method, particles) for method in dict.fromkeys(args.postprocessing_method)]
    searched = any(plan.grid is not None for plan in plans)
    experiments = [load_experiment(args.experiments_dir, name, particles) for name in names]
    studies = [study_of(experiment, args, particles, searched=searched) for experiment in experiments]
    check_merge(args, merges=any(study.merges for study in studies))
    truths = scored_runs(studies, args, particles)
    for study in studies:  # a mistake in the last does not cost the time of the others
        study.sources(args.data_root, truths)
        study.training_truths(particles)
    known = training_cautions(studies, truths)
    for caution in known:
        warnings.warn(caution, stacklevel=2)
    settings = map_settings(args, particles)
    folder = CampaignFolder(default_output_dir(args))
    line = typed_command(__file__, argv)
    files = {one.name: one.tomogram.path for study in studies for one in study.sources(args.data_root, truths)}
    networks = networks_of(studies, settings.hashes)
    command = Command(
        line, parameters(args, absolute=True), networks, lambda: data_hashes(files, truths, settings.hashes)
    )
    key = hash_of([command.parameters, command.networks])
    hold = folder.owned(command, anew=args.force_rerun, shard=args.shard)
    with hold, workers_of(args, settings, ProgressBars(), folder.root, key) as workers:
        if gone := folder.remove_other_runs(truths):
            print(f"removed the results of {', '.join(gone)}: no longer among the tomograms")
        print(f"{len(studies)} experiments, {len(truths)} tomograms, results in {folder.root}")
        maps = workers.here.maps
        campaign = Campaign(folder, maps, data_root=args.data_root, truths=truths, plans=plans, particles=particles)
        if (failed := workers.prepare(campaign.maps_work(studies))) is not None:
            return end_with_failures(failed)
        campaign.run(studies)
        (results, tests), notes = write_tables(campaign, studies), [*campaign.notes(), *known]
        if results:
            write_campaign_report(campaign, studies, results, tests, comment=args.comment, command=line, notes=notes)
    report(results, notes, folder)
    if campaign.failures:
        text = f"{len(campaign.failures)} failed, see {folder.root / FAILURES_TABLE}; the same command tries them again"
        print(text, file=sys.stderr)
        sys.exit(1)


def report(results: Sequence[Evaluated], notes: Sequence[str], folder: CampaignFolder) -> None:
    if results:
        print(f"\n{as_text(results)}\n")
    for note in notes:
        print(f"note: {note}")
    if results:
        print(f"report    {folder.root / 'report.html'}")
    else:
        print("no configuration has all tomograms: there is nothing to rank", file=sys.stderr)


def default_output_dir(args: argparse.Namespace) -> Path:
    return output_dir(args, "campaign", *([args.comment] if args.comment else []))


def networks_of(studies: Sequence[Study], hashes: ContentHashes) -> dict[str, str]:
    """Experiment and file name -> content hash of every checkpoint that is used."""
    return {
        f"{study.experiment.name}/{path.name}": hashes.of(path)
        for study in studies
        for detectors in study.detectors.values()
        for detector in detectors
        for path in detector.ensemble.members
    }


def study_of(
    experiment: Experiment, args: argparse.Namespace, particles: Sequence[Particle], *, searched: bool
) -> Study:
    """An experiment with what its checkpoints and arguments say, unless the command line says otherwise."""
    tomograms, inference = (
        tomogram_settings(args, experiment.descriptions),
        inference_settings(args, experiment.descriptions),
    )
    if args.compare_tta and inference.tta_group == NO_VIEWS:
        raise InputError("--compare_tta compares with test-time augmentation; give --use_tta too")
    return Study(
        experiment=experiment,
        detectors={name: STRATEGIES[name](experiment, particles) for name in dict.fromkeys(args.evaluation_strategy)},
        views=[inference, replace(inference, tta_group=NO_VIEWS)] if args.compare_tta else [inference],
        tomograms=tomograms,
        training_tomograms=replace(
            tomograms,
            voxel_spacing_angstrom=experiment.arguments.get("voxel_spacing"),
            rescale=experiment.arguments.get("rescale") is not None,
        ),
        training_root=training_root(experiment, args, particles) if searched else None,
        trained_radius_fraction=resolve_radius_fraction(args, experiment.descriptions),
    )


def training_root(experiment: Experiment, args: argparse.Namespace, particles: Sequence[Particle]) -> Path:
    root = args.training_data_root or Path(experiment.arguments["data_root"])
    if not root.is_dir():
        raise InputError(
            f"{experiment.name} was trained on {root}, which is not there; "
            "say where its training data is by --training_data_root"
        )
    if args.training_data_root is None:
        experiment.check_training_data(root, particles)
    return root


def method_plan(args: argparse.Namespace, method: str, particles: Sequence[Particle]) -> MethodPlan:
    args = for_method(args, method)
    return MethodPlan(
        method,
        given=lambda trained, conditions: resolve_hyperparameters(args, particles, trained, conditions),
        untuned=lambda trained: is_untuned(args, trained),
        overlaps=lambda trained: resolve_overlaps(args, particles, trained),
        internal_downsample=args.postproc_internal_downsample,
        search_strategy=args.hp_search_strategy,
        grid=search_grid(args),
    )


def scored_runs(
    studies: Sequence[Study], args: argparse.Namespace, particles: Sequence[Particle]
) -> dict[str, pd.DataFrame]:
    """Run name -> reference points, of the runs to evaluate on."""
    runs = find_runs(args.data_root, tomo_type=studies[0].tomograms.tomo_type)
    truths = {name: truth for name, truth in truths_of(runs, particles).items() if len(truth)}
    if not truths:
        raise InputError(
            f"no tomogram in {args.data_root} has picks to be scored by; where there are annotations of the portal, "
            "prepare_fullpublic_eval_annotations.py makes them"
        )
    if len(truths) < len(runs):
        warnings.warn(
            f"{len(runs) - len(truths)} of {len(runs)} tomograms have no picks and are left out", stacklevel=2
        )
    return {name: truths[name] for name in sorted(truths)[: args.limit_final_eval_tomos]}


def training_cautions(studies: Sequence[Study], run_names: Iterable[str]) -> list[str]:
    """Sentences about the runs that the experiments know from their training."""
    return [
        f"{study.experiment.name}: {caution}"
        for study in studies
        for caution in cautions({name: training_use(name, study.experiment.descriptions) for name in run_names})
    ]


if __name__ == "__main__":
    run_script(main)
