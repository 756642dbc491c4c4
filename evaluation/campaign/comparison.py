"""The tables of a campaign: which configuration is best, by how much, and whether that is more than chance."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from evaluation.campaign.configuration import Configuration
from evaluation.runs import Record
from metrics.fbeta import COUNTS, Score, counts_per_run, run_score, score_of_counts
from metrics.localization import offsets_per_particle, position_error
from metrics.statistics import MIN_RUNS, Interval, compare, score_interval
from particle_config import Particle


@dataclass(frozen=True)
class Evaluated:
    """A configuration and what is known of its picks on the evaluated tomograms, of every detector.

    Attributes
    ----------
    runs : names of the tomograms
    counts : detector -> (runs, particles, 3) hits, false picks and misses
    offsets : detector -> particle -> (K, 3) of its pairs, see metrics.localization
    """

    configuration: Configuration
    runs: tuple[str, ...]
    counts: Mapping[str, np.ndarray]
    offsets: Mapping[str, Mapping[str, np.ndarray]]
    particles: tuple[Particle, ...]

    @classmethod
    def of_picks(
        cls,
        configuration: Configuration,
        picks: Iterable[tuple[str, pd.DataFrame]],
        truth: pd.DataFrame,
        particles: Sequence[Particle],
    ) -> "Evaluated":
        """From (detector, picks table); one table at a time is needed. The truth says which runs are scored."""
        runs, counts, offsets = tuple(sorted(truth["experiment"].unique())), {}, {}
        for name, table in picks:
            counts[name] = counts_per_run(table, truth, particles, runs)
            offsets[name] = offsets_per_particle(table, truth, particles=particles)
        return cls(configuration, runs, counts, offsets, tuple(particles))

    @cached_property
    def scores(self) -> dict[str, Score]:
        """Detector -> score."""
        return {name: score_of_counts(counts, self.runs, self.particles) for name, counts in self.counts.items()}

    @cached_property
    def score(self) -> Score:
        """Of the detectors' mean counts: pooled over tomograms and detectors."""
        scores = list(self.scores.values())
        if len(scores) == 1:
            return scores[0]
        return score_of_counts(np.mean([one.counts for one in scores], axis=0), scores[0].runs, self.particles)

    @cached_property
    def interval(self) -> Interval:
        """95 % confidence limits of the pooled score over tomograms."""
        return score_interval(self.score.counts, [particle.score_weight for particle in self.particles])

    @cached_property
    def position_errors(self) -> pd.DataFrame:
        """One row a particle: pairs, rms_z, rms_xy, median_z, median_xy in angstrom, of all detectors."""
        offsets = list(self.offsets.values())
        rows = {p.name: position_error(np.concatenate([one[p.name] for one in offsets])) for p in self.particles}
        return pd.DataFrame([vars(row) for row in rows.values()], index=pd.Index(rows, name="particle"))


def ranked(results: Sequence[Evaluated]) -> list[Evaluated]:
    """Best pooled score first; of equal ones the better mean over tomograms, then by name."""
    return sorted(results, key=lambda one: (-one.score.weighted, -one.score.mean_over_runs, str(one.configuration)))


def as_text(results: Sequence[Evaluated]) -> str:
    """The ranking, to be read."""
    lines = [f"{'':4s} {'pooled F4':>9s} {'95 % interval':>14s} {'mean F4':>8s}"]
    for rank, one in enumerate(ranked(results), start=1):
        limits = f"{one.interval.low:.3f} to {one.interval.high:.3f}" if one.interval.known else "-"
        lines.append(
            f"{rank:3d}. {one.score.weighted:9.4f} {limits:>14s} {one.score.mean_over_runs:8.4f}  {one.configuration}"
        )
    if not results[0].interval.known:
        lines.append(f"too few tomograms for an interval: {len(results[0].score.runs)}, at least {MIN_RUNS} are needed")
    return "\n".join(lines)


def _columns(configuration: Configuration) -> dict[str, str]:
    return vars(configuration)


def intermediate_row(
    configuration: Configuration, detector: str, record: Record, particles: Sequence[Particle]
) -> dict:
    """What one detector found in one tomogram with reference points."""
    return {
        **_columns(configuration),
        "detector": detector,
        "tomogram": record.run_name,
        "picks": record.picks,
        "weighted_f4": run_score(record.counts, particles),
    }


