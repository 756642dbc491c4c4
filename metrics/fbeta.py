"""The official score of the CZII CryoET Object Identification challenge.

    python -m metrics.fbeta --picks picks.csv --truth truth.csv
    python -m metrics.fbeta --picks picks.csv --truth /path/to/czi_dataset --runs TS_5_4 TS_69_2

A pick counts when it lies within half the particle's radius of a reference point. Tables have the columns
experiment, particle_type, x, y, z (angstrom); other columns are ignored.
"""

from command_line import run_script

import argparse
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from errors import InputError
from particle_config import PARTICLES, Particle

BETA = 4.0
COUNTS = ["true_positives", "false_positives", "false_negatives"]
# Share of the particle's radius within which a pick is accepted.
MATCH_RADIUS_FRACTION = 0.5


def match_counts(candidates: np.ndarray, references: np.ndarray, radius: float) -> tuple[int, int, int]:
    """Count hits of one particle type in one run, exactly as the challenge does.

    Parameters
    ----------
    candidates, references : (N, 3) and (M, 3) arrays
        Coordinates in the same unit and axis order; either may be empty.
    radius : float
        Match radius in that unit, inclusive.

    Returns
    -------
    (true_positives, false_positives, false_negatives)
        True positives are DISTINCT references with a candidate in range: two candidates on one reference are
        one hit and one false positive; one candidate that reaches two references gives two hits, so that
        false positives can be negative.
    """
    true_positives = int((best_candidates(candidates, np.zeros(len(candidates)), references, radius) >= 0).sum())
    return true_positives, len(candidates) - true_positives, len(references) - true_positives


def best_candidates(candidates: np.ndarray, scores: np.ndarray, references: np.ndarray, radius: float) -> np.ndarray:
    """The candidate of the highest score within ``radius`` of each reference, the first of equal ones.

    Parameters
    ----------
    candidates : (N, 3) array
    scores : (N,) array
    references : (M, 3) array
    radius : float
        Inclusive, in the unit of the coordinates.

    Returns
    -------
    (M,) int array of indices; -1 where there is none. The same candidate can be the best of several references.
    """
    best = np.full(len(references), -1)
    if len(candidates) == 0 or len(references) == 0:
        return best
    near = KDTree(candidates).query_ball_point(references, r=radius, return_sorted=True)
    for index, hits in enumerate(near):
        if hits:
            best[index] = hits[np.argmax(scores[hits])]
    return best


def reference_scores(candidates: np.ndarray, scores: np.ndarray, references: np.ndarray, radius: float) -> np.ndarray:
    """(M,) floats: the highest score within ``radius`` of each reference; -inf where there is none.

    Parameters as in :func:`best_candidates`.
    """
    best = best_candidates(candidates, scores, references, radius)
    return np.where(best >= 0, np.append(scores, -np.inf)[best], -np.inf)


def f_beta(true_positives, false_positives, false_negatives, beta: float = BETA):
    """F-beta from counts (scalars or arrays); 0 where precision or recall is undefined or both are 0."""
    tp, fp, fn = (np.asarray(value, dtype=float) for value in (true_positives, false_positives, false_negatives))
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(tp + fp > 0, tp / (tp + fp), 0.0)
        recall = np.where(tp + fn > 0, tp / (tp + fn), 0.0)
        value = (1 + beta**2) * precision * recall / (beta**2 * precision + recall)
    value = np.where(precision + recall > 0, value, 0.0)
    return value if value.ndim else float(value)


@dataclass(frozen=True)
class Score:
    """The official score and what it is made of.

    Attributes
    ----------
    weighted : pooled, weighted F4: the official score.
    mean_over_runs : mean over the runs of each run's own weighted F4, over the particles it has; not official.
    per_particle : one row a particle: true_positives, false_positives, false_negatives, references, candidates,
        precision, recall, f1, f4, weight.
    per_run : one row a run and particle, in the order of the runs, then of the particles: run, particle,
        true_positives, false_positives, false_negatives, f4 (NaN where the run has no such reference).
    weighted_per_run : run -> its own weighted F4, over the particles it has.
    """

    weighted: float
    mean_over_runs: float
    per_particle: pd.DataFrame
    per_run: pd.DataFrame
    weighted_per_run: pd.Series

    @property
    def counts(self) -> np.ndarray:
        """(runs, particles, 3) true positives, false positives, false negatives."""
        return self.per_run[COUNTS].to_numpy().reshape(-1, len(self.per_particle), 3)

    @property
    def runs(self) -> list[str]:
        return self.weighted_per_run.index.tolist()

    def as_dict(self) -> dict:
        rows = self.per_particle.reset_index().to_dict(orient="records")
        return {"weighted_f4": self.weighted, "mean_over_runs_f4": self.mean_over_runs, "per_particle": rows}

    def __str__(self) -> str:
        lines = [
            f"{'particle':22s} {'F4':>7s} {'precision':>9s} {'recall':>7s} {'F1':>7s} "
            f"{'TP':>6s} {'FP':>6s} {'FN':>6s} {'weight':>6s}"
        ]
        for row in self.per_particle.itertuples():
            lines.append(
                f"{row.Index:22s} {row.f4:7.4f} {row.precision:9.3f} {row.recall:7.3f} {row.f1:7.3f} "
                f"{row.true_positives:6g} {row.false_positives:6g} {row.false_negatives:6g} {row.weight:6g}"
            )
        lines.append(f"{'weighted F4':22s} {self.weighted:7.4f}   (mean over runs {self.mean_over_runs:.4f})")
        return "\n".join(lines)


