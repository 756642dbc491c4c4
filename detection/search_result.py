"""From the evidence of all tomograms to the hyperparameters to use, and the table of all that was tried."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from detection.evidence import Evidence
from detection.grid import GLOBAL
from detection.search_settings import SearchSettings
from metrics.calibration import expected_f_beta, fit_calibration, worthwhile_score
from metrics.fbeta import f_beta
from metrics.plateau import middle_of_plateau
from metrics.threshold_curve import logit, mean_smoothed_f_beta
from particle_config import Particle
from postprocessing import METHODS

# A smoothed F4 that is lower by less is the same.
PLATEAU_TOLERANCE = 0.001
# Stands for all particles with one set of values, weighted as in the score.
ALL = "all"


@dataclass(frozen=True)
class SearchResult:
    """The hyperparameters that were found, and how good every point of the grid is.

    Attributes
    ----------
    counts : particle name -> (runs, *grid, 3) true positives, false positives, false negatives
    smoothed_f4 : particle name, or ALL -> (*grid) F4 to expect on other tomograms: what is maximised
    chosen : particle name -> index in the grid; None: it keeps its default
    calibrations : particle name -> what metrics.calibration learns from the candidates at that point
    """

    settings: SearchSettings
    particles: tuple[Particle, ...]
    run_names: tuple[str, ...]
    counts: Mapping[str, np.ndarray]
    smoothed_f4: Mapping[str, np.ndarray]
    chosen: Mapping[str, tuple[int, ...] | None]
    calibrations: Mapping[str, Mapping[str, float]]

    @property
    def hyperparameters(self) -> dict[str, dict[str, float]]:
        """Particle name -> keyword -> value, the calibration too."""
        return {
            name: dict(self.settings.defaults[name])
            if point is None
            else {**self.settings.grid.at(point), **self.calibrations[name]}
            for name, point in self.chosen.items()
        }

    @property
    def without_hits(self) -> list[str]:
        """Particles that are not hit at any point of the grid."""
        return [name for name, point in self.chosen.items() if point is None]

    def pooled_f4(self, name: str) -> np.ndarray:
        """(*grid) F4 of the counts of all runs together; ALL: the official score."""
        if name == ALL:
            return _weighted([self.pooled_f4(p.name) for p in self.particles], _weights(self.particles))
        return _f4(self.counts[name].sum(axis=0))

    def mean_f4(self, name: str) -> np.ndarray:
        """(*grid) mean of the runs' own F4, over those that have the particle; NaN where none has.

        ALL: of the runs' own weighted F4, over the particles that each has.
        """
        if name == ALL:
            values = np.stack([_f4(self.counts[p.name]) for p in self.particles])
            present = np.stack([_present(self.counts[p.name]) for p in self.particles])
            runs = [
                _weighted(values[:, run], _weights(self.particles) * present[:, run])
                for run in range(len(self.run_names))
            ]
            return np.mean(runs, axis=0)
        counts = self.counts[name]
        present = _present(counts)
        return _f4(counts[present]).mean(axis=0) if present.any() else np.full(counts.shape[1:-1], np.nan)

    def table(self) -> pd.DataFrame:
        """One row for each particle, and ALL, at each point of the grid."""
        grid = self.settings.grid
        points = pd.MultiIndex.from_product([grid.values[keyword] for keyword in grid.keywords], names=grid.keywords)
        tables = []
        for name in (*self.counts, ALL):
            table = points.to_frame(index=False)
            table.insert(0, "method", grid.method)
            table.insert(1, "particle", name)
            counts = self.counts[name].sum(axis=0).reshape(-1, 3) if name != ALL else np.full((len(table), 3), np.nan)
            for column, numbers in zip(("tp", "fp", "fn"), counts.T, strict=True):
                table[column] = pd.array(numbers, dtype="Int64")
            table["f4_pooled"] = self.pooled_f4(name).ravel()
            table["f4_mean"] = self.mean_f4(name).ravel()
            table["f4_smoothed"] = self.smoothed_f4[name].ravel()
            point = self.chosen.get(name)
            table["chosen"] = 0
            if point is not None:
                table.loc[np.ravel_multi_index(point, grid.shape), "chosen"] = 1
            tables.append(table)
        return pd.concat(tables, ignore_index=True)


def choose(
    evidence: Mapping[str, Sequence[Evidence]],
    settings: SearchSettings,
    particles: Sequence[Particle],
    run_names: Sequence[str],
) -> SearchResult:
    """The best point of the grid for every particle, or one for all of them.

    Parameters
    ----------
    evidence : particle name -> of every run

    Notes
    -----
    The best point has the highest smoothed F4, in the middle of the plateau where there is one. That is the mean of two
    estimates: the F4 curve over the thresholds, smoothed the more the fewer hits it rests on, averaged over the
    tomograms that have the particle; and the F4 that the calibrated confidences let expect. On tomograms unlike these
    the confidence is the better guide, so that the threshold of the score for a particle lies half way between that
    point and where a pick begins to be worth taking (metrics.calibration.worthwhile_score). A particle without any hit
    keeps its default.
    """
    smoothed = {name: _smoothed_f4(found, settings) for name, found in evidence.items()}
    has_truth = np.array([any(_present(one.counts[None])[0] for one in found) for found in evidence.values()])
    weights = _weights(particles) * has_truth
    # Where none of them scores, all count alike.
    smoothed[ALL] = _weighted(list(smoothed.values()), weights if weights.any() else has_truth.astype(float))
    if settings.strategy == GLOBAL:
        chosen = dict.fromkeys(evidence, _best(smoothed[ALL]))
    else:
        chosen = {name: _towards_worthwhile(_best(smoothed[name]), found, settings) for name, found in evidence.items()}
    counts = {name: np.stack([one.counts for one in found]) for name, found in evidence.items()}
    calibrations = {
        name: {} if point is None else fit_calibration(one.curve_at(point) for one in evidence[name])
        for name, point in chosen.items()
    }
    return SearchResult(settings, tuple(particles), tuple(run_names), counts, smoothed, chosen, calibrations)


def _smoothed_f4(evidence, settings: SearchSettings) -> np.ndarray:
    curves = zip(*(one.curves for one in evidence), strict=True)
    thresholds = settings.grid.thresholds
    values = [(mean_smoothed_f_beta(runs, thresholds) + expected_f_beta(runs, thresholds)) / 2 for runs in curves]
    return np.array(values).reshape(settings.grid.shape)


def _best(smoothed_f4: np.ndarray) -> tuple[int, ...] | None:
    return middle_of_plateau(smoothed_f4, PLATEAU_TOLERANCE) if smoothed_f4.max() > 0 else None


def _towards_worthwhile(
    point: tuple[int, ...] | None, evidence: Sequence[Evidence], settings: SearchSettings
) -> tuple[int, ...] | None:
    """The point with the threshold of the grid that is nearest to the middle, on the logit scale."""
    if point is None or METHODS[settings.grid.method].score_keyword is None:
        return point  # what a size is worth was not measured
    score = worthwhile_score([one.curve_at(point) for one in evidence])
    if score is None:
        return point
    thresholds = logit(settings.grid.thresholds)
    middle = (thresholds[point[-1]] + np.clip(logit(score), thresholds.min(), thresholds.max())) / 2
    return *point[:-1], int(np.argmin(np.abs(thresholds - middle)))


def _f4(counts: np.ndarray) -> np.ndarray:
    return f_beta(*np.moveaxis(counts, -1, 0))


def _present(counts: np.ndarray) -> np.ndarray:
    """(runs,) whether each run has the particle, from counts (runs, *grid, 3)."""
    first = counts.reshape(len(counts), -1, 3)[:, 0]
    return first[:, 0] + first[:, 2] > 0


def _weights(particles: Sequence[Particle]) -> np.ndarray:
    return np.array([particle.score_weight for particle in particles])


def _weighted(values: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Weighted mean along the first axis; 0 where nothing counts."""
    total = weights.sum()
    return np.tensordot(weights / total, np.stack(values), axes=1) if total > 0 else np.zeros_like(values[0])
