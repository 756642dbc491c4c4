"""A campaign: experiments in all the ways that are to be compared, every piece of work done once and kept.

Experiment by experiment, first the hyperparameters of all detectors are found on training tomograms, then the
tomograms to evaluate on come one by one, each read once for all detectors.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from data.content_hash import hash_of
from data.czi import find_runs
from data.picks import truth_table
from data.thresholds import Hyperparameters, write_thresholds
from detection.conditions import Conditions, map_conditions
from detection.grid import Grid
from detection.proposals import DetectionSettings
from detection.search_settings import SearchSettings
from evaluation.campaign.comparison import intermediate_row
from evaluation.campaign.configuration import Configuration
from evaluation.campaign.experiments import Detector, Experiment
from evaluation.campaign.folder import CampaignFolder
from evaluation.finished import TomogramInput, finishing
from evaluation.progress import ProgressBars
from evaluation.runs import Outcome, Output, TomogramTask, evaluate_tomograms
from evaluation.training_use import training_use
from evaluation.tuning.search import search_hyperparameters
from inference.maps.network_maps import NetworkMaps
from inference.settings import InferenceSettings
from inference.tomograms import SourceTomogram, TomogramSettings
from particle_config import Particle


@dataclass(frozen=True)
class MethodPlan:
    """A way to find particles on a map, and where its hyperparameters come from.

    Attributes
    ----------
    given : what the checkpoints found in training, and the conditions of detection -> particle name -> keyword -> value
    untuned : what the checkpoints found in training -> whether none of it is for this method, nor given or searched
    internal_downsample : see DetectionSettings
    search_strategy, grid : what is searched among; None: the given ones serve
    """

    method: str
    given: Callable[[Sequence[Hyperparameters], Conditions], dict[str, dict[str, float]]]
    untuned: Callable[[Sequence[Hyperparameters]], bool]
    internal_downsample: int = 1
    search_strategy: str | None = None
    grid: Grid | None = None


@dataclass(frozen=True, eq=False)
class DetectorTask:
    """A detector of an experiment with one set of views: its maps serve all methods."""

    experiment: str
    strategy: str
    detector: Detector
    inference: InferenceSettings

    def configuration(self, method: str) -> Configuration:
        return Configuration(self.experiment, self.strategy, method, self.inference.tta_group)


# How each method finds particles on the maps of each detector.
Detection = Mapping[DetectorTask, Mapping[str, DetectionSettings]]


@dataclass(frozen=True)
class Study:
    """An experiment, and how its networks are run.

    Attributes
    ----------
    detectors : strategy -> detectors
    views : one InferenceSettings for each set of views that is compared
    tomograms, training_tomograms : how those to evaluate on and those to search on are read
    training_root : data root of the latter; None where no hyperparameters are searched
    trained_radius_fraction : of the target spheres
    """

    experiment: Experiment
    detectors: Mapping[str, Sequence[Detector]]
    views: Sequence[InferenceSettings]
    tomograms: TomogramSettings
    training_tomograms: TomogramSettings
    training_root: Path | None
    trained_radius_fraction: float

    @property
    def merges(self) -> bool:
        """Whether any of its maps is of several views, or of several networks that are merged."""
        detectors = [one for of_strategy in self.detectors.values() for one in of_strategy]
        return any(inference.num_views > 1 for inference in self.views) or any(d.ensemble.merges for d in detectors)

    def tasks(self, inference: InferenceSettings) -> list[DetectorTask]:
        return [
            DetectorTask(self.experiment.name, strategy, detector, inference)
            for strategy, detectors in self.detectors.items()
            for detector in detectors
        ]

    def conditions(self, task: DetectorTask, plan: MethodPlan) -> Conditions:
        """What confidences of the task's picks must have been learnt under."""
        return map_conditions(
            task.inference,
            tomo_type=self.tomograms.tomo_type,
            norm_percentiles=self.tomograms.norm_percentiles,
            trained_radius_fraction=self.trained_radius_fraction,
            internal_downsample=plan.internal_downsample,
            networks=task.detector.networks_per_class,
        )

    def sources(self, data_root: Path, run_names: Iterable[str]) -> list[SourceTomogram]:
        """Tomograms to evaluate on; InputError where one is not there or does not suit the networks."""
        runs = find_runs(data_root, tomo_type=self.tomograms.tomo_type, names=list(run_names))
        return [SourceTomogram(run, self.tomograms) for run in runs]

    def training_truths(self, particles: Sequence[Particle]) -> dict[SourceTomogram, pd.DataFrame]:
        """Training tomograms to search hyperparameters on, and their reference points; none without a search."""
        if self.training_root is None:
            return {}
        names = {name for detectors in self.detectors.values() for one in detectors for name in one.tuning}
        runs = find_runs(self.training_root, tomo_type=self.training_tomograms.tomo_type, names=sorted(names))
        return {SourceTomogram(run, self.training_tomograms): truth_table([run], particles) for run in runs}


