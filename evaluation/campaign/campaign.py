"""A campaign: experiments in all the ways that are to be compared, every piece of work done once and kept.

Experiment by experiment, first the hyperparameters of all detectors are found on training tomograms, then the
tomograms to evaluate on come one by one, each read once for all detectors. What fails does not end the rest: a tomogram
that nobody could evaluate is left out for all, a configuration that lacks any other is not compared.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from data.content_hash import hash_of
from data.czi import find_runs
from data.names import no_formula
from data.picks import truth_table
from data.thresholds import Hyperparameters, write_thresholds
from detection.conditions import Conditions, map_conditions
from detection.grid import Grid
from detection.proposals import DetectionSettings, MethodHyperparameters
from detection.search_settings import SearchSettings
from errors import one_line
from evaluation.campaign.comparison import intermediate_row
from evaluation.campaign.configuration import Configuration
from evaluation.campaign.experiments import Detector, Experiment
from evaluation.campaign.folder import CampaignFolder
from evaluation.exports import FAILURES_TABLE
from evaluation.finished import TomogramInput, finishing
from evaluation.map_work import MapsWork, maps_work
from evaluation.progress import ProgressBars
from evaluation.runs import EvaluationWork, Outcome, Output, TomogramTask, open_sources
from evaluation.training_use import training_use
from evaluation.tuning.search import search_hyperparameters
from evaluation.work import FAILURES, InTurn
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
    overlaps : what they found under whatever conditions -> DetectionSettings.overlaps
    internal_downsample : see DetectionSettings
    search_strategy, grid : what is searched among; None: the given ones serve
    """

    method: str
    given: Callable[[Sequence[Hyperparameters], Conditions], dict[str, dict[str, float]]]
    untuned: Callable[[Sequence[Hyperparameters]], bool]
    overlaps: Callable[[Sequence[Hyperparameters]], MethodHyperparameters | None]
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


# The table of what is finished is written once in so many times as long as that takes.
WRITING_SHARE = 20
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
    _opened: dict[tuple, tuple[list[SourceTomogram], dict[str, Exception]]] = field(default_factory=dict, repr=False)

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
            match_spectrum=self.tomograms.matches,
        )

    def opened(self, data_root: Path, run_names: Iterable[str]) -> tuple[list[SourceTomogram], dict[str, Exception]]:
        """Tomograms to evaluate on, and what is wrong with those that cannot be opened or do not suit the networks.

        Opened once. InputError where a run is not there, or none of them can be opened.
        """
        asked = data_root, *run_names
        if asked not in self._opened:
            runs = find_runs(data_root, tomo_type=self.tomograms.tomo_type, names=list(asked[1:]))
            self._opened[asked] = open_sources(runs, self.tomograms)
        return self._opened[asked]

    def sources(self, data_root: Path, run_names: Iterable[str]) -> list[SourceTomogram]:
        """Those that can be opened."""
        return self.opened(data_root, run_names)[0]

    def training_truths(
        self, particles: Sequence[Particle]
    ) -> tuple[dict[SourceTomogram, pd.DataFrame], dict[str, Exception]]:
        """Training tomograms to search hyperparameters on with their reference points, and what is wrong with others.

        None without a search.
        """
        if self.training_root is None:
            return {}, {}
        names = {name for detectors in self.detectors.values() for one in detectors for name in one.tuning}
        runs = find_runs(self.training_root, tomo_type=self.training_tomograms.tomo_type, names=sorted(names))
        truths = {run.name: truth_table([run], particles) for run in runs}
        sources, failures = open_sources(runs, self.training_tomograms)
        return {source: truths[source.name] for source in sources}, failures


@dataclass(frozen=True)
class Failure:
    """What of a configuration could not be done: a detector on a tomogram, or the search for a detector (none)."""

    configuration: Configuration
    detector: str
    tomogram: str | None
    reason: str

    def __str__(self) -> str:
        return f"{self.detector}, {self.tomogram or 'search'}: {self.reason}"


