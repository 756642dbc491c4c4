"""How networks do on tomograms of another filter or program: F4 of each network on each data set, filtered each way.

    python -m benchmarks.carry_over --models sim=SIM.ckpt phantom=PHANTOM.ckpt \
        --data_roots sim=SIM/public phantom=PHANTOM/public --low_pass_angstrom 0 20 30 40

Tomograms are low-passed as given (Butterworth filter, 0: as they are), normalised as in the training of each network,
and matched to its spectrum in each way of --matching. Particles are found at the thresholds of the checkpoint, which
come from its training, and scored by the challenge's rules; in brackets the score at the best threshold of every
particle on those tomograms, which nobody knows who has no truth: what choosing thresholds costs. There overlaps of
different particles are left.
"""

from command_line import run_script

import argparse
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

import config
from benchmarks.inference import default_predictor, view_flags
from data.czi import Run, find_runs
from data.picks import table_coordinates_zyx, truth_table
from data.spectrum import SHELLS, filtered
from detection.proposals import DetectionSettings, accept, propose, threshold_curves
from errors import InputError
from inference.checkpoints import load_checkpoint
from inference.device import DEVICES
from inference.tomograms import MATCHING, SourceTomogram, TomogramSettings
from metrics.fbeta import score_picks
from metrics.threshold_curve import ThresholdCurve, pooled
from particle_config import PARTICLES
from tta.orientations import ORIENTATIONS

ORDER = 4
# Picks of a tomogram, and the curve of every particle.
Found = tuple[pd.DataFrame, dict[str, ThresholdCurve]]


def named_path(text: str) -> tuple[str, Path]:
    name, given, path = text.partition("=")
    if not given or "/" in name or Path(text).exists():  # names of checkpoints have this sign, too
        return Path(text).name, Path(text)
    return name, Path(path)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.carry_over",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--models", type=named_path, nargs="+", required=True, metavar="NAME=CKPT")
    parser.add_argument("--data_roots", type=named_path, nargs="+", required=True, metavar="NAME=DIR")
    parser.add_argument("--tomo_type", help="default: as in training")
    parser.add_argument("--low_pass_angstrom", type=float, nargs="+", default=[0.0], metavar="A")
    parser.add_argument("--matching", nargs="+", choices=MATCHING, default=["off", "auto"])
    parser.add_argument("--resolve_overlaps", action=argparse.BooleanOptionalAction, default=config.RESOLVE_OVERLAPS)
    parser.add_argument("--tta_group", choices=ORIENTATIONS, default="none")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    print("| network | data | low-pass, A | " + " | ".join(f"F4, matching {one}" for one in args.matching) + " |")
    print("|---|---|---|" + "---|" * len(args.matching))
    for (model, path), (data, root), low_pass in product(args.models, args.data_roots, args.low_pass_angstrom):
        scores = [f"{one:.3f} ({best:.3f})" for one, best in weighted_scores(args, path, root, low_pass)]
        shown = f"{low_pass:g}" if low_pass else "none"
        print(f"| {model} | {data} | {shown} | {' | '.join(scores)} |", flush=True)


def weighted_scores(
    args: argparse.Namespace, path: Path, root: Path, low_pass_angstrom: float
) -> list[tuple[float, float]]:
    """The score with each way of matching, and that at the best thresholds.

    Where matching changes no tomogram, the network runs once.
    """
    network, trained = load_checkpoint(path)
    predict = default_predictor(network, ["--device", args.device, *view_flags(args.tta_group)])
    settings = TomogramSettings(
        args.tomo_type or trained.tomo_types[0],
        trained.norm_percentiles,
        trained.voxel_spacing_angstrom,
        spectrum=trained.spectrum,
        spectrum_range=trained.spectrum_range,
    )
    if trained.spectrum is None:
        raise InputError(f"{path} does not say what its training tomograms looked like; train it again")
    detection = DetectionSettings(
        trained.radius_fraction, config.POSTPROCESSING_METHOD, trained.hyperparameters[config.POSTPROCESSING_METHOD]
    )
    runs, found = find_runs(root, tomo_type=settings.tomo_type), {one: [] for one in args.matching}
    points = {run.name: truth_of(run) for run in runs}
    for run in tqdm(runs, path.stem, leave=False, disable=None):
        known: list[tuple[np.ndarray, Found]] = []
        for one in args.matching:
            source = LowPassed(run, replace(settings, match_spectrum=one), low_pass_angstrom)
            voxels = source.voxels()[1]
            same = next((its for other, its in known if np.array_equal(other, voxels)), None)
            if same is None:
                where = {"run_name": run.name, "voxel_spacing_angstrom": source.voxel_spacing_angstrom}
                proposals, values = propose(predict(voxels), detection, PARTICLES, **where), detection.hyperparameters
                picks = accept(proposals, values, overlaps={} if args.resolve_overlaps else None)
                same = picks, threshold_curves(proposals, values, points[run.name])
                known.append((voxels, same))
            found[one].append(same)
    return [scores_of(found[one], truth_table(runs)) for one in args.matching]


def truth_of(run: Run) -> dict[str, np.ndarray]:
    """Particle name -> (M, 3) zyx angstrom."""
    table = truth_table([run])
    return {name: table_coordinates_zyx(rows) for name, rows in table.groupby("particle_type")}


def scores_of(found: Sequence[Found], truth: pd.DataFrame) -> tuple[float, float]:
    """The weighted F4 of picks, and that at the best thresholds, both pooled over the tomograms."""
    given = score_picks(pd.concat([picks for picks, _ in found], ignore_index=True), truth).weighted
    best = {
        particle: pooled([curves[particle.name] for _, curves in found]).f_beta().max(initial=0.0)
        for particle in PARTICLES
    }
    weights = {particle: particle.score_weight for particle in PARTICLES}
    return given, sum(weights[one] * best[one] for one in best) / sum(weights.values())


class LowPassed(SourceTomogram):
    """A tomogram as another program would have filtered it."""

    def __init__(self, run: Run, settings: TomogramSettings, low_pass_angstrom: float) -> None:
        super().__init__(run, settings)
        self.low_pass_angstrom = low_pass_angstrom

    def _grey_values(self) -> np.ndarray:
        volume = super()._grey_values()
        if not self.low_pass_angstrom:
            return volume
        return filtered(volume, butterworth(self.voxel_spacing_angstrom / self.low_pass_angstrom))


def butterworth(cut_off: float) -> Sequence[float]:
    """Gain of each shell; ``cut_off`` in cycles per voxel."""
    frequencies = (np.arange(SHELLS) + 0.5) / SHELLS / 2
    return tuple(1 / (1 + (frequencies / cut_off) ** (2 * ORDER)))


if __name__ == "__main__":
    run_script(main)
