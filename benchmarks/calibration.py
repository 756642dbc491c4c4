"""What scores and confidences are worth: how often picks of each were hits, on tomograms that nobody calibrated on.

    python eval_public_czi.py --model_path CHECKPOINT --data_root DATA/public --output_dir ALL \\
        --fixed_plm_gpu_peak_thresh 0.02
    python -m benchmarks.calibration --picks ALL/submission.csv --truth DATA/public

A hit is the best pick in the range of a reference, as the score counts them. The calibration error is the mean distance
between what a pick says and the share of hits among those that say the same (ten equal bins); the Brier score is the
mean squared distance from 0 or 1. Lower is better, of both.
"""

from command_line import run_script

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from data.czi import find_runs
from data.picks import read_picks_table, table_coordinates_zyx, truth_table
from errors import InputError
from metrics.fbeta import MATCH_RADIUS_FRACTION, best_candidates
from particle_config import PARTICLES

BINS = 10
SAYS = ("score", "confidence")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.calibration",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--picks", type=Path, required=True, help="a submission.csv with confidences")
    parser.add_argument("--truth", type=Path, required=True, help="a data root with picks")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    picks = read_picks_table(args.picks)
    if "confidence" not in picks or picks["confidence"].isna().all():
        raise InputError(f"{args.picks} has no confidences; hyperparameters of a training or a search bring them")
    picks = picks[picks["confidence"].notna()].reset_index(drop=True)
    hits = is_hit(picks, truth_table(find_runs(args.truth)))
    print("| | calibration error | Brier score |\n|---|---|---|")
    for name in SAYS:
        says = picks[name].to_numpy()
        print(f"| {name} | {calibration_error(says, hits):.4f} | {np.mean((says - hits) ** 2):.4f} |")
    print(f"\n{reliability(picks['confidence'].to_numpy(), hits)}")


def is_hit(picks: pd.DataFrame, truth: pd.DataFrame) -> np.ndarray:
    """(N,) whether each pick is the best one near some reference of its run and particle."""
    hits = np.zeros(len(picks), dtype=bool)
    for particle in PARTICLES:
        reach = MATCH_RADIUS_FRACTION * particle.radius_angstrom
        references = truth[truth["particle_type"] == particle.name]
        for run, rows in picks[picks["particle_type"] == particle.name].groupby("experiment"):
            true = table_coordinates_zyx(references[references["experiment"] == run])
            best = best_candidates(table_coordinates_zyx(rows), rows["score"].to_numpy(), true, reach)
            hits[rows.index[best[best >= 0]]] = True
    return hits


def calibration_error(says: np.ndarray, hits: np.ndarray) -> float:
    index = bins(says)
    errors = [abs(says[index == k].sum() - hits[index == k].sum()) for k in range(BINS)]
    return sum(errors) / len(says)


def bins(says: np.ndarray) -> np.ndarray:
    return np.minimum((says * BINS).astype(int), BINS - 1)


def reliability(says: np.ndarray, hits: np.ndarray) -> str:
    """A line for each bin that holds any picks."""
    lines = ["| confidence | picks | mean confidence | share of hits |", "|---|---|---|---|"]
    index = bins(says)
    for k in np.unique(index):
        inside = index == k
        low, high = k / BINS, (k + 1) / BINS
        lines.append(
            f"| {low:.1f} to {high:.1f} | {inside.sum()} | {says[inside].mean():.2f} | {hits[inside].mean():.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(main)
