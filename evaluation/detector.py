"""Networks with all settings between a tomogram and its picks."""

from dataclasses import dataclass
from pathlib import Path

from detection.conditions import Conditions
from detection.proposals import DetectionSettings
from inference.checkpoints import Description
from inference.ensembles import Ensemble
from inference.settings import InferenceSettings
from inference.tomograms import TomogramSettings
from metrics.calibration import KEYWORDS as CALIBRATION
from particle_config import Particle


@dataclass(frozen=True)
class Detector:
    """One network or the mean of several, with all settings between a tomogram and its picks.

    Attributes
    ----------
    descriptions : of the checkpoints, in the order of the ensemble's members
    conditions : under which the picks' scores have a meaning, see detection.conditions
    """

    ensemble: Ensemble
    descriptions: tuple[Description, ...]
    particles: tuple[Particle, ...]
    tomograms: TomogramSettings
    inference: InferenceSettings
    detection: DetectionSettings
    conditions: Conditions

    @property
    def paths(self) -> tuple[Path, ...]:
        return self.ensemble.members

    def learnt_confidence(self, particle_name: str) -> bool:
        """Whether picks of the particle have a confidence."""
        return bool(set(CALIBRATION) & set(self.detection.hyperparameters[particle_name]))
