"""Result files: picks per run and particle, the submission, the scores."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from data.files import atomic_path
from data.picks import table_coordinates_zyx, write_picks, write_submission
from metrics.fbeta import Score
from particle_config import Particle


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


def write_results(
    output_dir: Path,
    picks: pd.DataFrame,
    score: Score | None,
    scored_runs: Sequence[str],
    settings: Mapping[str, Any],
) -> None:
    """submission.csv, scores.json (null without truth), and in it the settings (dataclasses) that led to them."""
    write_submission(output_dir / "submission.csv", picks)
    content = {
        "score": score.as_dict() if score is not None else None,
        "scored_runs": list(scored_runs),
        "settings": {name: asdict(one) for name, one in settings.items()},
    }
    with atomic_path(output_dir / "scores.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