def score_picks(
    candidates: pd.DataFrame,
    references: pd.DataFrame,
    *,
    particles: Iterable[Particle] = PARTICLES,
    runs: Sequence[str] | None = None,
    beta: float = BETA,
) -> Score:
    """Score picks against the truth by the challenge's rules.

    Parameters
    ----------
    candidates, references : DataFrame
        Columns experiment, particle_type, x, y, z (angstrom).
    particles : the particle table; an unknown type in either table is an error.
    runs : the runs to score; default all runs of the references. Candidates of other runs are dropped.
    beta : weight of recall against precision.

    Returns
    -------
    Score
        Counts are summed over runs before F is computed. A particle without references counts as 0.

    Raises
    ------
    InputError
        Unknown particle type, duplicate reference points, or a requested run without references.
    """
    particles = tuple(particles)
    _check_tables(candidates, references, particles)
    known_runs = sorted(references["experiment"].unique())
    runs = known_runs if runs is None else list(dict.fromkeys(runs))
    if missing := sorted(set(runs) - set(known_runs)):
        raise InputError(f"no reference points for run {missing[0]}; the truth has {_some(known_runs)}")

    return score_of_counts(counts_per_run(candidates, references, particles, runs), runs, particles, beta=beta)


def score_of_counts(
    counts: np.ndarray, runs: Sequence[str], particles: Iterable[Particle], *, beta: float = BETA
) -> Score:
    """The score of counts (runs, particles, 3) as in :attr:`Score.counts`, or of means of such counts."""
    particles = tuple(particles)
    per_particle = pd.DataFrame(
        [_summary_row(particle, *pooled, beta) for particle, pooled in zip(particles, counts.sum(axis=0), strict=True)]
    ).set_index("particle")
    per_run = _per_run_table(counts, runs, particles, beta)
    weighted_per_run = _weighted_per_run(counts, runs, particles, beta)
    return Score(
        weighted=_weighted(per_particle["f4"].to_numpy(), particles),
        mean_over_runs=float(weighted_per_run.mean()),
        per_particle=per_particle,
        per_run=per_run,
        weighted_per_run=weighted_per_run,
    )


def counts_per_run(
    candidates: pd.DataFrame, references: pd.DataFrame, particles: Sequence[Particle], runs: Sequence[str]
) -> np.ndarray:
    """(runs, particles, 3) true positives, false positives and false negatives; the tables are not checked."""
    found, true, nothing = points(candidates), points(references), np.empty((0, 3))
    counts = [
        match_counts(
            found.get((run, particle.name), nothing),
            true.get((run, particle.name), nothing),
            MATCH_RADIUS_FRACTION * particle.radius_angstrom,
        )
        for run in runs
        for particle in particles
    ]
    return np.array(counts, dtype=int).reshape(len(runs), len(particles), 3)


def points(table: pd.DataFrame) -> dict[tuple[str, str], np.ndarray]:
    """(run, particle) -> (N, 3) zyx of a picks table."""
    coordinates = table[["z", "y", "x"]].to_numpy(float)
    rows = table.groupby(["experiment", "particle_type"], sort=False).indices
    return {key: coordinates[of] for key, of in rows.items()}


def _summary_row(particle: Particle, tp: np.number, fp: np.number, fn: np.number, beta: float) -> dict:
    return {
        "particle": particle.name,
        "true_positives": tp.item(),
        "false_positives": fp.item(),
        "false_negatives": fn.item(),
        "references": (tp + fn).item(),
        "candidates": (tp + fp).item(),
        "precision": float(tp / (tp + fp)) if tp + fp > 0 else 0.0,
        "recall": float(tp / (tp + fn)) if tp + fn > 0 else 0.0,
        "f1": f_beta(tp, fp, fn, beta=1.0),
        "f4": f_beta(tp, fp, fn, beta=beta),
        "weight": particle.score_weight,
    }