class Campaign:
    """Does what has not been done, and keeps it in the folder.

    Parameters
    ----------
    folder : of the results, opened
    maps : of single networks
    data_root : of the tomograms to evaluate on
    truths : run name -> reference points, of every run to evaluate on
    plans : the methods that are compared
    """

    def __init__(
        self,
        folder: CampaignFolder,
        maps: NetworkMaps,
        *,
        data_root: Path,
        truths: Mapping[str, pd.DataFrame],
        plans: Sequence[MethodPlan],
        particles: Sequence[Particle],
    ) -> None:
        self.folder = folder
        self.maps = maps
        self.data_root = data_root
        self.truths = truths
        self.plans = plans
        self.particles = particles
        self._bars = ProgressBars()
        self._rows: list[dict] = []

    def run(self, studies: Sequence[Study]) -> None:
        parts = [(study, inference) for study in studies for inference in study.views]
        for study, inference in self._bars.each(parts, "experiments", total=len(parts)):
            training, tasks = study.training_truths(self.particles), study.tasks(inference)
            detection = {
                task: self._detection_settings(study, task, training)
                for task in self._bars.each(tasks, "hyperparameters", total=len(tasks))
            }
            self._evaluate(study, inference, detection)

    def configurations(self, studies: Sequence[Study]) -> dict[Configuration, list[DetectorTask]]:
        """All that are compared, each with a task for every detector."""
        found: dict[Configuration, list[DetectorTask]] = {}
        for task in (task for study in studies for inference in study.views for task in study.tasks(inference)):
            for plan in self.plans:
                found.setdefault(task.configuration(plan.method), []).append(task)
        return found

    def is_untuned(self, configuration: Configuration, tasks: Sequence[DetectorTask]) -> bool:
        """Whether the hyperparameters of any of its detectors are config.py's."""
        [plan] = [plan for plan in self.plans if plan.method == configuration.method]
        return any(plan.untuned(task.detector.found_in_training({})) for task in tasks)

    def _detection_settings(
        self, study: Study, task: DetectorTask, training: Mapping[SourceTomogram, pd.DataFrame]
    ) -> dict[str, DetectionSettings]:
        """Method -> how it finds particles on the detector's maps: as given, or as a search finds best."""
        detector = task.detector
        conditions = {plan.method: study.conditions(task, plan) for plan in self.plans}
        settings = {
            plan.method: DetectionSettings(
                study.trained_radius_fraction,
                plan.method,
                plan.given(detector.found_in_training(conditions[plan.method]), conditions[plan.method]),
                plan.internal_downsample,
            )
            for plan in self.plans
        }
        folders = {
            method: self.folder.hyperparameters_dir(task.configuration(method), detector.name) for method in settings
        }
        searches = {
            folders[plan.method]: SearchSettings(
                plan.search_strategy, plan.grid, settings[plan.method], conditions[plan.method]
            )
            for plan in self.plans
            if plan.grid is not None
        }
        tomograms = [
            TomogramInput(source, detector.tuning[source.name], truth)
            for source, truth in training.items()
            if source.name in detector.tuning
        ]
        found = search_hyperparameters(tomograms, searches, task.inference, self.maps, self.particles, self._bars)
        for method, folder in folders.items():
            if folder in found:
                settings[method] = replace(settings[method], hyperparameters=found[folder].hyperparameters)
                self._write_timing("search", found[folder].seconds, task, method)
            else:
                values = settings[method].hyperparameters
                with finishing(folder, hash_of(values)) as temporary:
                    entry = {"hyperparameters": {method: values}, "calibrated_with": conditions[method]}
                    write_thresholds(temporary / "thresholds.json", {"given": entry}, self.particles)
        return settings

    def _evaluate(self, study: Study, inference: InferenceSettings, detection: Detection) -> None:
        owners: dict[Path, tuple[DetectorTask, str]] = {}
        tasks = []
        for source in study.sources(self.data_root, self.truths):
            for task, by_method in detection.items():
                outputs = []
                for method, settings in by_method.items():
                    folder = self.folder.picks_dir(task.configuration(method), task.detector.name, source.name)
                    owners[folder] = task, method
                    outputs.append(Output(folder, settings))
                one = TomogramInput(source, task.detector.ensemble, self.truths[source.name])
                tasks.append(TomogramTask(one, inference, tuple(outputs)))
        for outcome in evaluate_tomograms(tasks, self.maps, self.particles, self._bars):
            if outcome.error is not None:
                raise outcome.error
            for record in outcome.records:
                self._write_timing(
                    "detection", record.seconds, *owners[record.output.picks_dir], tomogram=record.run_name
                )
            self._note(outcome, detection)
            done = sum(record.seconds is not None for record in outcome.records)
            what = f"{done} sets of picks, {outcome.maps_made} maps made" if done else "finished before"
            self._bars.say(f"{study.experiment.name}, views {inference.tta_group}, {outcome.source.name}: {what}")

    def _write_timing(self, work: str, seconds: float | None, task: DetectorTask, method: str, **further: str) -> None:
        """Of what was done now."""
        if seconds is not None:
            configuration = str(task.configuration(method))
            self.folder.timings.write(
                seconds=seconds, work=work, configuration=configuration, detector=task.detector.name, **further
            )

    def _note(self, outcome: Outcome, detection: Detection) -> None:
        """Write down what is finished, in the order in which it is finished."""
        name = outcome.source.name
        for task, by_method in detection.items():
            for configuration in map(task.configuration, by_method):
                picks = self.folder.picks(configuration, task.detector.name, [name], self.particles)
                row = intermediate_row(configuration, task.detector.name, picks, self.truths[name], self.particles)
                use = training_use(name, task.detector.descriptions)
                self._rows.append({**row, "trained_on": use.trained_on, "held_out": use.held_out})
        self.folder.write_table("intermediate_results.csv", pd.DataFrame(self._rows))
