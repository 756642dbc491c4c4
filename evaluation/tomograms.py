"""The loop over tomograms: read, predict, detect, write; score where the truth is known."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from data.czi import Run
from data.normalization import clip_to_percentiles
from data.picks import picks_table, truth_table
from data.tomogram import Tomogram, open_tomogram
from errors import InputError
from evaluation.exports import write_results, write_run_picks
from evaluation.overlays import save_overlay
from inference.predictor import Predictor
from metrics.fbeta import Score, score_picks
from particle_config import Particle
from postprocessing import detect

# Voxels that differ more from those trained on show particles at another size.
SPACING_TOLERANCE = 0.05


@dataclass(frozen=True)
class DetectionSettings:
    """What is done to a tomogram around the network.

    Attributes
    ----------
    tomo_type : the type read of every run
    norm_percentiles : (lower, upper) in percent; None: the grey values stay as they are
    trained_radius_fraction, trained_spacing_angstrom : of the network's training
    method : post-processing method; hyperparameters: particle name -> keyword -> value
    voxel_spacing_angstrom : overrides the files'
    internal_downsample : voxels of the map in a cell of the one that is searched
    """

    tomo_type: str
    norm_percentiles: tuple[float, float] | None
    trained_radius_fraction: float
    trained_spacing_angstrom: float
    method: str
    hyperparameters: Mapping[str, Mapping[str, float]]
    voxel_spacing_angstrom: float | None = None
    internal_downsample: int = 1


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
    settings: DetectionSettings,
    *,
    particles: Sequence[Particle],
    output_dir: Path,
) -> Evaluation:
    """Find the particles of every run, write all results below ``output_dir``.

    Every input is looked at before the first network call, so that a mistake in the last run does not cost the
    time of all others.
    """
    tomograms = [_open(run, settings) for run in runs]
    truths = {run.name: truth for run in runs if (truth := _truth(run, particles)) is not None}
    tables, pictures = [], []
    windows = sum(predictor.count_windows(tomogram.shape_zyx) for tomogram in tomograms)
    with tqdm(total=windows, unit="window", dynamic_ncols=True, disable=None) as bar:
        for run, tomogram in zip(runs, tomograms, strict=True):
            bar.set_description(run.name)
            volume = tomogram.read()
            table = _pick(run, tomogram, volume, predictor, settings, particles, bar.update)
            write_run_picks(output_dir / "picks" / run.name, run.name, table, particles)
            pictures.append(
                save_overlay(
                    output_dir / "overlays" / f"{run.name}.png",
                    volume,
                    picks=table,
                    truth=truths.get(run.name),
                    voxel_spacing_angstrom=tomogram.voxel_spacing_angstrom,
                    particles=particles,
                    title=run.name,
                )
            )
            tables.append(table)
            bar.write(f"{run.name}: {len(table)} picks")
    picks = pd.concat(tables, ignore_index=True)
    truth = [table for table in truths.values() if len(table)]
    score = score_picks(picks, pd.concat(truth, ignore_index=True), particles=particles) if truth else None
    evaluation = Evaluation(picks, score, tuple(sorted(truths)), tuple(pictures))
    write_results(output_dir, picks, score, evaluation.scored_runs, settings)
    return evaluation


def _open(run: Run, settings: DetectionSettings) -> Tomogram:
    path = run.tomogram_path(settings.tomo_type)
    tomogram = open_tomogram(path, voxel_spacing_angstrom=settings.voxel_spacing_angstrom)
    here, trained = tomogram.voxel_spacing_angstrom, settings.trained_spacing_angstrom
    if abs(here / trained - 1) > SPACING_TOLERANCE:
        raise InputError(
            f"{path} has {here:g} A per voxel, the network was trained at {trained:g}; "
            "bin the tomogram to that size (or give --voxel_spacing if the file is wrong)"
        )
    return tomogram


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


def _pick(run, tomogram, volume: np.ndarray, predictor, settings, particles, progress) -> pd.DataFrame:
    """Picks of one run in angstrom, best first within each particle."""
    clipped = volume if settings.norm_percentiles is None else clip_to_percentiles(volume, *settings.norm_percentiles)
    probability = predictor(clipped, progress)
    found = detect(
        probability,
        method=settings.method,
        particles=particles,
        voxel_spacing_angstrom=tomogram.voxel_spacing_angstrom,
        trained_radius_fraction=settings.trained_radius_fraction,
        hyperparameters=settings.hyperparameters,
        map_stride=predictor.output_stride,
        internal_downsample=settings.internal_downsample,
    )
    return pd.concat(
        [
            picks_table(
                run.name,
                name,
                detections.coordinates_zyx * tomogram.voxel_spacing_angstrom,
                detections.scores,
            )
            for name, detections in found.items()
        ],
        ignore_index=True,
    )
