"""The values of a method's hyperparameters to choose among."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from postprocessing import METHODS
from postprocessing.selection import as_scores

PER_CLASS, GLOBAL = STRATEGIES = ("per_class", "global")
SUPPRESSION = "nms_radius_fraction"


@dataclass(frozen=True)
class Grid:
    """Values of every hyperparameter of a method; a single value is a fixed one.

    Attributes
    ----------
    method : a name in postprocessing.METHODS
    values : keyword -> values in ascending order
    """

    method: str
    values: Mapping[str, tuple[float, ...]]

    @property
    def threshold_keyword(self) -> str:
        return METHODS[self.method].threshold_keyword

    @property
    def further_size_keyword(self) -> str | None:
        """The threshold of size, where there is one of the score as well."""
        method = METHODS[self.method]
        return method.size_keyword if method.score_keyword else None

    @property
    def keywords(self) -> tuple[str, ...]:
        """In the order of the grid's axes: structural ones, a second threshold, suppression, threshold."""
        further = [self.further_size_keyword] if self.further_size_keyword else []
        return (*METHODS[self.method].structural, *further, SUPPRESSION, self.threshold_keyword)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(self.values[keyword]) for keyword in self.keywords)

    @property
    def structures(self) -> list[dict[str, float]]:
        """Every combination of the structural keywords, in the order of the grid."""
        keywords = METHODS[self.method].structural
        combinations = itertools.product(*(self.values[keyword] for keyword in keywords))
        return [dict(zip(keywords, values, strict=True)) for values in combinations]

    @property
    def selections(self) -> list[dict[str, float]]:
        """Every combination of what selects among the same candidates besides the threshold, in the grid's order."""
        keyword = self.further_size_keyword
        sizes = [{"smallest_volume_fraction": size} for size in self.values[keyword]] if keyword else [{}]
        return [{**size, "nms_radius_fraction": radius} for size in sizes for radius in self.values[SUPPRESSION]]

    @property
    def lowest_score(self) -> float:
        """The lowest threshold of the score; infinite for a method without one."""
        keyword = METHODS[self.method].score_keyword
        return min(self.values[keyword]) if keyword else float("inf")

    @property
    def thresholds(self) -> np.ndarray:
        """(T,) values of the last axis, on the scale of the scores of a threshold curve."""
        values = np.array(self.values[self.threshold_keyword])
        return values if METHODS[self.method].score_keyword else as_scores(values)

    def at(self, index: Sequence[int]) -> dict[str, float]:
        """Keyword -> value at a point of the grid."""
        return {keyword: self.values[keyword][i] for keyword, i in zip(self.keywords, index, strict=True)}