def per_tomogram_table(results: Sequence[Evaluated]) -> pd.DataFrame:
    """One row for each configuration, best first, detector and tomogram; no F4 of a particle that it does not have."""
    rows = []
    for one in ranked(results):
        for detector, score in one.scores.items():
            names = [f"f4_{particle.name}" for particle in one.particles]
            by_run = score.per_run["f4"].to_numpy().reshape(-1, len(names))
            for (run, value), f4 in zip(score.weighted_per_run.items(), by_run, strict=True):
                head = {**_columns(one.configuration), "detector": detector, "tomogram": run, "weighted_f4": value}
                rows.append(head | dict(zip(names, f4, strict=True)))
    return pd.DataFrame(rows)


def paired_tests(results: Sequence[Evaluated]) -> pd.DataFrame:
    """Of all pairs of configurations, best first, see metrics.statistics.compare; first and second are their names."""
    results = ranked(results)
    weights = [particle.score_weight for particle in results[0].particles]
    return compare({str(one.configuration): one.score.counts for one in results}, weights)


def comparison_summary(results: Sequence[Evaluated], tests: pd.DataFrame) -> pd.DataFrame:
    """One row a configuration, ranked by the pooled score, each compared with the best one by ``paired_tests``.

    ``f4_low`` and ``f4_high`` are 95 % confidence limits over tomograms, empty where these are too few. ``differs`` is
    yes where the difference to the best one is more than chance, no where it may be chance, and open where no
    difference could have been shown with so few tomograms; of all pairs that could be compared, adjusted for their
    number. It speaks of these networks, not of others that the same recipes would give.
    """
    results = ranked(results)
    to_best = tests[tests["first"] == str(results[0].configuration)].set_index("second")
    rows = []
    for rank, one in enumerate(results, start=1):
        folds = [score.weighted for score in one.scores.values()]
        row = {
            "rank": rank,
            **_columns(one.configuration),
            "tomograms": len(one.score.runs),
            "pooled_f4": one.score.weighted,
            "f4_low": one.interval.low,
            "f4_high": one.interval.high,
            "mean_over_tomograms_f4": one.score.mean_over_runs,
            "folds": len(folds) if one.configuration.strategy != "kfold_ensemble" else 0,
            "mean_over_folds_f4": np.mean(folds) if len(folds) > 1 else np.nan,
            "std_over_folds_f4": np.std(folds, ddof=1) if len(folds) > 1 else np.nan,
        }
        if rank > 1:
            test = to_best.loc[str(one.configuration)]
            row |= {
                "difference_to_best": 0.0 - test["difference"],
                "p_value": test["p_value"],
                "adjusted_p_value": test["adjusted_p_value"],
                "differs": "yes" if test["real"] else "no" if test["testable"] else "open",
            }
        rows.append(row)
    columns = [*rows[0], "difference_to_best", "p_value", "adjusted_p_value", "differs"]
    return pd.DataFrame(rows, columns=columns)


def comparison_by_particle(results: Sequence[Evaluated]) -> pd.DataFrame:
    """One row for each configuration, best first, and particle; counts of several detectors are their means."""
    rows = []
    for rank, one in enumerate(ranked(results), start=1):
        for particle in one.particles:
            score, error = one.score.per_particle.loc[particle.name], one.position_errors.loc[particle.name]
            folds = [other.per_particle.loc[particle.name, "f4"] for other in one.scores.values()]
            rows.append(
                {
                    "rank": rank,
                    **_columns(one.configuration),
                    "particle": particle.name,
                    "weight": particle.score_weight,
                    **{name: score[name] for name in ("f4", "precision", "recall", *COUNTS)},
                    "mean_over_folds_f4": np.mean(folds) if len(folds) > 1 else np.nan,
                    "std_over_folds_f4": np.std(folds, ddof=1) if len(folds) > 1 else np.nan,
                    "rms_error_z_angstrom": error["rms_z"],
                    "rms_error_xy_angstrom": error["rms_xy"],
                }
            )
    return pd.DataFrame(rows)
