"""The score behind benchmarks.inference: one network, the same detection, our windows beside MONAI's.

    python -m benchmarks.inference_accuracy --model_path CHECKPOINT --data_root DATA/public --views 1 8

Tomograms go through the network by each side of benchmarks.inference, in the same precision; particles are then found
at the thresholds of the checkpoint and scored by the challenge's rules.
"""

from command_line import run_script

import argparse
from pathlib import Path

import pandas as pd
from tqdm import tqdm

import config
from benchmarks.inference import GROUPS, OURS, SIDES, monai_side, our_side
from data.czi import find_runs
from data.picks import truth_table
from detection.proposals import DetectionSettings, accept, propose
from inference.checkpoints import load_checkpoint
from inference.device import DEVICES, choose_device
from inference.predictor import Prediction
from inference.settings import PRECISIONS
from inference.tomograms import SourceTomogram, TomogramSettings
from metrics.fbeta import score_picks
from particle_config import PARTICLES


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.inference_accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--model_path", type=Path, required=True, help="a checkpoint")
    parser.add_argument("--data_root", type=Path, required=True, help="either layout, with picks")
    parser.add_argument("--views", type=int, nargs="+", choices=GROUPS, default=[1])
    parser.add_argument("--precision", choices=PRECISIONS, default=config.INFERENCE_PRECISION)
    parser.add_argument("--monai_batch_size", type=int, help="windows per call (default: 1 on a CPU, 4 on a GPU)")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--compile", action="store_true", help="our side as CUDA graphs")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    network, trained = load_checkpoint(args.model_path)
    device = choose_device(args.device, args.precision)
    settings = TomogramSettings(trained.tomo_types[0], trained.norm_percentiles, trained.voxel_spacing_angstrom)
    detection = DetectionSettings(
        trained.radius_fraction, config.POSTPROCESSING_METHOD, trained.hyperparameters[config.POSTPROCESSING_METHOD]
    )
    runs = find_runs(args.data_root, tomo_type=settings.tomo_type)
    truth, sources = truth_table(runs), [SourceTomogram(run, settings) for run in runs]
    print("| views | side | F4 |\n|---|---|---|")
    for views in args.views:
        for side in SIDES:
            ours, picks = our_side(network, views, args) if side == OURS else None, []
            for source in tqdm(sources, side, leave=False, disable=None):
                args.shape, normalised = source.tomogram.shape_zyx, source.voxels()[1]
                source.forget()
                if ours is not None:
                    prediction = ours(normalised)
                else:
                    probability = monai_side(network, side, views, args, device)(normalised)
                    prediction = Prediction(probability, None, network.output_stride)
                where = {"run_name": source.name, "voxel_spacing_angstrom": source.voxel_spacing_angstrom}
                proposals = propose(prediction, detection, PARTICLES, **where)
                picks.append(accept(proposals, detection.hyperparameters))
            f4 = score_picks(pd.concat(picks, ignore_index=True), truth).weighted
            print(f"| {views} | {side} | {f4:.4f} |", flush=True)


if __name__ == "__main__":
    run_script(main)
