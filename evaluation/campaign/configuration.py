"""What a campaign compares."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Configuration:
    """What a campaign compares: the detectors of an experiment's networks, and all that they are run with.

    ``views``: the orientations that a tomogram is shown in, a name in tta.orientations.ORIENTATIONS.
    """

    experiment: str
    strategy: str
    method: str
    views: str

    @property
    def folder(self) -> Path:
        """Of its results, within a campaign's."""
        return Path(self.experiment) / "-".join([self.strategy, self.method, self.views])

    def __str__(self) -> str:
        return f"{self.experiment} {self.strategy} {self.method} {self.views}"
