"""Find particles in tomograms with a trained network, and write them as other programs read them.

    python pick_particles.py --model_path checkpoints/my_run --tomograms "tomograms/*.mrc" --formats relion5 chimerax
    python pick_particles.py --model_path somebodys.ckpt --tomograms tomograms.txt --particles ribosome \\
        --min_confidence 0.5 --mask_dir membranes --mask_keep outside --formats warp --binning 4
    python pick_particles.py --model_path checkpoints/my_run --copick_config config.json --use_tta --formats copick

Writes below --output_dir: picks.csv, picks/{tomogram}/{particle}.json, overlays/{tomogram}.png, gallery.html,
summary.json and a folder for each of --formats; prints the next command for each format. Interrupted? The same command
goes on where it stopped. Other --formats, --particles, --min_confidence and other choices among the picks take the same
--output_dir and run no network again. A tomogram that cannot be read is named at the end, and the exit code is 1; the
others are finished.
"""

from command_line import end_with_failures, run_script

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cluster.arguments import add_cluster_arguments, check_cluster_arguments, workers_of
from data.content_hash import hash_of
from data.czi import Run
from data.files import path_argument
from data.picks import picks_of_table
from errors import InputError, some_names
from evaluation.arguments import (
    add_found_hyperparameters_argument,
    add_postprocessing_arguments,
    add_reading_arguments,
    add_result_arguments,
    add_saved_map_arguments,
    map_settings,
    output_dir,
    parameters,
    saved_maps,
    without_search,
)
from evaluation.detector_arguments import origin_note, read_detector
from evaluation.exports import FAILURES_TABLE
from evaluation.ownership import Command, data_hashes, owned
from evaluation.picking import FOUND, OVERLAYS, PICKS, PickingTask, check_mask
from evaluation.picking_results import PickingResults, write_picking_results
from evaluation.progress import ProgressBars
from evaluation.report.gallery import write_gallery
from evaluation.report.particle_sheets import GalleryTomogram
from evaluation.runs import GALLERY, open_sources, remove_summaries
from evaluation.saved_maps import SavedMaps
from evaluation.selection_arguments import FLAGS as SELECTION_FLAGS
from evaluation.selection_arguments import add_selection_arguments, check_selection_arguments, selection_of
from evaluation.work import failures_of
from formats.arguments import FLAGS as FORMAT_FLAGS
from formats.arguments import add_format_arguments, check_format_arguments, tilt_series
from formats.export import Export, PickedTomogram
from formats.input_files import find_tomograms
from formats.tomogram_inputs import masks_of, runs_of_copick, runs_of_words, with_names
from formats.writers import bring_up_to_date, check_file_names, next_commands
from inference.arguments import add_inference_arguments, check_merge
from inference.tomograms import SourceTomogram
from particle_config import Particle
from versions import typed_command

SUMMARIES = ("picks.csv", "summary.json", GALLERY)
RESULTS = (*SUMMARIES, FAILURES_TABLE, PICKS, OVERLAYS, FOUND, "maps")
TEMPORARY = (".*.partial", "*/.*.partial", "*/*/.*.partial")
# Choices among the picks and of their formats may follow in the same folder; more tomograms may, too.
CHOICES = (*SELECTION_FLAGS, *FORMAT_FLAGS)
INPUTS = ("tomograms", "copick_config", "limit_tomos_by_id")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    general = parser.add_argument_group("networks")
    general.add_argument("--model_path", type=path_argument, required=True, help="a checkpoint, or a folder of them")
    data = parser.add_argument_group("data")
    data.add_argument(
        "--tomograms",
        nargs="+",
        help="MRC or zarr: files, globs, folders, a text file that lists them, or data sets of either layout",
    )
    data.add_argument("--copick_config", type=path_argument, help="config JSON of a copick project, instead")
    data.add_argument("--limit_tomos_by_id", nargs="+", metavar="ID", help="these runs only")
    add_reading_arguments(data)
    results = parser.add_argument_group("results")
    refused = "other flags or networks are refused, other choices among picks, formats and further tomograms are not"
    add_result_arguments(results, "results/picks_{experiment}_{hash of the flags}", refused)
    add_saved_map_arguments(results)
    add_selection_arguments(parser.add_argument_group("selection"))
    add_format_arguments(parser.add_argument_group("formats"))
    add_cluster_arguments(parser.add_argument_group("many machines"))
    add_inference_arguments(parser)
    add_postprocessing_arguments(parser)
    add_found_hyperparameters_argument(parser.add_argument_group("hyperparameter search"))
    return parser


def check_arguments(args: argparse.Namespace) -> None:
    """InputError for flags that contradict each other, are out of range or without effect."""
    if (args.tomograms is None) == (args.copick_config is None):
        raise InputError("give either --tomograms or --copick_config")
    check_selection_arguments(args)
    check_format_arguments(args)
    check_cluster_arguments(args)


def find_inputs(args: argparse.Namespace, tomo_type: str) -> list[Run]:
    if args.copick_config is not None:
        runs = runs_of_copick(args.copick_config, tomo_type=tomo_type)
    else:
        runs = runs_of_words(args.tomograms, tomo_type=tomo_type)
    return with_names(runs, args.limit_tomos_by_id)


