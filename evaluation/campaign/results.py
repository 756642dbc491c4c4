"""What a campaign found out, as plain values: the summary tables and the report are made from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from metrics.fbeta import Score
from metrics.statistics import Interval
from metrics.threshold_curve import ThresholdCurve
from particle_config import Particle

NO_TTA = "none"
# Of a drawn curve: more cannot be told apart.
CURVE_POINTS = 150


@dataclass(frozen=True)
class Curve:
    """F4, precision and recall of one particle at falling thresholds, pooled over the tomograms.

    Attributes
    ----------
    thresholds, f4, precision, recall : (T,) arrays; T = 0 without candidates
    chosen : the threshold that was used
    """

    thresholds: np.ndarray
    f4: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    chosen: float

    @classmethod
    def of(cls, curve: ThresholdCurve, chosen: float) -> "Curve":
        """At most CURVE_POINTS points of a curve, evenly spread over its candidates."""
        points = np.unique(np.linspace(0, len(curve.thresholds) - 1, CURVE_POINTS).astype(int))
        points = points[: len(curve.thresholds)]
        hits, kept = curve.true_positives[points], curve.candidates[points]
        recall = hits / max(curve.references, 1)
        return cls(curve.thresholds[points], curve.f_beta()[points], np.minimum(hits / kept, 1), recall, chosen)


@dataclass(frozen=True)
class Overlay:
    """A picture of one tomogram with hits, false picks and misses."""

    run: str
    caption: str
    path: Path


@dataclass(frozen=True)
class ExperimentResult:
    """One experiment, evaluated in one way.

    Attributes
    ----------
    name, comment : of the training
    strategy, method, tta_group : of the evaluation; ``none`` without test-time augmentation
    networks : averaged for one map
    score : on the evaluated tomograms; of several folds their mean counts
    interval : 95 % confidence limits of the score
    fold_scores : fold -> pooled weighted F4 of its network alone; empty for an ensemble over folds
    curves : particle -> curve; empty where there is none
    threshold_name : of the keyword that the curves run over
    position_errors : one row a particle with pairs, rms_z, rms_xy in angstrom
    seconds_per_tomogram : stage -> seconds
    overlays : best tomogram first
    untuned : the hyperparameters are config.py's, since the networks have none for the method
    """

    name: str
    comment: str
    strategy: str
    method: str
    tta_group: str
    networks: int
    score: Score
    interval: Interval
    position_errors: pd.DataFrame
    seconds_per_tomogram: Mapping[str, float]
    threshold_name: str = ""
    curves: Mapping[str, Curve] = field(default_factory=dict)
    fold_scores: Mapping[int, float] = field(default_factory=dict)
    overlays: Sequence[Overlay] = ()
    untuned: bool = False

    @property
    def setting(self) -> tuple[str, str, str, str]:
        return self.name, self.strategy, self.method, self.tta_group

    @property
    def configuration(self) -> str:
        """Its name in the comparisons."""
        return " ".join(self.setting)


@dataclass(frozen=True)
class CampaignResults:
    """All experiments of a campaign, on the same tomograms.

    Attributes
    ----------
    title, comment, date : for the head of the report
    particles : the particle table
    experiments : in any order; no two of the same setting
    facts : what -> value, such as data root, device and versions
    commands : the lines that led here, training included where it is known
    comparisons : of all pairs, see metrics.statistics.compare; ``first`` and ``second`` are names
    notes : sentences to stand below the ranking
    """

    title: str
    comment: str
    date: str
    particles: Sequence[Particle]
    experiments: Sequence[ExperimentResult]
    facts: Mapping[str, str]
    commands: Sequence[str]
    comparisons: pd.DataFrame
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        settings = [experiment.setting for experiment in self.experiments]
        if not settings or len(set(settings)) < len(settings):
            raise ValueError(f"a campaign has one or more experiments of different settings, got {settings}")

    @property
    def weights(self) -> list[float]:
        return [particle.score_weight for particle in self.particles]

    def ranked(self) -> list[ExperimentResult]:
        """Best pooled score first; of equal ones the better mean over tomograms, then by name."""
        return sorted(self.experiments, key=lambda one: (-one.score.weighted, -one.score.mean_over_runs, one.setting))

    def label(self, experiment: ExperimentResult) -> str:
        """Its name, and what else tells it from the others of this campaign."""
        columns = list(zip(*(one.setting for one in self.experiments), strict=True))
        tta_text = "no TTA" if experiment.tta_group == NO_TTA else experiment.tta_group
        parts = (experiment.name, experiment.strategy, experiment.method, tta_text)
        told = [part for part, column in zip(parts, columns, strict=True) if len(set(column)) > 1]
        return ", ".join(told if experiment.name in told else [experiment.name, *told])
