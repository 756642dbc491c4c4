"""F4 over the threshold, as a search saw it where it chose: kept beside its result, drawn in the report."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.search import SearchedTomogram
from evaluation.search_result import SearchResult
from metrics.threshold_curve import ThresholdCurve

FILE = "threshold_curves.json"


@dataclass(frozen=True)
class ChosenCurve:
    """Of one particle, pooled over the tomograms of a search, at the chosen structure and suppression radius.

    Attributes
    ----------
    curve : over the scores as the search counts them, see evaluation.evidence.Evidence
    chosen : the threshold that was taken, as such a score
    """

    curve: ThresholdCurve
    chosen: float


def chosen_curves(looks: Sequence[SearchedTomogram], result: SearchResult) -> dict[str, ChosenCurve]:
    """Particle name -> curve; without the particles about which the search learned nothing."""
    grid = result.settings.grid
    found = {}
    for name, place in result.chosen.items():
        if place is not None:
            index = int(np.ravel_multi_index(place[:-1], grid.shape[:-1]))
            curve = pooled(look.evidence[name].curves[index] for look in looks)
            found[name] = ChosenCurve(curve, float(grid.thresholds[place[-1]]))
    return found


def pooled(curves: Iterable[ThresholdCurve]) -> ThresholdCurve:
    """One curve for the candidates and references of all."""
    scores, hit_scores = zip(*((curve.scores, curve.hit_scores) for curve in curves), strict=True)
    return ThresholdCurve(np.concatenate(scores), np.concatenate(hit_scores))


def write_chosen_curves(folder: Path, curves: Mapping[str, ChosenCurve]) -> None:
    content = {
        name: {
            "chosen": one.chosen,
            "scores": one.curve.scores.tolist(),
            "hit_scores": [score if np.isfinite(score) else None for score in one.curve.hit_scores.tolist()],
        }
        for name, one in curves.items()
    }
    (folder / FILE).write_text(json.dumps(content) + "\n", encoding="utf-8")


def read_chosen_curves(folder: Path) -> dict[str, ChosenCurve]:
    """The inverse; empty where nothing was searched."""
    path = folder / FILE
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {
        name: ChosenCurve(
            ThresholdCurve(np.array(one["scores"], float), _with_misses(one["hit_scores"])), one["chosen"]
        )
        for name, one in content.items()
    }


def _with_misses(hit_scores: Sequence[float | None]) -> np.ndarray:
    return np.array([-np.inf if score is None else score for score in hit_scores], dtype=float)
