"""What a search of hyperparameters is given."""

from dataclasses import dataclass, field

from detection.conditions import Conditions
from detection.grid import Grid
from detection.proposals import DetectionSettings, MethodHyperparameters


@dataclass(frozen=True)
class SearchSettings:
    """What is searched.

    Attributes
    ----------
    strategy : per_class: a set of values for each particle, best for its own F4, whatever its weight; global: one set
        for all, best for the weighted F4
    grid : the values to choose from
    detection : what is not searched; its hyperparameters are for particles about which the search learns nothing
    conditions : what the calibrations that are learnt hold for
    """

    strategy: str
    grid: Grid
    detection: DetectionSettings
    conditions: Conditions = field(default_factory=dict)

    @property
    def defaults(self) -> MethodHyperparameters:
        return self.detection.hyperparameters
