"""Which rule finds thresholds that hold on other tomograms: some choose, all others are scored.

    python eval_public_czi.py --model_path CHECKPOINT --data_root DATA --output_dir all --fixed_plm_gpu_peak_thresh 0.02
    python -m benchmarks.thresholds --picks all/submission.csv --truth DATA
    python -m benchmarks.thresholds --picks all/submission.csv --truth DATA \
        --other_picks other/submission.csv --other_truth OTHER

Every choice of --choosers tomograms (at most 20 of them, drawn) sets thresholds in turn. With other picks, of the same
network in tomograms of another kind, these are scored.

The picks must come with a score column, down to scores below any sensible threshold.
"""

from command_line import run_script

import argparse
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from data.czi import find_runs
from data.picks import read_picks_table, table_coordinates_zyx, truth_table
from errors import InputError
from metrics.calibration import expected_f_beta, worthwhile_score
from metrics.fbeta import MATCH_RADIUS_FRACTION, score_picks
from metrics.threshold_curve import ThresholdCurve, logit, mean_smoothed_f_beta, pooled, threshold_curve
from particle_config import PARTICLES, Particle

Rule = Callable[[list[ThresholdCurve]], float]
Tables = tuple[pd.DataFrame, pd.DataFrame]  # picks, truth
# 1.06 is Silverman's rule.
FACTORS = (0.53, 1.06, 1.59, 2.12)
LARGEST_NUMBER = 20
# To choose from: lower than the picks go nobody knows what there is.
THRESHOLDS = np.arange(0.02, 0.98, 0.01)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.thresholds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--picks", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--choosers", type=int, default=1, help="tomograms that choose together")
    parser.add_argument("--other_picks", type=Path)
    parser.add_argument("--other_truth", type=Path)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    if (args.other_picks is None) != (args.other_truth is None):
        raise InputError("--other_picks and --other_truth belong together; give both or neither")
    picks, truth = tables_of(args.picks, args.truth)
    others = None if args.other_picks is None else tables_of(args.other_picks, args.other_truth)
    choices = list(combinations(sorted(truth["experiment"].unique()), args.choosers))
    if not choices or args.choosers == truth["experiment"].nunique():
        raise InputError(f"--choosers {args.choosers}: one tomogram at least must be left; give fewer")
    np.random.default_rng(0).shuffle(choices)
    rules: dict[str, Rule] = {"maximum of the curve": maximum}
    rules |= {f"smoothed, factor {factor}": smoothed(factor) for factor in FACTORS}
    rules |= {"expected by the calibration": expected, "mean of smoothed (1.59) and expected": both}
    rules |= {"worthwhile": worthwhile, "half way between the last two": half_way}
    print("| rule | F4 on the other tomograms, mean | standard deviation | worst |\n|---|---|---|---|")
    for name, rule in rules.items():
        scores = [score_of_others(picks, truth, tuple(runs), rule, others) for runs in choices[:LARGEST_NUMBER]]
        print(f"| {name} | {np.mean(scores):.4f} | {np.std(scores):.4f} | {min(scores):.4f} |")


def tables_of(picks: Path, truth: Path) -> Tables:
    table = read_picks_table(picks)
    if "score" not in table:
        raise InputError(f"{picks} has no score column; make it with eval_public_czi.py")
    return table, truth_table(find_runs(truth))


def maximum(curves: list[ThresholdCurve]) -> float:
    """The score at which the curve itself is highest."""
    curve = pooled(curves)
    return float(curve.thresholds[np.argmax(curve.f_beta())]) if len(curve.scores) else 0.5


def smoothed(factor: float) -> Rule:
    """The threshold at which the mean of the smoothed curves is highest."""

    def rule(curves: list[ThresholdCurve]) -> float:
        bandwidth = pooled(curves).bandwidth(factor)
        return highest(sum(curve.smoothed_f_beta(THRESHOLDS, bandwidth) for curve in curves))

    return rule


def expected(curves: list[ThresholdCurve]) -> float:
    """Where the F4 is highest that the calibration of their scores lets expect."""
    return highest(expected_f_beta(curves, THRESHOLDS))


def both(curves: list[ThresholdCurve]) -> float:
    """Where the mean of both is highest."""
    return highest(mean_smoothed_f_beta(curves, THRESHOLDS) + expected_f_beta(curves, THRESHOLDS))


def worthwhile(curves: list[ThresholdCurve]) -> float:
    """The score from which on a candidate is worth taking."""
    score = worthwhile_score(curves)
    return both(curves) if score is None else score


def half_way(curves: list[ThresholdCurve]) -> float:
    """Half way between the last two, on the logit scale: the rule in use."""
    return float(expit((logit(both(curves)) + logit(worthwhile(curves))) / 2))


def highest(values: np.ndarray) -> float:
    return float(THRESHOLDS[np.argmax(values)]) if values.any() else 0.5


def score_of_others(
    picks: pd.DataFrame, truth: pd.DataFrame, choosers: tuple[str, ...], rule: Rule, others: Tables | None = None
) -> float:
    """Weighted F4 of all runs but some, or of other tomograms, at the thresholds that these choose."""
    thresholds = {p.name: rule([curve_of(picks, truth, run, p) for run in choosers]) for p in PARTICLES}
    if others is not None:
        picks, truth = others
    kept = picks[picks["score"] >= picks["particle_type"].map(thresholds).astype(float)]
    return score_picks(kept, truth if others is not None else truth[~truth["experiment"].isin(choosers)]).weighted


def curve_of(picks: pd.DataFrame, truth: pd.DataFrame, run: str, particle: Particle) -> ThresholdCurve:
    def rows(table: pd.DataFrame) -> pd.DataFrame:
        return table[(table["experiment"] == run) & (table["particle_type"] == particle.name)]

    return threshold_curve(
        [(table_coordinates_zyx(rows(picks)), rows(picks)["score"].to_numpy())],
        [table_coordinates_zyx(rows(truth))],
        MATCH_RADIUS_FRACTION * particle.radius_angstrom,
    )


if __name__ == "__main__":
    run_script(main)
