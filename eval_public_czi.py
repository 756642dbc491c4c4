"""Find particles with one trained network or an ensemble, and score them where the truth is known.

    python eval_public_czi.py --model_path checkpoints/my_run --data_root /path/to/public_dataset --use_tta
    python eval_public_czi.py --model_path checkpoints/my_run/fold_0-best-fscore-epoch=9-f4=0.812.ckpt \\
        --data_root /path/to/czi_dataset --limit_tomos_by_id TS_5_4 --postprocessing_method cc3d

Writes below --output_dir: picks/{run}/{particle}.json, submission.csv (with a score column), overlays/{run}.png,
and scores.json where the runs have picks to compare with.
"""

import argparse
import time
from pathlib import Path

import config
from data.czi import find_runs
from errors import run_script
from evaluation.arguments import (
    add_inference_arguments,
    add_postprocessing_arguments,
    inference_settings,
    resolve_hyperparameters,
    resolve_norm_percentiles,
)
from evaluation.runs import Evaluation, evaluate_runs
from evaluation.tomograms import DetectionSettings, TomogramSettings
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
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    paths = find_checkpoints(args.model_path)
    networks, descriptions = zip(*(load_checkpoint(path, PARTICLES) for path in paths), strict=True)
    check_agreement(paths, descriptions)
    trained = descriptions[0]
    tomograms = TomogramSettings(
        tomo_type=args.tomo_type or trained.tomo_types[0],
        norm_percentiles=resolve_norm_percentiles(args, trained.norm_percentiles),
        trained_spacing_angstrom=trained.voxel_spacing_angstrom,
        voxel_spacing_angstrom=args.voxel_spacing,
    )
    detection = DetectionSettings(
        trained_radius_fraction=trained.radius_fraction,
        method=args.postprocessing_method,
        hyperparameters=resolve_hyperparameters(args, PARTICLES, [one.hyperparameters for one in descriptions]),
    )
    runs = find_runs(args.data_root, tomo_type=tomograms.tomo_type, names=args.limit_tomos_by_id)
    predictor = Predictor(networks, inference_settings(args), choose_device(args.device, args.precision))
    output_dir = args.output_dir or default_output_dir(paths[0])
    print(f"{len(runs)} tomograms, {len(networks)} network{'s' * (len(networks) > 1)}, results in {output_dir}")
    evaluation = evaluate_runs(runs, predictor, tomograms, detection, particles=PARTICLES, output_dir=output_dir)
    report(evaluation, output_dir)


def default_output_dir(checkpoint: Path) -> Path:
    return config.OUTPUT_ROOT / "results" / f"{checkpoint.resolve().parent.name}_{time.strftime('%Y%m%d_%H%M%S')}"


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
