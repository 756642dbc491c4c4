"""Find particles with one trained network or an ensemble, and score them where the truth is known.

    python eval_public_czi.py --model_path checkpoints/my_run --data_root /path/to/public_dataset --use_tta
    python eval_public_czi.py --model_path checkpoints/my_run/fold_0-best-fscore-epoch=9-f4=0.812.ckpt \\
        --data_root /path/to/public_dataset --limit_tomos_by_id TS_100_1 --postprocessing_method cc3d
    python eval_public_czi.py --model_path checkpoints/my_run --data_root /path/to/czi_dataset \\
        --hp_search_strategy per_class --output_dir tuned
    python eval_public_czi.py --model_path checkpoints/my_run --data_root /path/to/public_dataset \\
        --per_class_hp_path tuned/thresholds.json

Writes below --output_dir: picks/{run}/{particle}.json, submission.csv (with a score column), overlays/{run}.png,
gallery.html, and scores.json, whose score is null where no run has picks to compare with; a search thresholds.json,
search_grid.csv and search_curves.png; --save_maps also maps/. Interrupted? The same command goes on where it stopped;
run_parameters.json says which it was, and results of other flags, runs or networks need another --output_dir.
Probability maps are kept in --cache_dir: other thresholds or methods for the same networks run no network. A tomogram
that cannot be read is named at the end, and the exit code is 1; the others are finished.
"""

from command_line import end_with_failures, run_script

import argparse
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from cluster.arguments import add_cluster_arguments, check_cluster_arguments, workers_of
from data.content_hash import hash_of
from data.czi import find_runs
from data.files import path_argument
from detection.search_settings import SearchSettings
from evaluation.arguments import (
    add_data_arguments,
    add_postprocessing_arguments,
    add_result_arguments,
    add_saved_map_arguments,
    add_search_arguments,
    map_settings,
    output_dir,
    parameters,
    saved_maps,
    search_grid,
)
from evaluation.detector_arguments import origin_note, read_detector
from evaluation.finished import TomogramInput
from evaluation.map_work import maps_work
from evaluation.ownership import Command, data_hashes, owned
from evaluation.progress import ProgressBars
from evaluation.report.gallery import write_gallery
from evaluation.report.particle_sheets import GalleryTomogram
from evaluation.runs import (
    GALLERY,
    RESULTS,
    TEMPORARY,
    Evaluation,
    evaluation_work,
    open_sources,
    remove_other_runs,
    remove_summaries,
    write_evaluation,
)
from evaluation.saved_maps import SavedMaps
from evaluation.training_use import TrainingUse, cautions, training_use
from evaluation.truth import hits_of, truths_of
from evaluation.tuning.out_of_fold import out_of_fold
from evaluation.tuning.search import as_text, search_hyperparameters
from evaluation.work import failures_of
from inference.arguments import add_inference_arguments, check_merge
from inference.checkpoints import Description
from inference.tomograms import SourceTomogram
from particle_config import Particle
from versions import typed_command


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    general = parser.add_argument_group("networks")
    general.add_argument("--model_path", type=path_argument, required=True, help="a checkpoint, or a folder of them")
    data = parser.add_argument_group("data")
    data.add_argument("--limit_tomos_by_id", nargs="+", metavar="ID", help="these runs only")
    add_data_arguments(data)
    results = parser.add_argument_group("results")
    add_result_arguments(results, "results/{experiment}_{hash of the flags}")
    add_saved_map_arguments(results)
    add_inference_arguments(parser)
    add_postprocessing_arguments(parser)
    add_search_arguments(parser)
    add_cluster_arguments(parser.add_argument_group("many machines"))
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    check_cluster_arguments(args)
    detector = read_detector(args)
    particles, tomograms, inference = detector.particles, detector.tomograms, detector.inference
    detection, paths = detector.detection, detector.paths
    grid, maps = search_grid(args), map_settings(args, particles)
    runs = find_runs(args.data_root, tomo_type=tomograms.tomo_type, names=args.limit_tomos_by_id)
    sources, failures = open_sources(runs, tomograms)
    truths = truths_of([source.run for source in sources], particles)
    if grid is None:
        inputs = [TomogramInput(source, detector.ensemble, truths.get(source.name)) for source in sources]
    else:
        inputs = out_of_fold(sources, truths, detector.ensemble, detector.descriptions)
    check_merge(args, merges=inference.num_views > 1 or any(one.ensemble.merges for one in inputs))
    uses = training_uses(inputs, dict(zip(paths, detector.descriptions, strict=True)), searched_on=grid is not None)
    for caution in cautions({name: use for name, use in uses.items() if use.trained_on and len(truths.get(name, ()))}):
        warnings.warn(caution, stacklevel=2)
    settings = {"tomograms": tomograms, "inference": inference, "detection": detection}
    experiment = paths[0].resolve().parent.name
    folder = output_dir(args, experiment)
    saved = saved_maps(args, folder)
    line = typed_command(__file__, argv)
    networks = {path.name: maps.hashes.of(path) for path in paths}
    files = {source.name: source.tomogram.path for source in sources}
    command = Command(line, parameters(args, absolute=True), networks, lambda: data_hashes(files, truths, maps.hashes))
    bars, key = ProgressBars(), hash_of([command.parameters, command.networks])
    hold = owned(folder, command, results=RESULTS, temporary=TEMPORARY, anew=args.force_rerun, shard=args.shard)
    with hold, workers_of(args, maps, bars, folder, key) as workers:
        if gone := remove_other_runs(folder, [*uses, *failures]):
            print(f"removed the results of {', '.join(gone)}: no longer among the tomograms")
        print(f"{len(runs)} tomograms, {len(paths)} network{'s' * (len(paths) > 1)}, results in {folder}")
        if grid is not None:
            settings["search"] = search = SearchSettings(args.hp_search_strategy, grid, detection, detector.conditions)
            of_networks = maps_work((one.source, one.ensemble, inference) for one in inputs)
            if (failed := workers.prepare(of_networks)) is not None:
                return end_with_failures(failures | failed)
            workers = workers.afterwards
            found = search_hyperparameters(inputs, {folder: search}, inference, workers.here.maps, particles, bars)
            if found[folder].seconds is not None:
                remove_summaries(folder)
            settings["detection"] = detection = replace(detection, hyperparameters=found[folder].hyperparameters)
            report_search(folder)
        elif note := origin_note(args, detector):
            print(note)
        outcomes = {}
        work = evaluation_work(inputs, inference, detection, particles, folder, saved)
        for outcome in workers.records(work):
            outcomes[outcome.run_name] = outcome
            if outcome.seconds is not None:
                remove_summaries(folder)
        if len(outcomes) < len(work):  # other shards have not done theirs
            return end_with_failures(failures | failures_of(outcomes.values()))
        in_order = [outcomes[one.source.name] for one in work]
        options = {"training_uses": uses, "settings": settings, "failures": failures}
        evaluation = write_evaluation(in_order, inputs, particles, folder, **options)
        if evaluation.failures or not (folder / GALLERY).is_file():  # of those that were there before
            draw_gallery(folder, evaluation, sources, truths, particles, experiment, command.line)
    report(evaluation, uses, particles, folder, saved)


