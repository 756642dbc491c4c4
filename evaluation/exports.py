"""Result files: picks and threshold curves of a run, the submission, the scores."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.files import atomic_path
from data.picks import picks_table, read_picks, table_coordinates_zyx, write_picks, write_submission
from evaluation.training_use import TrainingUse
from metrics.fbeta import Score
from metrics.threshold_curve import ThresholdCurve
from particle_config import Particle

# Hidden, since it lies among the picks of a tomogram.
CURVES = ".threshold_curves.json"


def write_run_picks(folder: Path, run_name: str, table: pd.DataFrame, particles: Sequence[Particle]) -> None:
    """One picks JSON per particle, also for a particle that was not found."""
    folder.mkdir(parents=True, exist_ok=True)
    for particle in particles:
        rows = table[table["particle_type"] == particle.name]
        write_picks(
            folder / f"{particle.name}.json",
            particle_name=particle.name,
            run_name=run_name,
            coordinates_zyx_angstrom=table_coordinates_zyx(rows),
            scores=rows["score"].to_numpy(),
            uncertainties=rows["uncertainty"].to_numpy(),
            sizes_voxels=rows["size_voxels"].to_numpy(),
            confidences=rows["confidence"].to_numpy(),
            user_id="etfinder",
        )


def read_run_picks(folder: Path, run_name: str, particles: Sequence[Particle]) -> pd.DataFrame:
    """The table that :func:`write_run_picks` wrote, in the order of the particles."""
    tables = []
    for particle in particles:
        picks = read_picks(folder / f"{particle.name}.json")
        count = len(picks.coordinates_zyx_angstrom)
        values = (
            np.full(count, np.nan) if values is None else values
            for values in (picks.scores, picks.uncertainties, picks.sizes_voxels, picks.confidences)
        )
        tables.append(picks_table(run_name, particle.name, picks.coordinates_zyx_angstrom, *values))
    return pd.concat(tables, ignore_index=True)


def write_curves(folder: Path, curves: Mapping[str, ThresholdCurve]) -> None:
    content = {
        name: {
            "scores": curve.scores.tolist(),
            "hit_scores": [score if np.isfinite(score) else None for score in curve.hit_scores.tolist()],
        }
        for name, curve in curves.items()
    }
    (folder / CURVES).write_text(json.dumps(content) + "\n", encoding="utf-8")


def read_curves(folder: Path) -> dict[str, ThresholdCurve]:
    content = json.loads((folder / CURVES).read_text(encoding="utf-8"))
    return {
        name: ThresholdCurve(
            np.array(one["scores"], dtype=float),
            np.array([-np.inf if score is None else score for score in one["hit_scores"]], dtype=float),
        )
        for name, one in content.items()
    }


def write_results(
    output_dir: Path,
    picks: pd.DataFrame,
    score: Score | None,
    training_uses: Mapping[str, TrainingUse],
    failures: Mapping[str, Exception],
    settings: Mapping[str, Any],
    windows_zyx: Mapping[str, Sequence[Sequence[int]]],
) -> None:
    """submission.csv and scores.json: score (null without truth), runs, failures, settings (dataclasses), windows."""
    write_submission(output_dir / "submission.csv", picks)
    counts = picks["experiment"].value_counts()
    by_run = score.weighted_per_run.to_dict() if score is not None else {}
    content = {
        "score": score.as_dict() if score is not None else None,
        "scored_runs": sorted(by_run),
        "runs": {
            name: {"picks": int(counts.get(name, 0)), "weighted_f4": by_run.get(name), **asdict(use)}
            for name, use in training_uses.items()
        },
        "failed_runs": {name: str(error) for name, error in failures.items()},
        "settings": {name: asdict(one) for name, one in settings.items()},
        "windows_zyx": windows_zyx,
    }
    with atomic_path(output_dir / "scores.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
