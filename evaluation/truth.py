"""The reference points that tomograms are scored by, and the score."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data.czi import Run
from data.files import entries
from data.picks import read_known_picks, run_table, table_coordinates_zyx
from metrics.fbeta import MATCH_RADIUS_FRACTION, Score, best_candidates, check_references, score_picks
from particle_config import Particle

# Named in a warning.
MOST_FILES = 3


def truths_of(runs: Sequence[Run], particles: Sequence[Particle]) -> dict[str, pd.DataFrame]:
    """Run name -> reference points, of the runs that have any of these particles.

    Warns of picks of other particles, which are not scored, and of particles in the score that no run has.
    InputError where the points cannot be scored by.
    """
    truths: dict[str, pd.DataFrame] = {}
    unknown: dict[Path, str] = {}
    for run in runs:
        if entries(run.picks_dir, "*.json"):
            known, others = read_known_picks(run.picks_dir, particles)
            unknown |= others
            if known:
                truths[run.name] = run_table(run.name, known)
        elif run.annotation_paths:
            warnings.warn(
                f"{run.name} has annotations that are not prepared, so it is not scored: "
                "run prepare_fullpublic_eval_annotations.py first",
                stacklevel=2,
            )
    for truth in truths.values():
        check_references(truth)
    _warn_of_unknown(unknown, particles)
    _warn_of_missing(truths, particles)
    return truths


def _warn_of_unknown(unknown: Mapping[Path, str], particles: Sequence[Particle]) -> None:
    for name in dict.fromkeys(unknown.values()):
        files = [str(path) for path in unknown if unknown[path] == name]
        more = f" and {len(files) - MOST_FILES} more" if len(files) > MOST_FILES else ""
        warnings.warn(
            f"picks of {name!r} are not scored, since the networks know only "
            f"{', '.join(particle.name for particle in particles)}: {', '.join(files[:MOST_FILES])}{more}",
            stacklevel=3,
        )


def _warn_of_missing(truths: Mapping[str, pd.DataFrame], particles: Sequence[Particle]) -> None:
    there = {name for truth in truths.values() for name in truth["particle_type"]}
    missing = [particle.name for particle in particles if particle.score_weight and particle.name not in there]
    if there and missing:
        warnings.warn(
            f"no run has picks of {', '.join(missing)}: by the rules of the challenge they count as F4 = 0 in the "
            "weighted score; see the F4 of each particle",
            stacklevel=3,
        )


def by_particle(truth: pd.DataFrame) -> dict[str, np.ndarray]:
    """Particle name -> (N, 3) zyx of a picks table."""
    return {name: table_coordinates_zyx(rows) for name, rows in truth.groupby("particle_type")}


def score_of(picks: pd.DataFrame, truths: Mapping[str, pd.DataFrame], particles: Sequence[Particle]) -> Score | None:
    """The score over the runs with reference points; None where there are none."""
    truth = [table for table in truths.values() if len(table)]
    return score_picks(picks, pd.concat(truth, ignore_index=True), particles=particles) if truth else None


def hits_of(
    picks: pd.DataFrame, truths: Mapping[str, pd.DataFrame], particles: Sequence[Particle]
) -> list[bool | None]:
    """Whether each row of a picks table is a hit; None where its run has no reference points.

    Of several picks near one reference that of the highest score is the hit, as in overlays.
    """
    radii = {particle.name: MATCH_RADIUS_FRACTION * particle.radius_angstrom for particle in particles}
    hits = np.full(len(picks), None, dtype=object)
    for (run, name), rows in picks.reset_index(drop=True).groupby(["experiment", "particle_type"], sort=False):
        if run in truths and len(truths[run]):
            true = by_particle(truths[run]).get(name, np.empty((0, 3)))
            best = best_candidates(table_coordinates_zyx(rows), rows["score"].to_numpy(), true, radii[name])
            hits[rows.index] = np.isin(np.arange(len(rows)), best)
    return [None if hit is None else bool(hit) for hit in hits]