def draw_gallery(
    folder: Path,
    evaluation: Evaluation,
    sources: Sequence[SourceTomogram],
    truths: Mapping[str, pd.DataFrame],
    particles: Sequence[Particle],
    experiment: str,
    command: str,
) -> None:
    """The page to judge the picks by, hits and false picks told apart where the truth is known."""
    write_gallery(
        folder / GALLERY,
        [GalleryTomogram.of(one.name, one.tomogram) for one in sources if one.name not in evaluation.failures],
        evaluation.picks,
        particles,
        title=f"Picks of {experiment}",
        hits=hits_of(evaluation.picks, truths, particles) if evaluation.score is not None else None,
        overlays={path.name.removesuffix(".png"): path for path in evaluation.pictures},
        command=command,
    )


def training_uses(
    inputs: Sequence[TomogramInput], descriptions: Mapping[Path, Description], *, searched_on: bool
) -> dict[str, TrainingUse]:
    """Run name -> what part it had in the training of the networks that predict it."""
    members = {one.source.name: [descriptions[path] for path in one.ensemble.members] for one in inputs}
    return {name: training_use(name, of, searched_on=searched_on) for name, of in members.items()}


def report_search(folder: Path) -> None:
    print(f"\n{as_text(folder)}\n\nThe score below is of the very tomograms that these values were chosen on.")
    for name in ("thresholds.json", "search_grid.csv", "search_curves.png"):
        print(f"search    {folder / name}")


def report(
    evaluation: Evaluation,
    uses: Mapping[str, TrainingUse],
    particles: Sequence[Particle],
    folder: Path,
    saved: SavedMaps,
) -> None:
    if evaluation.score is not None:
        print(f"\n{evaluation.score}\n")
        for caution in cautions({name: uses[name] for name in evaluation.scored_runs}):
            print(f"note: {caution}")
        if len(evaluation.scored_runs) < len(evaluation.pictures):
            print(
                f"scored on the {len(evaluation.scored_runs)} runs that have picks: {', '.join(evaluation.scored_runs)}"
            )
    else:
        counts = evaluation.picks["particle_type"].value_counts()
        print("no picks to compare with; found " + ", ".join(f"{counts.get(p.name, 0)} {p.name}" for p in particles))
    print(f"picks     {folder / 'submission.csv'}")
    print(f"gallery   {folder / GALLERY}")
    for picture in evaluation.pictures:
        print(f"picture   {picture}")
    if saved.format is not None:
        print(f"maps      {saved.folder}")
    end_with_failures(evaluation.failures)


if __name__ == "__main__":
    run_script(main)