def find_masks(folder: Path | None, sources: Sequence[SourceTomogram]) -> dict[str, Path]:
    """Tomogram -> its mask, none without a folder; InputError where one is missing or of another volume."""
    if folder is None:
        return {}
    masks = masks_of(folder, [source.name for source in sources], find_tomograms([str(folder)]))
    for source in sources:
        check_mask(masks[source.name], source.tomogram.file_grid[0])
    return masks


def check_same_tomograms(folder: Path, names: Sequence[str]) -> None:
    """InputError where the folder holds picks of other tomograms."""
    if others := sorted({path.name for path in (folder / PICKS).glob("[!.]*")} - set(names)):
        raise InputError(
            f"{folder} holds picks of {some_names(others)}, which are not among the tomograms; give another "
            "--output_dir, or --force_rerun to replace them"
        )


def main(argv: list[str] | None = None) -> None:
    args = without_search(build_parser().parse_args(argv))
    check_arguments(args)
    detector = read_detector(args)
    check_merge(args, merges=detector.inference.num_views > 1 or detector.ensemble.merges)
    selection = selection_of(args, detector)
    runs = find_inputs(args, detector.tomograms.tomo_type)
    sources, failures = open_sources(runs, detector.tomograms)
    masks, maps = find_masks(args.mask_dir, sources), map_settings(args, detector.particles)
    particles = [particle for particle in detector.particles if particle.name in selection.particles]
    # Before the work: what does not fit would be known only after it.
    if args.formats:
        check_file_names([source.name for source in sources], selection.particles, args.formats)
    tilt_series(args, [PickedTomogram.of(source.name, source.tomogram, ()) for source in sources])
    experiment = detector.paths[0].resolve().parent.name
    folder = output_dir(args, "picks", experiment, leave_out=CHOICES)
    saved = saved_maps(args, folder)
    line = typed_command(__file__, argv)
    flags = parameters(args, absolute=True, leave_out=(*CHOICES, *INPUTS))
    networks = {path.name: maps.hashes.of(path) for path in detector.paths}
    files = {source.name: source.tomogram.path for source in sources}
    command = Command(line, flags, networks, lambda: data_hashes(files, {}, maps.hashes))
    if not args.force_rerun:
        check_same_tomograms(folder, [run.name for run in runs])
    bars, key = ProgressBars(), hash_of([parameters(args, absolute=True), command.networks])
    hold = owned(folder, command, results=RESULTS, temporary=TEMPORARY, anew=args.force_rerun, shard=args.shard)
    with hold, workers_of(args, maps, bars, folder, key) as workers:
        several = "s" * (len(detector.paths) > 1)
        print(f"{len(runs)} tomograms, {len(detector.paths)} network{several}, results in {folder}")
        if note := origin_note(args, detector):
            print(note)
        tasks = [PickingTask(source, detector, selection, masks.get(source.name), folder, saved) for source in sources]
        records = {}
        for record in workers.records(tasks):
            records[record.run_name] = record
            if record.seconds is not None:
                remove_summaries(folder, SUMMARIES)
        if len(records) < len(tasks):  # other shards have not done theirs
            return end_with_failures(failures | failures_of(records.values()))
        results = PickingResults.read(folder, [records[task.name] for task in tasks], failures)
        write_picking_results(folder, results, detector, selection)
        if results.failures or not (folder / GALLERY).is_file():  # of those that were there before
            draw_gallery(folder, results, sources, particles, experiment, line)
        export = export_of(args, results, sources, particles)
        commands, removed = bring_up_to_date(args.formats, folder, export)
        if removed:
            print(f"removed {', '.join(removed)}: of other picks; give them in --formats again")
    report(results, folder, saved, next_commands(commands))


def draw_gallery(
    folder: Path,
    results: PickingResults,
    sources: Sequence[SourceTomogram],
    particles: Sequence[Particle],
    experiment: str,
    command: str,
) -> None:
    """The page to judge the picks by."""
    write_gallery(
        folder / GALLERY,
        [GalleryTomogram.of(one.name, one.tomogram) for one in sources if one.name in results.tables],
        pd.concat(results.tables.values(), ignore_index=True),
        particles,
        title=f"Picks of {experiment}",
        overlays={name: folder / OVERLAYS / f"{name}.png" for name in results.tables},
        command=command,
    )


def export_of(
    args: argparse.Namespace,
    results: PickingResults,
    sources: Sequence[SourceTomogram],
    particles: Sequence[Particle],
) -> Export:
    """The picks as the writers of other formats take them."""
    tomograms = [
        PickedTomogram.of(source.name, source.tomogram, picks_of_table(source.name, results.tables[source.name]))
        for source in sources
        if source.name in results.tables
    ]
    return Export(tuple(tomograms), tuple(particles), tilt_series(args, tomograms), args.tomograms_star)


def report(results: PickingResults, folder: Path, saved: SavedMaps, commands: str) -> None:
    print(f"\n{results.in_words()}\n")
    for name in (*SUMMARIES, OVERLAYS):
        print(f"{name.split('.')[0]:9} {folder / name}")
    if saved.format is not None:
        print(f"maps      {saved.folder}")
    if commands:
        print(f"\n{commands}")
    end_with_failures(results.failures)


if __name__ == "__main__":
    run_script(main)
