"""Find particles with one trained network or an ensemble, and score them where the truth is known.

    python eval_public_czi.py --model_path checkpoints/my_run --data_root /path/to/public_dataset --use_tta
    python eval_public_czi.py --model_path checkpoints/my_run/fold_0-best-fscore-epoch=9-f4=0.812.ckpt \\
        --data_root /path/to/czi_dataset --limit_tomos_by_id TS_5_4 --postprocessing_method cc3d
    python eval_public_czi.py --model_path checkpoints/my_run --data_root /path/to/czi_dataset \\
        --hp_search_strategy per_class --output_dir tuned
    python eval_public_czi.py --model_path checkpoints/my_run --data_root /path/to/public_dataset \\
        --per_class_hp_path tuned/thresholds.json

Writes below --output_dir: picks/{run}/{particle}.json, submission.csv (with a score column), overlays/{run}.png,
and scores.json where the runs have picks to compare with; a search also thresholds.json, search_grid.csv and
search_curves.png.
"""

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

import config
from data.czi import find_runs
from errors import run_script
from evaluation.arguments import (
    add_postprocessing_arguments,
    add_search_arguments,
    resolve_hyperparameters,
    resolve_internal_downsample,
    search_grid,
)
from evaluation.inference_arguments import (
    add_inference_arguments,
    inference_settings,
    resolve_norm_percentiles,
    resolve_tomo_type,
)
from evaluation.runs import Evaluation, evaluate_runs
from evaluation.search import SearchSettings
from evaluation.search_result import SearchResult
from evaluation.tomograms import DetectionSettings, TomogramSettings
from evaluation.tuning import tune_and_evaluate
from inference.checkpoints import check_agreement, find_checkpoints, load_checkpoint
from inference.device import choose_device
from inference.predictor import Predictor
from particle_config import PARTICLES


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    general = parser.add_argument_group("general evaluation settings")
    general.add_argument("--model_path", type=Path, required=True, help="a checkpoint, or a folder of them")
    general.add_argument("--data_root", type=Path, default=config.CZI_PUBLIC_EVAL_DATA_ROOT, help="either layout")
    general.add_argument("--output_dir", type=Path, help="default: results/{experiment}_{time}")
    general.add_argument("--tomo_type", help="type of tomogram (default: the one validated on in training)")
    general.add_argument("--voxel_spacing", type=float, metavar="A", help="angstrom; overrides the files'")
    general.add_argument("--limit_tomos_by_id", nargs="+", metavar="ID", help="these runs only")
    add_inference_arguments(parser)
    add_postprocessing_arguments(parser)
    add_search_arguments(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    paths = find_checkpoints(args.model_path)
    networks, descriptions = zip(*(load_checkpoint(path, PARTICLES) for path in paths), strict=True)
    check_agreement(paths, descriptions)
    trained = descriptions[0]
    tomograms = TomogramSettings(
        tomo_type=resolve_tomo_type(args, descriptions),
        norm_percentiles=resolve_norm_percentiles(args, trained.norm_percentiles),
        trained_spacing_angstrom=trained.voxel_spacing_angstrom,
        voxel_spacing_angstrom=args.voxel_spacing,
    )
    detection = DetectionSettings(
        trained_radius_fraction=trained.radius_fraction,
        method=args.postprocessing_method,
        hyperparameters=resolve_hyperparameters(args, PARTICLES, [one.hyperparameters for one in descriptions]),
        internal_downsample=resolve_internal_downsample(args),
    )
    grid = search_grid(args)
    runs = find_runs(args.data_root, tomo_type=tomograms.tomo_type, names=args.limit_tomos_by_id)
    inference, device = inference_settings(args, descriptions), choose_device(args.device, args.precision)

    def predictor_of(members: Iterable[int]) -> Predictor:
        return Predictor([networks[i] for i in members], inference, device)

    output_dir = args.output_dir or default_output_dir(paths[0])
    print(f"{len(runs)} tomograms, {len(networks)} network{'s' * (len(networks) > 1)}, results in {output_dir}")
    if grid is None:
        predictor = predictor_of(range(len(networks)))
        evaluation = evaluate_runs(runs, predictor, tomograms, detection, particles=PARTICLES, output_dir=output_dir)
    else:
        search = SearchSettings(args.hp_search_strategy, grid, detection)
        found, evaluation = tune_and_evaluate(
            runs, descriptions, predictor_of, tomograms, search, particles=PARTICLES, output_dir=output_dir
        )
        report_search(found, output_dir)
    report(evaluation, output_dir)


def default_output_dir(checkpoint: Path) -> Path:
    return config.OUTPUT_ROOT / "results" / f"{checkpoint.resolve().parent.name}_{time.strftime('%Y%m%d_%H%M%S')}"


def report_search(found: SearchResult, output_dir: Path) -> None:
    print(f"\n{found}\n\nThe score below is of the very tomograms that these values were chosen on.")
    for name in ("thresholds.json", "search_grid.csv", "search_curves.png"):
        print(f"search    {output_dir / name}")


def report(evaluation: Evaluation, output_dir: Path) -> None:
    if evaluation.score is not None:
        print(f"\n{evaluation.score}\n")
        if len(evaluation.scored_runs) < len(evaluation.pictures):
            print(
                f"scored on the {len(evaluation.scored_runs)} runs that have picks: {', '.join(evaluation.scored_runs)}"
            )
    else:
        counts = evaluation.picks["particle_type"].value_counts()
        print("no picks to compare with; found " + ", ".join(f"{counts.get(p.name, 0)} {p.name}" for p in PARTICLES))
    print(f"picks     {output_dir / 'submission.csv'}")
    for picture in evaluation.pictures:
        print(f"picture   {picture}")


if __name__ == "__main__":
    run_script(main)