class Campaign:
    """Does what has not been done, and keeps it in the folder.

    Parameters
    ----------
    folder : of the results, opened
    maps : of single networks
    data_root : of the tomograms to evaluate on
    truths : run name -> reference points, of every run to evaluate on
    plans : the methods that are compared

    Attributes
    ----------
    failures : of the run, in failures.csv too
    left_out : tomograms that no configuration could be evaluated on
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
        self._truths = truths
        self.plans = plans
        self.particles = particles
        self.failures: list[Failure] = []
        self.left_out: tuple[str, ...] = ()
        self._bars = ProgressBars()
        self._rows: list[dict] = []
        self._write_rows_at = 0.0

    def run(self, studies: Sequence[Study]) -> None:
        (self.folder.root / FAILURES_TABLE).unlink(missing_ok=True)
        parts = [(study, inference) for study in studies for inference in study.views]
        try:
            for study, inference in self._bars.each(parts, "experiments", total=len(parts)):
                self._run(study, inference)
        finally:
            self._write_rows()
        self.left_out = self._failed_for_all(studies)

    def maps_work(self, studies: Sequence[Study]) -> list[MapsWork]:
        """The networks' maps that the campaign needs."""
        asked = []
        for study in studies:
            evaluated = study.sources(self.data_root, self._truths)
            training, _ = study.training_truths(self.particles)
            for inference in study.views:
                for task in study.tasks(inference):
                    detector = task.detector
                    asked += [(source, detector.ensemble, inference) for source in evaluated]
                    asked += [
                        (source, detector.tuning[source.name], inference)
                        for source in training
                        if source.name in detector.tuning
                    ]
        return maps_work(asked)

    def _run(self, study: Study, inference: InferenceSettings) -> None:
        (training, unreadable), tasks = study.training_truths(self.particles), study.tasks(inference)
        detection = {
            task: self._detection_settings(study, task, training, unreadable)
            for task in self._bars.each(tasks, "hyperparameters", total=len(tasks))
        }
        self._evaluate(study, inference, detection)

    def configurations(self, studies: Sequence[Study]) -> dict[Configuration, list[DetectorTask]]:
        """The configurations that have all tomograms but those that nobody has, each with a task for every detector."""
        lacking = {one.configuration for one in self.failures if one.tomogram not in self.left_out}
        return {one: tasks for one, tasks in self._configurations(studies).items() if one not in lacking}

    @property
    def truths(self) -> dict[str, pd.DataFrame]:
        """Run name -> reference points, of the tomograms that are compared on."""
        return {name: truth for name, truth in self._truths.items() if name not in self.left_out}

    def notes(self) -> list[str]:
        """Sentences about what is not in the comparison, and why."""
        of_tomograms = {
            name: next(one.reason for one in self.failures if one.tomogram == name) for name in self.left_out
        }
        by_configuration: dict[Configuration, list[Failure]] = {}
        for one in self.failures:
            if one.tomogram not in self.left_out:
                by_configuration.setdefault(one.configuration, []).append(one)
        return [
            *(f"{name} is left out for all configurations: {why}" for name, why in of_tomograms.items()),
            *(
                f"{configuration} is not ranked, since {len(of)} of its results failed; the first is {of[0]}"
                for configuration, of in by_configuration.items()
            ),
        ]

    def _configurations(self, studies: Sequence[Study]) -> dict[Configuration, list[DetectorTask]]:
        found: dict[Configuration, list[DetectorTask]] = {}
        for task in (task for study in studies for inference in study.views for task in study.tasks(inference)):
            for plan in self.plans:
                found.setdefault(task.configuration(plan.method), []).append(task)
        return found

    def is_untuned(self, configuration: Configuration, tasks: Sequence[DetectorTask]) -> bool:
        """Whether the hyperparameters of any of its detectors are config.py's."""
        [plan] = [plan for plan in self.plans if plan.method == configuration.method]
        return any(plan.untuned(task.detector.found_in_training({})) for task in tasks)

    def _failed_for_all(self, studies: Sequence[Study]) -> tuple[str, ...]:
        """Tomograms that every detector failed on; none where these are all, since then it is not for the tomograms."""
        failed = {(one.configuration, one.detector, one.tomogram) for one in self.failures}
        detectors = [
            (configuration, task.detector.name)
            for configuration, tasks in self._configurations(studies).items()
            for task in tasks
            if (configuration, task.detector.name, None) not in failed  # its search failed: it came to no tomogram
        ]
        names = [name for name in self.truths if detectors and all((*one, name) in failed for one in detectors)]
        return tuple(names) if len(names) < len(self.truths) else ()

    def _fail(self, task: DetectorTask, method: str, tomogram: str | None, error: Exception) -> None:
        one = Failure(task.configuration(method), task.detector.name, tomogram, no_formula(one_line(error)))
        self.failures.append(one)
        self._bars.say(f"failed: {one.configuration}, {one}")
        rows = [{**vars(f.configuration), **vars(f)} for f in self.failures]
        columns = ["experiment", "strategy", "method", "views", "detector", "tomogram", "reason"]
        self.folder.write_table(FAILURES_TABLE, pd.DataFrame(rows, columns=columns))

    def _detection_settings(
        self,
        study: Study,
        task: DetectorTask,
        training: Mapping[SourceTomogram, pd.DataFrame],
        unreadable: Mapping[str, Exception],
    ) -> dict[str, DetectionSettings]:
        """Method -> how it finds particles on the detector's maps: as given, or as a search finds best.

        Without those methods whose search failed.
        """
        detector = task.detector
        conditions = {plan.method: study.conditions(task, plan) for plan in self.plans}
        settings = {
            plan.method: DetectionSettings(
                study.trained_radius_fraction,
                plan.method,
                plan.given(detector.found_in_training(conditions[plan.method]), conditions[plan.method]),
                plan.internal_downsample,
                plan.overlaps(detector.found_in_training(None)),
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
        try:
            for error in (unreadable[name] for name in detector.tuning if searches and name in unreadable):
                raise error
            found = search_hyperparameters(tomograms, searches, task.inference, self.maps, self.particles, self._bars)
        except FAILURES as error:
            found = {}
            for method in [method for method, folder in folders.items() if folder in searches]:
                self._fail(task, method, None, error)
                del settings[method]
        for method in settings:
            folder = folders[method]
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
        work, label = [], f"{study.experiment.name}, views {inference.tta_group}, "
        truths = self.truths
        sources, unreadable = study.opened(self.data_root, truths)
        for name, error in unreadable.items():
            for task, by_method in detection.items():
                for method in by_method:
                    self._fail(task, method, name, error)
        for source in sources:
            tasks = []
            for task, by_method in detection.items():
                outputs = []
                for method, settings in by_method.items():
                    folder = self.folder.picks_dir(task.configuration(method), task.detector.name, source.name)
                    owners[folder] = task, method
                    outputs.append(Output(folder, settings))
                one = TomogramInput(source, task.detector.ensemble, truths[source.name])
                tasks.append(TomogramTask(one, inference, tuple(outputs)))
            work.append(EvaluationWork(source, tuple(tasks), tuple(self.particles), label))
        for outcome in InTurn(self.maps, self._bars).records(work):
            for record in outcome.records:
                if record.error is not None:
                    self._fail(*owners[record.output.picks_dir], record.run_name, record.error)
                self._write_timing(
                    "detection", record.seconds, *owners[record.output.picks_dir], tomogram=record.run_name
                )
            self._note(outcome, owners)

    def _write_timing(self, work: str, seconds: float | None, task: DetectorTask, method: str, **further: str) -> None:
        """Of what was done now."""
        if seconds is not None:
            self.folder.remove_summaries()
            configuration = str(task.configuration(method))
            self.folder.timings.write(
                seconds=seconds, work=work, configuration=configuration, detector=task.detector.name, **further
            )

    def _note(self, outcome: Outcome, owners: Mapping[Path, tuple[DetectorTask, str]]) -> None:
        """Write down what is finished, in the order in which it is finished."""
        name = outcome.run_name
        for record in outcome.records:
            if record.error is None:
                task, method = owners[record.output.picks_dir]
                row = intermediate_row(task.configuration(method), task.detector.name, record, self.particles)
                use = training_use(name, task.detector.descriptions)
                self._rows.append({**row, "trained_on": use.trained_on, "held_out": use.held_out})
        if time.monotonic() >= self._write_rows_at:
            self._write_rows()

    def _write_rows(self) -> None:
        """Again only when the writing of so long a table takes little of the time."""
        begin = time.monotonic()
        if self._rows:
            self.folder.write_table("intermediate_results.csv", pd.DataFrame(self._rows))
        self._write_rows_at = time.monotonic() + WRITING_SHARE * (time.monotonic() - begin)
