"""Search of the hyperparameters of detection on tomograms with truth.

Every map is searched for candidates once per structural setting; suppression radii and thresholds are tried on those
candidates, and of the maps nothing is kept.
"""

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data.files import atomic_path
from data.thresholds import read_thresholds, write_thresholds
from detection.arguments import hyperparameters_of
from detection.evidence import Evidence, gather_evidence
from detection.grid import Grid
from detection.proposals import MethodHyperparameters, Proposals, accept, propose
from detection.search_result import SearchResult, choose
from detection.search_settings import SearchSettings
from evaluation.finished import FINISHED, TomogramInput, finished_notes, mark_finished, result_key
from evaluation.progress import ProgressBars
from evaluation.truth import by_particle, score_of
from evaluation.tuning.search_curves import save_search_curves
from inference.maps.network_maps import NetworkMaps
from inference.predictor import Prediction
from inference.settings import InferenceSettings
from inference.tomograms import read_ahead
from metrics.calibration import KEYWORDS as CALIBRATION
from metrics.fbeta import Score
from particle_config import Particle

# What is read again of what a search writes.
FILES = ("thresholds.json", "search_grid.csv")


@dataclass(frozen=True)
class SearchedTomogram:
    """What is kept of a tomogram: its candidates, and particle name -> Evidence about every point of the grid."""

    proposals: Proposals
    evidence: Mapping[str, Evidence]


@dataclass(frozen=True)
class Found:
    """The hyperparameters of a search, and the seconds that it took without networks; None where it was done before."""

    hyperparameters: MethodHyperparameters
    seconds: float | None


def search_tomogram(
    prediction: Prediction, tomogram: TomogramInput, settings: SearchSettings, particles: Sequence[Particle]
) -> SearchedTomogram:
    """Candidates and evidence from a probability map."""
    proposals = propose(
        prediction,
        settings.detection,
        particles,
        run_name=tomogram.source.name,
        voxel_spacing_angstrom=tomogram.source.voxel_spacing_angstrom,
        grid=settings.grid,
    )
    return SearchedTomogram(proposals, gather_evidence(proposals, by_particle(tomogram.truth), settings.grid))


def search_hyperparameters(
    tomograms: Sequence[TomogramInput],
    searches: Mapping[Path, SearchSettings],
    inference: InferenceSettings,
    maps: NetworkMaps,
    particles: Sequence[Particle],
    bars: ProgressBars,
) -> dict[Path, Found]:
    """Folder -> what each search found: now, or before, if its folder is finished.

    Parameters
    ----------
    tomograms : with truth, each with networks that were not trained on it
    searches : folder for thresholds.json, search_grid.csv and search_curves.png -> what is searched
    """

    def key(folder: Path) -> str:
        return result_key(tomograms, searches[folder], inference, maps, particles, with_score_weights=True)

    todo = [folder for folder in searches if finished_notes(folder, key(folder)) is None]
    searched: dict[Path, list[SearchedTomogram]] = {folder: [] for folder in todo}
    seconds = dict.fromkeys(todo, 0.0)
    by_source = {one.source: one for one in tomograms} if todo else {}
    missing = {source: maps.missing(one.ensemble, source, inference) for source, one in by_source.items()}
    voxels = sum(math.prod(source.tomogram.shape_zyx) * len(keys) for source, keys in missing.items())
    with bars.voxels(voxels, "search") as bar:
        for source in read_ahead(list(by_source), lambda source: bool(missing[source])):
            one = by_source[source]
            prediction = maps.combined(one.ensemble, source, inference, bar.update)
            for folder in todo:
                begin = time.perf_counter()
                searched[folder].append(search_tomogram(prediction, one, searches[folder], particles))
                seconds[folder] += time.perf_counter() - begin
            del prediction  # its memory is needed for the next
    truths = {one.source.name: one.truth for one in tomograms}
    for folder in todo:
        begin = time.perf_counter()
        evidence = {p.name: [one.evidence[p.name] for one in searched[folder]] for p in particles}
        result = choose(evidence, searches[folder], particles, list(truths))
        if result.without_hits:
            warnings.warn(
                f"{folder}: no hit at any point of the grid for {', '.join(result.without_hits)}: "
                "the hyperparameters stay as they were",
                stacklevel=2,
            )
        overlaps = searches[folder].detection.overlaps
        picks = [accept(one.proposals, result.hyperparameters, overlaps) for one in searched[folder]]
        score = score_of(pd.concat(picks, ignore_index=True), truths, particles)
        seconds[folder] += time.perf_counter() - begin
        (folder / FINISHED).unlink(missing_ok=True)
        write_search(folder, result, score)
        mark_finished(folder, key(folder), FILES)
    return {
        folder: Found(_read(folder, settings.grid, particles), seconds.get(folder))
        for folder, settings in searches.items()
    }


def _read(folder: Path, grid: Grid, particles: Sequence[Particle]) -> MethodHyperparameters:
    [found] = read_thresholds(
        folder / "thresholds.json",
        method=grid.method,
        ranges={row.keyword: row.range for row in hyperparameters_of(grid.method)},
        particles=particles,
        optional=CALIBRATION,
    )
    return found[grid.method]


def write_search(folder: Path, result: SearchResult, score: Score | None) -> None:
    """thresholds.json, search_grid.csv and search_curves.png."""
    grid = result.settings.grid
    entry = {
        "method": grid.method,
        "strategy": result.settings.strategy,
        "runs": list(result.run_names),
        "f4": score.weighted if score else None,
        "f4_mean_over_runs": score.mean_over_runs if score else None,
        "hyperparameters": {grid.method: result.hyperparameters},
        "calibrated_with": dict(result.settings.conditions),
    }
    write_thresholds(folder / "thresholds.json", {"search": entry}, result.particles)
    with atomic_path(folder / "search_grid.csv") as temporary:
        result.table().to_csv(temporary, index=False, float_format="%.6g")
    save_search_curves(folder / "search_curves.png", result)


def as_text(folder: Path) -> str:
    """The values that a search chose, with their F4 on the tomograms of the search."""
    table = pd.read_csv(folder / "search_grid.csv")
    chosen = table[table["chosen"] == 1].drop(columns=["method", "tp", "fp", "fn", "f4_smoothed", "chosen"])
    return chosen.to_string(index=False, float_format="{:.4g}".format)
