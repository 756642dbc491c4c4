"""All candidates that a network gives with several groups of views, every view of a tomogram computed once.

    python -m benchmarks.view_groups --model_path CHECKPOINT --data_root DATA/public --output_dir OUT --groups d2h oh

Groups share views: those of d2, d2h, d4h and etfinder7 are all among the 48 of oh. A group's map is the mean over its
views, as eval_public_czi.py makes it with --tta_group. Writes {group}/submission.csv below --output_dir.
"""

from command_line import run_script

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

import config
from benchmarks.inference import default_predictor
from data.czi import find_runs
from data.picks import write_submission
from detection.proposals import LOWEST_SCORE, DetectionSettings, accept, propose
from inference.checkpoints import Description, load_checkpoint
from inference.predictor import Prediction, Predictor
from inference.tomograms import SourceTomogram, TomogramSettings
from particle_config import PARTICLES
from tta.orientations import ORIENTATIONS


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.view_groups",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--model_path", type=Path, required=True, help="a checkpoint")
    parser.add_argument("--data_root", type=Path, required=True, help="either layout")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--groups", nargs="+", choices=ORIENTATIONS, default=list(ORIENTATIONS))
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    network, trained = load_checkpoint(args.model_path)
    predictor, detection = default_predictor(network, []), all_candidates(trained)
    settings = TomogramSettings(trained.tomo_types[0], trained.norm_percentiles, trained.voxel_spacing_angstrom)
    runs = find_runs(args.data_root, tomo_type=settings.tomo_type)
    picks: dict[str, list[pd.DataFrame]] = {group: [] for group in args.groups}
    for source in tqdm([SourceTomogram(run, settings) for run in runs], disable=None):
        where = {"run_name": source.name, "voxel_spacing_angstrom": source.voxel_spacing_angstrom}
        for group, prediction in predictions(predictor, source.voxels()[1], args.groups).items():
            proposals = propose(prediction, detection, PARTICLES, **where)
            picks[group].append(accept(proposals, detection.hyperparameters))
        source.forget()
    for group, tables in picks.items():
        write_submission(args.output_dir / group / "submission.csv", pd.concat(tables, ignore_index=True))


def all_candidates(trained: Description) -> DetectionSettings:
    """Peaks down to the lowest, suppressed as the checkpoint says."""
    found = trained.hyperparameters[config.POSTPROCESSING_METHOD]
    hyperparameters = {name: {**values, "peak_threshold": LOWEST_SCORE} for name, values in found.items()}
    return DetectionSettings(trained.radius_fraction, config.POSTPROCESSING_METHOD, hyperparameters)


def predictions(predictor: Predictor, volume: np.ndarray, groups: Sequence[str]) -> Mapping[str, Prediction]:
    """Group -> the mean over its views of a normalised tomogram (Z, Y, X), without variance."""
    means: dict[str, Prediction] = {}
    for view in sorted(set().union(*(ORIENTATIONS[group] for group in groups))):
        predictor.views = (view,)
        seen = predictor(volume)
        for group in [group for group in groups if view in ORIENTATIONS[group]]:
            share = seen.probability / len(ORIENTATIONS[group])
            so_far = means.setdefault(group, replace(seen, probability=share.new_zeros(share.shape)))
            so_far.probability.add_(share)
    return means


if __name__ == "__main__":
    run_script(main)
