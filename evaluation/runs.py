"""The loop over runs: predict, pick, write; score where the truth is known."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
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
    truths = truths_of(runs, particles)
    tables, pictures = [], []
    with tqdm(total=voxels, unit="voxel", unit_scale=True, dynamic_ncols=True, disable=None) as bar:
        for tomogram in predict_runs(runs, predictor, tomogram_settings, progress=bar.update):
            table, name = picks_of(tomogram, detection_settings, particles), tomogram.run.name
            spacing = tomogram.voxel_spacing_angstrom
            pictures.append(write_run(output_dir, name, tomogram.volume, spacing, table, truths.get(name), particles))
            tables.append(table)
            bar.write(f"{name}: {len(table)} picks")
            del tomogram  # its map need not be there while the next is computed
    settings = {"tomograms": tomogram_settings, "inference": predictor.settings, "detection": detection_settings}
    return write_evaluation(output_dir, tables, truths, pictures, particles, settings)


def truths_of(runs: Sequence[Run], particles: Sequence[Particle]) -> dict[str, pd.DataFrame]:
    """Run name -> reference points, of the runs that have any."""
    return {run.name: truth for run in runs if (truth := _truth(run, particles)) is not None}


def write_run(
    output_dir: Path,
    name: str,
    volume: np.ndarray,
    voxel_spacing_angstrom: float,
    picks: pd.DataFrame,
    truth: pd.DataFrame | None,
    particles: Sequence[Particle],
) -> Path:
    """Picks and picture of one run; the picture's path."""
    write_run_picks(output_dir / "picks" / name, name, picks, particles)
    return save_overlay(
        output_dir / "overlays" / f"{name}.png",
        volume,
        picks=picks,
        truth=truth,
        voxel_spacing_angstrom=voxel_spacing_angstrom,
        particles=particles,
        title=name,
    )


def write_evaluation(
    output_dir: Path,
    tables: Sequence[pd.DataFrame],
    truths: Mapping[str, pd.DataFrame],
    pictures: Sequence[Path],
    particles: Sequence[Particle],
    settings: Mapping[str, Any],
) -> Evaluation:
    """Score all runs together, write what concerns all of them."""
    picks = pd.concat(tables, ignore_index=True)
    evaluation = Evaluation(picks, score_of(picks, truths, particles), tuple(sorted(truths)), tuple(pictures))
    write_results(output_dir, picks, evaluation.score, evaluation.scored_runs, settings)
    return evaluation


def score_of(picks: pd.DataFrame, truths: Mapping[str, pd.DataFrame], particles: Sequence[Particle]) -> Score | None:
    """The score over the runs with reference points; None where there are none."""
    truth = [table for table in truths.values() if len(table)]
    return score_picks(picks, pd.concat(truth, ignore_index=True), particles=particles) if truth else None


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
