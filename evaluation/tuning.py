"""Search hyperparameters on tomograms with truth, and evaluate with them on the same tomograms."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from data.czi import Run
from data.files import atomic_path
from data.picks import table_coordinates_zyx
from data.thresholds import write_thresholds
from errors import InputError
from evaluation.out_of_fold import out_of_fold
from evaluation.runs import Evaluation, score_of, truths_of, write_evaluation, write_run
from evaluation.search import SearchedTomogram, SearchSettings, look_at, picks_from
from evaluation.search_curves import save_search_curves
from evaluation.search_result import SearchResult, choose
from evaluation.tomograms import TomogramSettings, open_tomograms, predict_runs
from inference.checkpoints import Description
from inference.predictor import Predictor
from metrics.fbeta import Score
from particle_config import Particle


def tune_and_evaluate(
    runs: Sequence[Run],
    descriptions: Sequence[Description],
    predictor_of: Callable[[Sequence[int]], Predictor],
    tomogram_settings: TomogramSettings,
    search_settings: SearchSettings,
    *,
    particles: Sequence[Particle],
    output_dir: Path,
) -> tuple[SearchResult, Evaluation]:
    """Predict each run once, by the networks that were not trained on it; find the hyperparameters; write results.

    Parameters
    ----------
    descriptions : of all networks
    predictor_of : from the indices of some networks to what predicts with them alone
    """
    truths = truths_of(runs, particles)
    groups = out_of_fold(_with_truth(runs, truths), descriptions)
    used = [run for _, group in groups for run in group]
    truths = {run.name: truths[run.name] for run in used}
    searched = []
    voxels = sum(math.prod(tomogram.shape_zyx) for tomogram in open_tomograms(used, tomogram_settings))
    with tqdm(total=voxels, unit="voxel", unit_scale=True, dynamic_ncols=True, disable=None) as bar:
        for members, group in groups:
            predictor = predictor_of(members)
            for tomogram in predict_runs(group, predictor, tomogram_settings, progress=bar.update):
                name = tomogram.run.name
                searched.append(look_at(tomogram, by_particle(truths[name]), search_settings, particles))
                found = _candidates(searched[-1])
                bar.write(f"{name}: {found} candidates by {len(members)} of {len(descriptions)} networks")
                del tomogram  # its map need not be there while the next is computed
    result = choose(searched, search_settings, particles)
    tables = [picks_from(one, result.hyperparameters, search_settings, particles) for one in searched]
    write_search(output_dir, result, score_of(pd.concat(tables, ignore_index=True), truths, particles))
    pictures = []
    for run, tomogram, table in zip(used, open_tomograms(used, tomogram_settings), tables, strict=True):
        spacing = tomogram.voxel_spacing_angstrom
        pictures.append(write_run(output_dir, run.name, tomogram.read(), spacing, table, truths[run.name], particles))
    settings = {"tomograms": tomogram_settings, "inference": predictor.settings, "search": search_settings}
    return result, write_evaluation(output_dir, tables, truths, pictures, particles, settings)


def _with_truth(runs: Sequence[Run], truths: Mapping[str, pd.DataFrame]) -> list[Run]:
    """The runs with reference points, and a warning for the others; InputError without any."""
    known = [run for run in runs if len(truths.get(run.name, ()))]
    if not known:
        raise InputError(
            "hyperparameters can only be searched on tomograms with picks, and none of these has any: "
            f"{', '.join(run.name for run in runs)}"
        )
    if others := [run.name for run in runs if run not in known]:
        warnings.warn(f"left out of the search, since they have no picks: {', '.join(others)}", stacklevel=2)
    return known


def by_particle(truth: pd.DataFrame) -> dict[str, np.ndarray]:
    """Particle name -> (N, 3) zyx of a picks table."""
    return {name: table_coordinates_zyx(rows) for name, rows in truth.groupby("particle_type")}


def _candidates(searched: SearchedTomogram) -> int:
    return sum(len(one.candidates) for proposals in searched.proposals.values() for one in proposals.values())


def write_search(output_dir: Path, result: SearchResult, score: Score | None) -> None:
    """thresholds.json, search_grid.csv and search_curves.png."""
    grid = result.settings.grid
    entry = {
        "method": grid.method,
        "strategy": result.settings.strategy,
        "runs": list(result.run_names),
        "f4": score.weighted if score else None,
        "f4_mean_over_runs": score.mean_over_runs if score else None,
        "hyperparameters": {grid.method: result.hyperparameters},
    }
    write_thresholds(output_dir / "thresholds.json", {"search": entry})
    with atomic_path(output_dir / "search_grid.csv") as temporary:
        result.table().to_csv(temporary, index=False, float_format="%.6g")
    save_search_curves(output_dir / "search_curves.png", result)
