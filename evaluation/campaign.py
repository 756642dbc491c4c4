"""A campaign: experiments in all the ways that are to be compared, every piece of work done once and kept.

Experiment by experiment, first the hyperparameters of all detectors are found on training tomograms, then the
tomograms to evaluate on come one by one, each read once for all detectors.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path

import pandas as pd

from data.content_hash import hash_of
from data.czi import find_runs
from data.picks import truth_table
from evaluation.campaign_folder import CampaignFolder, finishing, is_finished
from evaluation.campaign_tuning import MethodPlan, Tuner, TuningTomogram
from evaluation.comparison import intermediate_row
from evaluation.detection_curves import detect_with_curves, write_curves
from evaluation.experiments import Configuration, Detector, Experiment, Task
from evaluation.exports import write_run_picks
from evaluation.network_maps import NetworkMaps, SourceTomogram, one_ahead, open_sources
from evaluation.progress import CampaignProgress
from evaluation.tomograms import DetectionSettings, TomogramSettings
from evaluation.tuning import by_particle
from inference.settings import InferenceSettings
from particle_config import Particle

# Part of every key: count up when the same ingredients would give other picks.
FORMAT = 2


@dataclass(frozen=True)
class Study:
    """An experiment, and how its networks are run.

    Attributes
    ----------
    detectors : strategy -> detectors
    views : one InferenceSettings for each set of views that is compared
    tomograms, training_tomograms : how those to evaluate on and those to tune on are read
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

    def tasks(self, inference: InferenceSettings) -> list[Task]:
        return [
            Task(self.experiment.name, strategy, detector, inference)
            for strategy, detectors in self.detectors.items()
            for detector in detectors
        ]

    def sources(self, data_root: Path, run_names: Iterable[str]) -> list[SourceTomogram]:
        """Tomograms to evaluate on, as the networks want them; InputError where one is not there or not fit."""
        runs = find_runs(data_root, tomo_type=self.tomograms.tomo_type, names=list(run_names))
        return open_sources(runs, self.tomograms)

    def tuning_tomograms(self, particles: Sequence[Particle]) -> dict[str, TuningTomogram]:
        """Run name -> what detectors may be tuned on; none where nothing is searched."""
        if self.training_root is None:
            return {}
        names = {one.run_name for detectors in self.detectors.values() for d in detectors for one in d.tuning}
        runs = find_runs(self.training_root, tomo_type=self.training_tomograms.tomo_type, names=sorted(names))
        truths = {run.name: truth_table([run], particles) for run in runs}
        return {
            source.run.name: TuningTomogram(source, truths[source.run.name])
            for source in open_sources(runs, self.training_tomograms)
        }


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
        self._progress = CampaignProgress()
        self._tuner = Tuner(folder, maps, plans, particles)
        self._rows: list[dict] = []

    def run(self, studies: Sequence[Study]) -> None:
        parts = [(study, inference) for study in studies for inference in study.views]
        for study, inference in self._progress.each(parts, "experiments", total=len(parts)):
            self._evaluate(study, inference, self._tune(study, study.tasks(inference)))

    def configurations(self, studies: Sequence[Study]) -> dict[Configuration, list[Task]]:
        """All that are compared, each with a task for every detector."""
        found: dict[Configuration, list[Task]] = {}
        for task in (task for study in studies for inference in study.views for task in study.tasks(inference)):
            for plan in self.plans:
                found.setdefault(task.configuration(plan.method), []).append(task)
        return found

    def _tune(self, study: Study, tasks: Sequence[Task]) -> dict[Task, dict[str, DetectionSettings]]:
        training = study.tuning_tomograms(self.particles)
        found = {}
        for task in self._progress.each(tasks, "hyperparameters", total=len(tasks)):
            with self._progress.voxels(self._tuner.voxels_to_predict(task, training), task.detector.name) as bar:
                found[task] = self._tuner.detection_settings(task, training, study.trained_radius_fraction, bar.update)
        return found

    def _evaluate(
        self, study: Study, inference: InferenceSettings, detection: Mapping[Task, Mapping[str, DetectionSettings]]
    ) -> None:
        sources = study.sources(self.data_root, self.truths)
        jobs = {source: list(self._jobs(source, detection)) for source in sources}
        missing = {source: len(set().union(*(job.missing_maps for job in jobs[source]))) for source in sources}
        ahead = one_ahead(sources, lambda source: missing[source] > 0)
        for source in self._progress.each(ahead, "tomograms", total=len(sources)):
            with self._progress.voxels(prod(source.tomogram.shape_zyx) * missing[source], source.run.name) as bar:
                for job in jobs[source]:
                    self._detect(source, job, bar.update)
            self._note(source, detection)
            what = f"{len(jobs[source])} detectors, {missing[source]} maps made" if jobs[source] else "finished before"
            self._progress.say(f"{study.experiment.name}, views {inference.tta_group}, {source.run.name}: {what}")

    def _jobs(
        self, source: SourceTomogram, detection: Mapping[Task, Mapping[str, DetectionSettings]]
    ) -> Iterator["_Job"]:
        """What is not finished on a tomogram."""
        for task, by_method in detection.items():
            members = [self.maps.key(member, source, task.inference) for member in task.detector.members]
            unfinished = {}
            for method, settings in by_method.items():
                spacing = source.tomogram.voxel_spacing_angstrom
                truth = self.truths[source.run.name].to_csv()
                key = hash_of([FORMAT, members, task.detector.combine.__name__, asdict(settings), spacing, truth])
                if not is_finished(self._picks_dir(task, method, source), key):
                    unfinished[method] = key, settings
            if unfinished:
                yield _Job(task, unfinished, [key for key in members if not self.maps.is_stored(source, key)])

    def _detect(self, source: SourceTomogram, job: "_Job", progress: Callable[[float], None]) -> None:
        task, truth = job.task, by_particle(self.truths[source.run.name])
        tomogram = self.maps.combined(task.detector, task.detector.members, source, task.inference, progress)
        for method, (key, settings) in job.unfinished.items():
            configuration = str(task.configuration(method))
            with self.folder.timings.measured(
                work="detection", tomogram=source.run.name, configuration=configuration, detector=task.detector.name
            ):
                table, curves = detect_with_curves(tomogram, settings, truth, self.particles)
            with finishing(self._picks_dir(task, method, source), key) as folder:
                write_run_picks(folder, source.run.name, table, self.particles)
                write_curves(folder, curves)

    def _picks_dir(self, task: Task, method: str, source: SourceTomogram) -> Path:
        return self.folder.picks_dir(task.configuration(method), task.detector.name, source.run.name)

    def _note(self, source: SourceTomogram, detection: Mapping[Task, Mapping[str, DetectionSettings]]) -> None:
        """Write down what is finished, in the order in which it is finished."""
        run_name = source.run.name
        for task, by_method in detection.items():
            for configuration in map(task.configuration, by_method):
                picks = self.folder.picks(configuration, task.detector.name, [run_name], self.particles)
                self._rows.append(
                    intermediate_row(configuration, task.detector.name, picks, self.truths[run_name], self.particles)
                )
        self.folder.write_table("intermediate_results.csv", pd.DataFrame(self._rows))


@dataclass(frozen=True)
class _Job:
    """A task on one tomogram: method -> the key of its picks and how it finds them; keys of maps that must be made."""

    task: Task
    unfinished: Mapping[str, tuple[str, DetectionSettings]]
    missing_maps: Sequence[str]
