"""The loop over runs: predict, pick, write; score where the truth is known."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from data.czi import Run
from data.picks import truth_table
from evaluation.exports import write_results, write_run_picks
from evaluation.overlays import save_overlay
from evaluation.tomograms import DetectionSettings, TomogramSettings, open_tomograms, picks_of, predict_runs
from inference.predictor import Predictor
from metrics.fbeta import Score, score_picks
from particle_config import Particle


@dataclass(frozen=True)
class Evaluation:
    """Picks of all runs, the score over the runs with truth (None without), and one picture per run."""

    picks: pd.DataFrame
    score: Score | None
    scored_runs: tuple[str, ...]
    pictures: tuple[Path, ...]


def evaluate_runs(
    runs: Sequence[Run],
    predictor: Predictor,
    tomogram_settings: TomogramSettings,
    detection_settings: DetectionSettings,
    *,
    particles: Sequence[Particle],
    output_dir: Path,
) -> Evaluation:
    """Find the particles of every run, write all results below ``output_dir``."""
    voxels = sum(math.prod(tomogram.shape_zyx) for tomogram in open_tomograms(runs, tomogram_settings))
    truths = {run.name: truth for run in runs if (truth := _truth(run, particles)) is not None}
    tables, pictures = [], []
    with tqdm(total=voxels, unit="voxel", unit_scale=True, dynamic_ncols=True, disable=None) as bar:
        for tomogram in predict_runs(runs, predictor, tomogram_settings, progress=bar.update):
            name = tomogram.run.name
            table = picks_of(tomogram, detection_settings, particles)
            write_run_picks(output_dir / "picks" / name, name, table, particles)
            picture = save_overlay(
                output_dir / "overlays" / f"{name}.png",
                tomogram.volume,
                picks=table,
                truth=truths.get(name),
                voxel_spacing_angstrom=tomogram.voxel_spacing_angstrom,
                particles=particles,
                title=name,
            )
            tables.append(table)
            pictures.append(picture)
            bar.write(f"{name}: {len(table)} picks")
            del tomogram  # its map need not be there while the next is computed
    picks = pd.concat(tables, ignore_index=True)
    truth = [table for table in truths.values() if len(table)]
    score = score_picks(picks, pd.concat(truth, ignore_index=True), particles=particles) if truth else None
    evaluation = Evaluation(picks, score, tuple(sorted(truths)), tuple(pictures))
    settings = {"tomograms": tomogram_settings, "inference": predictor.settings, "detection": detection_settings}
    write_results(output_dir, picks, score, evaluation.scored_runs, settings)
    return evaluation


def _truth(run: Run, particles: Sequence[Particle]) -> pd.DataFrame | None:
    """The run's reference points, or None where there are none (said once, when they only need preparing)."""
    if any(run.picks_dir.glob("*.json")):
        return truth_table([run], particles)
    if run.annotation_paths:
        warnings.warn(
            f"{run.name} has annotations that are not prepared, so it is not scored: "
            "run prepare_fullpublic_eval_annotations.py first",
            stacklevel=2,
        )
    return None
