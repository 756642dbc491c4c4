"""The hyperparameters of a detector: searched on training tomograms that its networks have not seen, or given."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path

import pandas as pd

from data.content_hash import hash_of
from data.thresholds import Hyperparameters, read_thresholds, write_thresholds
from evaluation.campaign_folder import CampaignFolder, finishing, is_finished
from evaluation.evidence import Grid
from evaluation.experiments import Task
from evaluation.network_maps import NetworkMaps, SourceTomogram
from evaluation.runs import score_of
from evaluation.search import SearchedTomogram, SearchSettings, look_at, picks_from
from evaluation.search_result import choose
from evaluation.tomograms import DetectionSettings
from evaluation.tuning import by_particle, write_search
from metrics.calibration import KEYWORDS as CALIBRATION
from particle_config import Particle

# Part of every key: count up when the same ingredients would give other hyperparameters.
FORMAT = 2


@dataclass(frozen=True)
class MethodPlan:
    """A way to find particles on a map, and where its hyperparameters come from.

    Attributes
    ----------
    given : what the checkpoints found in training -> particle name -> keyword -> value
    internal_downsample : see DetectionSettings
    search_strategy, grid : what is searched among; None: the given ones serve
    """

    method: str
    given: Callable[[Sequence[Hyperparameters]], dict[str, dict[str, float]]]
    internal_downsample: int = 1
    search_strategy: str | None = None
    grid: Grid | None = None


@dataclass(frozen=True)
class TuningTomogram:
    """A training tomogram and its reference points."""

    source: SourceTomogram
    truth: pd.DataFrame


@dataclass(frozen=True)
class Tuner:
    """Finds hyperparameters, and keeps them in the campaign's folder."""

    folder: CampaignFolder
    maps: NetworkMaps
    plans: Sequence[MethodPlan]
    particles: Sequence[Particle]

    def detection_settings(
        self,
        task: Task,
        training: Mapping[str, TuningTomogram],
        trained_radius_fraction: float,
        progress: Callable[[float], None],
    ) -> dict[str, DetectionSettings]:
        """Method -> how it finds particles on the detector's maps; ``training`` is needed where there is a grid."""
        trained = task.detector.found_in_training()
        found = {
            plan.method: DetectionSettings(
                trained_radius_fraction, plan.method, plan.given(trained), plan.internal_downsample
            )
            for plan in self.plans
        }
        searches = {
            plan.method: SearchSettings(plan.search_strategy, plan.grid, found[plan.method])
            for plan in self.plans
            if plan.grid is not None
        }
        self._search(task, searches, training, progress)
        for method, settings in searches.items():
            path = self._folder(task, method) / "thresholds.json"
            [kept] = read_thresholds(
                path,
                method=method,
                keywords=settings.grid.keywords,
                particles=self.particles,
                optional=CALIBRATION,
            )
            found[method] = replace(found[method], hyperparameters=kept[method])
        for method in found.keys() - searches.keys():
            values = found[method].hyperparameters
            with finishing(self._folder(task, method), hash_of(values)) as folder:
                write_thresholds(folder / "thresholds.json", {"given": {"hyperparameters": {method: values}}})
        return found

    def voxels_to_predict(self, task: Task, training: Mapping[str, TuningTomogram]) -> int:
        """What networks have to look at before the hyperparameters can be searched."""
        sources = {unseen: training[unseen.run_name].source for unseen in task.detector.tuning if training}
        return sum(
            prod(source.tomogram.shape_zyx)
            for unseen, source in sources.items()
            for member in unseen.members
            if not self.maps.is_stored(source, self.maps.key(member, source, task.inference))
        )

    def _search(
        self,
        task: Task,
        searches: Mapping[str, SearchSettings],
        training: Mapping[str, TuningTomogram],
        progress: Callable[[float], None],
    ) -> None:
        """Do those that have not been done."""
        name = task.detector.name
        keys = {method: self._key(task, settings, training) for method, settings in searches.items()}
        unfinished = {
            method: settings
            for method, settings in searches.items()
            if not is_finished(self._folder(task, method), keys[method])
        }
        if not unfinished:
            return
        truths = {one.run_name: training[one.run_name].truth for one in task.detector.tuning}
        for method, looks in self._look(task, unfinished, training, progress).items():
            with self._timed(task, method), _saying_where(f"{task.configuration(method)}, {name}"):
                result = choose(looks, searches[method], self.particles)
            tables = [picks_from(one, result.hyperparameters, searches[method], self.particles) for one in looks]
            score = score_of(pd.concat(tables, ignore_index=True), truths, self.particles)
            with finishing(self._folder(task, method), keys[method]) as folder:
                write_search(folder, result, score)

    def _look(
        self,
        task: Task,
        searches: Mapping[str, SearchSettings],
        training: Mapping[str, TuningTomogram],
        progress: Callable[[float], None],
    ) -> dict[str, list[SearchedTomogram]]:
        """What the detector's maps of the training tomograms tell each search."""
        found: dict[str, list[SearchedTomogram]] = {method: [] for method in searches}
        for unseen in task.detector.tuning:
            source, truth = training[unseen.run_name].source, by_particle(training[unseen.run_name].truth)
            tomogram = self.maps.combined(task.detector, unseen.members, source, task.inference, progress)
            for method, settings in searches.items():
                with self._timed(task, method):
                    found[method].append(look_at(tomogram, truth, settings, self.particles))
            del tomogram  # its map need not be there while the next is made
            source.forget()
        return found

    def _key(self, task: Task, settings: SearchSettings, training: Mapping[str, TuningTomogram]) -> str:
        """What the result of a search depends on."""
        seen = []
        for unseen in task.detector.tuning:
            source, truth = training[unseen.run_name].source, training[unseen.run_name].truth
            maps = [self.maps.key(member, source, task.inference) for member in unseen.members]
            seen.append([maps, truth.to_csv(), source.tomogram.voxel_spacing_angstrom])
        return hash_of([FORMAT, task.detector.combine.__name__, seen, asdict(settings)])

    def _timed(self, task: Task, method: str) -> AbstractContextManager[None]:
        return self.folder.timings.measured(
            work="search", configuration=str(task.configuration(method)), detector=task.detector.name
        )

    def _folder(self, task: Task, method: str) -> Path:
        return self.folder.hyperparameters_dir(task.configuration(method), task.detector.name)


@contextmanager
def _saying_where(place: str) -> Iterator[None]:
    """Warnings of the block, with the place in front."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for one in caught:
        warnings.warn(f"{place}: {one.message}", one.category, stacklevel=4)
