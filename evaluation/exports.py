"""Result files: picks and threshold curves of a run, the submission, the scores.

The picks of a run are kept in one table for all particles, which is what is read again; the JSON files beside it, one a
particle, are for other programs, and are written from it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.files import atomic_path
from data.picks import PICK_COLUMNS, TABLE_COLUMNS, table_coordinates_zyx, write_picks, write_submission
from errors import one_line
from evaluation.training_use import TrainingUse
from metrics.fbeta import Score
from metrics.threshold_curve import ThresholdCurve
from particle_config import Particle

# Hidden, since they lie among the picks of a tomogram.
TABLE = ".picks.csv"
CURVES = ".threshold_curves.json"
# What could not be done; none where all could.
FAILURES_TABLE = "failures.csv"
TEXT_COLUMNS = ("experiment", "particle_type")
COLUMNS = {name: str if name in TEXT_COLUMNS else float for name in (*TABLE_COLUMNS, *PICK_COLUMNS)}


def write_run_table(folder: Path, table: pd.DataFrame) -> None:
    """The picks of all particles; every number is read back as it is."""
    table.to_csv(folder / TABLE, columns=list(COLUMNS), index=False)


def read_run_table(folder: Path) -> pd.DataFrame:
    """The table that :func:`write_run_table` wrote."""
    return pd.read_csv(
        folder / TABLE,
        dtype=COLUMNS,
        keep_default_na=False,  # a run may be called NA
        na_values={name: [""] for name in PICK_COLUMNS},
    )


def write_run_picks(folder: Path, run_name: str, table: pd.DataFrame, particles: Sequence[Particle]) -> None:
    """One picks JSON per particle, also for a particle that was not found; those that are right stay as they are."""
    names, points = table["particle_type"].to_numpy(), table_coordinates_zyx(table)
    scores, uncertainties, sizes, confidences = (table[name].to_numpy() for name in PICK_COLUMNS)
    for particle in particles:
        rows = names == particle.name
        write_picks(
            folder / f"{particle.name}.json",
            particle_name=particle.name,
            run_name=run_name,
            coordinates_zyx_angstrom=points[rows],
            scores=scores[rows],
            uncertainties=uncertainties[rows],
            sizes_voxels=sizes[rows],
            confidences=confidences[rows],
            user_id="etfinder",
        )


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


def write_failures(folder: Path, failures: Mapping[str, Exception]) -> None:
    """Tomogram, and in one line why it could not be done; no file where all could."""
    if not failures:
        (folder / FAILURES_TABLE).unlink(missing_ok=True)
        return
    table = pd.DataFrame({"tomogram": list(failures), "reason": [one_line(error) for error in failures.values()]})
    with atomic_path(folder / FAILURES_TABLE) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


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
        "failed_runs": {name: one_line(error) for name, error in failures.items()},
        "settings": {name: asdict(one) for name, one in settings.items()},
        "windows_zyx": windows_zyx,
    }
    with atomic_path(output_dir / "scores.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