def _weighted(values: np.ndarray, particles: Sequence[Particle], mask: np.ndarray | None = None) -> float:
    weights = np.array([particle.score_weight for particle in particles])
    if mask is not None:
        weights = weights * mask
    return float((weights * values).sum() / weights.sum()) if weights.sum() > 0 else 0.0


def _per_run_table(counts: np.ndarray, runs: Sequence[str], particles: Sequence[Particle], beta: float) -> pd.DataFrame:
    stacked = counts.reshape(-1, 3)  # (runs * particles, 3)
    table = pd.DataFrame(stacked, columns=COUNTS)
    table.insert(0, "run", np.repeat(runs, len(particles)))
    table.insert(1, "particle", np.tile([particle.name for particle in particles], len(runs)))
    values = f_beta(*stacked.T, beta)
    return table.assign(f4=np.where(stacked[:, 0] + stacked[:, 2] > 0, values, np.nan))


def run_score(counts: np.ndarray, particles: Sequence[Particle], *, beta: float = BETA) -> float:
    """One run's own weighted F-beta, over the particles that it has; counts (particles, 3)."""
    there = counts[:, 0] + counts[:, 2] > 0
    return _weighted(np.where(there, f_beta(*counts.T, beta), 0.0), particles, there)


def _weighted_per_run(counts: np.ndarray, runs: Sequence[str], particles: Sequence[Particle], beta: float) -> pd.Series:
    scores = [run_score(one, particles, beta=beta) for one in counts]
    return pd.Series(scores, index=np.asarray(runs, dtype=object), name="weighted_f4", dtype=float)


def _check_tables(candidates: pd.DataFrame, references: pd.DataFrame, particles: Sequence[Particle]) -> None:
    names = {particle.name for particle in particles}
    for table, what in ((candidates, "picks"), (references, "truth")):
        if unknown := sorted(set(table["particle_type"]) - names):
            raise InputError(f"unknown particle type {unknown[0]!r} in the {what}; the table knows {_some(names)}")
    check_references(references)


def check_references(references: pd.DataFrame) -> None:
    """InputError where two reference points of a run are the same, whatever their particle types."""
    repeated = references.duplicated(subset=["experiment", "x", "y", "z"])
    if repeated.any():
        row = references[repeated].iloc[0]
        raise InputError(
            f"duplicate reference point in the truth: run {row.experiment}, x {row.x}, y {row.y}, z {row.z}; "
            "remove the repeated row"
        )


def _some(names: Iterable[str], most: int = 8) -> str:
    names = sorted(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def build_parser() -> argparse.ArgumentParser:
    from data.files import path_argument

    parser = argparse.ArgumentParser(
        prog="python -m metrics.fbeta",
        description="Score picks by the rules of the CZII challenge.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--picks",
        type=path_argument,
        required=True,
        help="CSV: experiment,particle_type,x,y,z (angstrom)",
    )
    parser.add_argument("--truth", type=path_argument, required=True, help="such a CSV, or a data root with picks")
    parser.add_argument("--runs", nargs="+", metavar="RUN", help="score these runs only (default: all of the truth)")
    return parser


def main(argv: list[str] | None = None) -> None:
    # The command line reads files; the metric itself knows tables only and imports no other room.
    from data.czi import find_runs
    from data.files import entries
    from data.picks import read_picks_table, truth_table

    args = build_parser().parse_args(argv)
    picks = read_picks_table(args.picks)
    if args.truth.is_dir():
        found = find_runs(args.truth, names=args.runs)
        # A run that was asked for must have picks; of the others those without are no part of the truth.
        known = [run for run in found if args.runs is not None or entries(run.picks_dir, "*.json")]
        if without := [run.name for run in found if run not in known]:
            warnings.warn(f"not scored, without picks in {args.truth}: {_some(without)}", stacklevel=2)
        truth, annotated = truth_table(known), {run.name for run in known}
    else:
        truth = read_picks_table(args.truth)
        annotated = set(truth["experiment"])
    there = set(picks["experiment"])
    if args.runs is None and (unknown := there - annotated):
        warnings.warn(f"picks of runs that the truth does not have are dropped: {_some(unknown)}", stacklevel=2)
    if args.runs is not None and (missing := set(args.runs) - there):
        warnings.warn(f"{args.picks} has no picks of: {_some(missing)}; are these its names of runs?", stacklevel=2)
    print(score_picks(picks, truth, runs=args.runs))


if __name__ == "__main__":
    run_script(main)
