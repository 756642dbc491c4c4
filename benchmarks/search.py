"""What a search over 20 thresholds and 7 suppression radii costs, in single detections on the same map.

    python -m benchmarks.search
    python -m benchmarks.search --methods cc3d --shape 92 315 315 --device cuda

The map is that of benchmarks.postprocessing: about 180 particles of one class at full size. Both sides begin with the
map on --device and take turns; the search ends with the chosen hyperparameters. Figures are medians over the turns.
"""

from command_line import run_script

import argparse
import dataclasses
from collections.abc import Callable

import numpy as np
import torch

import config
from benchmarks.postprocessing import RADIUS_VOXELS, TRAINED_RADIUS_VOXELS, make_map, particle_centres, take_turns
from detection.arguments import HYPERPARAMETERS
from detection.evidence import gather_evidence
from detection.grid import PER_CLASS, Grid
from detection.proposals import DetectionSettings, propose
from detection.search_result import choose
from detection.search_settings import SearchSettings
from inference.device import DEVICES, choose_device
from inference.predictor import Prediction
from particle_config import PARTICLES
from postprocessing import METHODS, detect

SPACING_ANGSTROM = 10.0
NUM_THRESHOLDS, NUM_RADII = 20, 7


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.search",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--shape", type=int, nargs=3, metavar=("D", "H", "W"), default=config.PHANTOM_SHAPE)
    parser.add_argument("--repeats", type=int, default=3, help="turns of each side")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--device", choices=DEVICES, default="auto")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    device = choose_device(args.device, "fp32")
    centres = particle_centres(tuple(args.shape))
    probability = make_map(tuple(args.shape), centres).to(device)[None]
    print(f"{len(centres)} particles in {' x '.join(map(str, args.shape))} voxels on {device.type}\n")
    print("| method | detection, s | search, s | ratio | detection, CPU s | search, CPU s | ratio |")
    print("|---|---|---|---|---|---|---|")
    for method in args.methods:
        once, search = take_turns(sides(method, probability, centres), args.repeats)
        pairs = ((once.seconds, search.seconds), (once.cpu_seconds, search.cpu_seconds))
        cells = [f"{a:.3g} | {b:.3g} | {b / a:.2f}" for a, b in pairs]
        print(f"| {method} | {' | '.join(cells)} |", flush=True)


def sides(method: str, probability: torch.Tensor, centres_zyx: np.ndarray) -> tuple[Callable, Callable]:
    """One detection with the defaults, and the search about them."""
    particle = dataclasses.replace(PARTICLES[3], label=0, radius_angstrom=RADIUS_VOXELS * SPACING_ANGSTROM)
    fraction = TRAINED_RADIUS_VOXELS / RADIUS_VOXELS
    rows = [row for row in HYPERPARAMETERS if method in row.methods]
    defaults = {particle.name: {row.keyword: row.default_for(method) for row in rows}}
    known = METHODS[method]
    grid = {keyword: (value,) for keyword, value in defaults[particle.name].items()}
    grid["nms_radius_fraction"] = tuple(np.linspace(0.5, 1.4, NUM_RADII))
    grid[known.score_keyword or known.size_keyword] = tuple(np.geomspace(0.02, 0.9, NUM_THRESHOLDS))
    settings = SearchSettings(PER_CLASS, Grid(method, grid), DetectionSettings(fraction, method, defaults))
    prediction = Prediction(probability, None, 1)
    truth = {particle.name: centres_zyx * SPACING_ANGSTROM}

    def once():
        return detect(
            probability,
            method=method,
            particles=[particle],
            voxel_spacing_angstrom=SPACING_ANGSTROM,
            trained_radius_fraction=fraction,
            hyperparameters=defaults,
        )

    def search():
        where = {"run_name": "map", "voxel_spacing_angstrom": SPACING_ANGSTROM}
        proposals = propose(prediction, settings.detection, [particle], **where, grid=settings.grid)
        evidence = gather_evidence(proposals, truth, settings.grid)
        return choose({particle.name: [evidence[particle.name]]}, settings, [particle], ["map"])

    return once, search


if __name__ == "__main__":
    run_script(main)
