"""The unit of work, one tomogram: its map, the picks found on it, their files; and the tables of all tomograms."""

import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from data.czi import Run
from data.files import check_still_there
from detection.proposals import DetectionSettings, accept, propose, threshold_curves
from errors import first_failure, one_line
from evaluation.exports import (
    FAILURES_TABLE,
    read_run_table,
    write_curves,
    write_failures,
    write_results,
    write_run_picks,
    write_run_table,
)
from evaluation.finished import FINISHED, TomogramInput, finished_notes, finishing, result_key
from evaluation.overlays import save_overlay
from evaluation.saved_maps import ZARR_SUFFIX, SavedMaps, map_key
from evaluation.training_use import TrainingUse
from evaluation.truth import by_particle, score_of
from evaluation.work import FAILURES, failures_of
from inference.maps.network_maps import NetworkMaps
from inference.predictor import Prediction
from inference.settings import InferenceSettings
from inference.tomograms import SourceTomogram, TomogramSettings
from metrics.fbeta import Score, counts_per_run
from particle_config import Particle

GALLERY = "gallery.html"
# What an evaluation writes, and where it leaves temporary files when it is killed.
SUMMARIES = ("submission.csv", "scores.json", GALLERY)
RESULTS = (
    *(*SUMMARIES, FAILURES_TABLE, "picks", "overlays", "maps"),
    *("thresholds.json", "search_grid.csv", "search_curves.png", FINISHED),
)
TEMPORARY = (".*.partial", "picks/.*.partial", "picks/*/.*.partial", "overlays/.*.partial", "maps/.*.partial")
# Folder of results with a file or folder for each run -> what its name has behind the run's.
BY_RUN = {"picks/[!.]*": "", "overlays/[!.]*.png": ".png", "maps/[!.]*": ZARR_SUFFIX}


@dataclass(frozen=True)
class Output:
    """Where the picks of a tomogram go, how they are found, and what else is wanted.

    Attributes
    ----------
    picture, saved_maps : where a picture and the map go; None: nowhere
    for_others : whether the picks are written for other programs at once, too
    """

    picks_dir: Path
    settings: DetectionSettings
    picture: Path | None = None
    saved_maps: SavedMaps | None = None
    for_others: bool = False


@dataclass(frozen=True)
class TomogramTask:
    """All that is asked of one tomogram and one set of networks: picks, found in one or more ways on the same map."""

    tomogram: TomogramInput
    inference: InferenceSettings
    outputs: tuple[Output, ...]

    @property
    def name(self) -> str:
        return self.tomogram.source.name


@dataclass(frozen=True)
class Record:
    """What is known of an output once its files are written, or why there are none.

    Attributes
    ----------
    counts : (particles, 3) hits, false picks and misses; None without reference points
    windows_zyx : in which networks took the tomogram, voxels; each size once
    seconds : of detection; None when it was found done
    error : one of FAILURES
    """

    run_name: str
    output: Output
    picks: int = 0
    counts: np.ndarray | None = None
    windows_zyx: Sequence[Sequence[int]] = ()
    seconds: float | None = None
    error: Exception | None = None


@dataclass(frozen=True)
class Outcome:
    """A tomogram with the records of all its tasks.

    Attributes
    ----------
    maps_missing : how many maps they needed that were not there
    seconds : of all work on it; None when it was found done
    """

    run_name: str
    records: tuple[Record, ...]
    maps_missing: int = 0
    seconds: float | None = None

    @property
    def error(self) -> Exception | None:
        return next((record.error for record in self.records if record.error is not None), None)


@dataclass(frozen=True)
class EvaluationWork:
    """The tasks of one tomogram, which is read once for all of them; a unit of work, see evaluation.work.TomogramWork.

    A network that fails ends those tasks alone that it is part of.

    Attributes
    ----------
    label : what a line of it begins with
    """

    source: SourceTomogram
    tasks: tuple[TomogramTask, ...]
    particles: tuple[Particle, ...]
    label: str = ""

    def do(self, maps: NetworkMaps, progress: Callable[[float], None] = lambda voxels: None) -> Outcome:
        begin, missing = time.perf_counter(), len(self.missing_maps(maps))
        by_task = [find_particles(task, maps, self.particles, progress) for task in self.tasks]
        records = tuple(record for of_task in by_task for record in of_task)
        is_new = any(record.seconds is not None for record in records)
        return Outcome(self.source.name, records, missing, time.perf_counter() - begin if is_new else None)

    def failed(self, error: Exception) -> Outcome:
        outputs = [output for task in self.tasks for output in task.outputs]
        return Outcome(self.source.name, tuple(Record(self.source.name, output, error=error) for output in outputs))

    def _unfinished(self, maps: NetworkMaps, *, picks_alone: bool = False) -> list[TomogramTask]:
        return [task for task in self.tasks if not is_finished(task, maps, self.particles, picks_alone=picks_alone)]

    def needs_voxels(self, maps: NetworkMaps) -> bool:
        return bool(self.missing_maps(maps)) or any(
            output.picture for task in self._unfinished(maps, picks_alone=True) for output in task.outputs
        )

    def missing_maps(self, maps: NetworkMaps) -> set[str]:
        return set().union(*(missing_maps(task, maps) for task in self._unfinished(maps)))

    def in_words(self, outcome: Outcome) -> str:
        failed = sum(record.error is not None for record in outcome.records)
        if len(outcome.records) == 1:
            what = one_line(outcome.error) if failed else f"{outcome.records[0].picks} picks"
        else:
            done = sum(record.seconds is not None for record in outcome.records)
            what = f"{done} sets of picks, " + (f"{failed} failed" if failed else f"{outcome.maps_missing} maps made")
        how = "" if failed else ", finished before" if outcome.seconds is None else f", {outcome.seconds:.1f} s"
        return f"{self.label}{outcome.run_name}: {what}{how}"


def find_particles(
    task: TomogramTask,
    maps: NetworkMaps,
    particles: Sequence[Particle],
    progress: Callable[[float], None] = lambda voxels: None,
) -> list[Record]:
    """Do what is not finished of a task, and write it; each output is there as a whole or not at all.

    What goes wrong with one output is in its record, and does not end the others.

    The result depends on the task and the files that it names alone, and is the same whenever it is asked for.

    Parameters
    ----------
    maps : where the networks' maps come from
    progress : is told of voxels that go through a network
    """
    one, name, records, prediction = task.tomogram, task.tomogram.source.name, [], None
    for number, output in enumerate(task.outputs):
        try:
            if output.saved_maps is not None:
                output.saved_maps.remove_outdated(name, map_key(one, task.inference, maps, particles))
            done = _notes(output, task, maps, particles)
            must_save = _must_save_maps(output, task, maps, particles)
            if prediction is None and (done is None or must_save):
                prediction = maps.combined(one.ensemble, one.source, task.inference, progress)
            if done is None:
                record = _detect(prediction, output, task, maps, particles)
            else:
                counts = None if done["counts"] is None else np.array(done["counts"])
                record = Record(name, output, done["picks"], counts, done["windows_zyx"])
            if output.for_others:
                write_run_picks(output.picks_dir, name, read_run_table(output.picks_dir), particles)
            if must_save:
                _save_maps(prediction, output, task, maps, particles)
            records.append(record)
        except FAILURES as error:
            if prediction is None:  # without a map there are none of the others either
                return [*records, *(Record(name, other, error=error) for other in task.outputs[number:])]
            records.append(Record(name, output, error=error))
    return records


def _detect(
    prediction: Prediction, output: Output, task: TomogramTask, maps: NetworkMaps, particles: Sequence[Particle]
) -> Record:
    """Find the particles of one output on the map, and write them."""
    one, begin = task.tomogram, time.perf_counter()
    where = {"run_name": one.source.name, "voxel_spacing_angstrom": one.source.voxel_spacing_angstrom}
    proposals = propose(prediction, output.settings, particles, **where)
    picks = accept(proposals, output.settings.hyperparameters, output.settings.overlaps)
    truth = {} if one.truth is None else by_particle(one.truth)
    curves = threshold_curves(proposals, output.settings.hyperparameters, truth)
    counts = None if one.truth is None else counts_per_run(picks, one.truth, particles, [one.source.name])[0]
    seconds = time.perf_counter() - begin
    if output.picture is not None:
        _draw(output.picture, one, picks, particles)
    # Anew: where memory ran out, the map is that of other windows.
    key = _key(output, task, maps, particles)
    windows = maps.windows(one.ensemble, one.source, task.inference)
    notes = {"picks": len(picks), "counts": None if counts is None else counts.tolist(), "windows_zyx": windows}
    with finishing(output.picks_dir, key, **notes) as folder:
        write_run_table(folder, picks)
        write_curves(folder, curves)
    return Record(one.source.name, output, len(picks), counts, windows, seconds)


def _notes(output: Output, task: TomogramTask, maps: NetworkMaps, particles: Sequence[Particle]) -> dict | None:
    """What was written down about a finished output; None where it is to be done."""
    notes = finished_notes(output.picks_dir, _key(output, task, maps, particles))
    return notes if output.picture is None or output.picture.is_file() else None


def _must_save_maps(output: Output, task: TomogramTask, maps: NetworkMaps, particles: Sequence[Particle]) -> bool:
    """Whether maps are asked for that are not there."""
    if output.saved_maps is None or output.saved_maps.format is None:
        return False
    key = map_key(task.tomogram, task.inference, maps, particles)
    return not output.saved_maps.are_finished(task.tomogram.source.name, key, particles)


def _save_maps(
    prediction: Prediction, output: Output, task: TomogramTask, maps: NetworkMaps, particles: Sequence[Particle]
) -> None:
    # Its key anew, as that of the picks.
    key = map_key(task.tomogram, task.inference, maps, particles)
    output.saved_maps.write(prediction, task.tomogram.source, key, particles)


def _key(output: Output, task: TomogramTask, maps: NetworkMaps, particles: Sequence[Particle]) -> str:
    return result_key([task.tomogram], output.settings, task.inference, maps, particles, with_score_weights=False)


def _draw(path: Path, tomogram: TomogramInput, picks: pd.DataFrame, particles: Sequence[Particle]) -> None:
    save_overlay(
        path,
        tomogram.source.voxels()[0],
        picks=picks,
        truth=tomogram.truth,
        voxel_spacing_angstrom=tomogram.source.voxel_spacing_angstrom,
        particles=particles,
        title=tomogram.source.name,
    )


def is_finished(
    task: TomogramTask, maps: NetworkMaps, particles: Sequence[Particle], *, picks_alone: bool = False
) -> bool:
    """Whether all outputs of a task are there, with the saved maps that are asked for or without."""
    try:
        return all(
            _notes(output, task, maps, particles) is not None
            and (picks_alone or not _must_save_maps(output, task, maps, particles))
            for output in task.outputs
        )
    except FAILURES:  # comes again, and is noted, when its turn comes
        return False


def missing_maps(task: TomogramTask, maps: NetworkMaps) -> set[str]:
    """Keys of the maps that the task needs and that must be made."""
    try:
        return maps.missing(task.tomogram.ensemble, task.tomogram.source, task.inference)
    except FAILURES:
        return set()


@dataclass(frozen=True)
class Evaluation:
    """Picks of all runs that could be read, their score (None without truth), one picture per run, what went wrong."""

    picks: pd.DataFrame
    score: Score | None
    scored_runs: tuple[str, ...]
    pictures: tuple[Path, ...]
    failures: Mapping[str, Exception]


def evaluation_work(
    tomograms: Sequence[TomogramInput],
    inference: InferenceSettings,
    detection: DetectionSettings,
    particles: Sequence[Particle],
    output_dir: Path,
    saved_maps: SavedMaps | None = None,
) -> list[EvaluationWork]:
    """What is asked of each tomogram, all of it written below ``output_dir``, its maps too where they are saved."""
    return [
        EvaluationWork(
            one.source,
            (
                TomogramTask(
                    one, inference, (Output(output_dir / "picks" / name, detection, picture, saved_maps, True),)
                ),
            ),
            tuple(particles),
        )
        for one in tomograms
        for name in [one.source.name]
        for picture in [output_dir / "overlays" / f"{name}.png"]
    ]


def write_evaluation(
    outcomes: Iterable[Outcome],
    tomograms: Sequence[TomogramInput],
    particles: Sequence[Particle],
    output_dir: Path,
    *,
    training_uses: Mapping[str, TrainingUse],
    settings: Mapping[str, object],
    failures: Mapping[str, Exception] | None = None,
) -> Evaluation:
    """Score the picks of all tomograms together, and write the tables below ``output_dir``.

    Parameters
    ----------
    outcomes : of the work on the tomograms, in their order
    training_uses : run name -> what part it had in training, of every tomogram
    settings : name -> dataclass, all that led to the results, for scores.json
    failures : of runs that could not be opened

    Raises
    ------
    InputError, MachineError : no tomogram could be evaluated; what is wrong with the first.
    """
    records = [record for outcome in outcomes for record in outcome.records]
    failures = dict(failures or {}) | failures_of(records)
    done = [record for record in records if record.error is None]
    write_failures(output_dir, failures)
    if not done:
        raise first_failure(failures)
    pictures, windows = [one.output.picture for one in done], {one.run_name: one.windows_zyx for one in done}
    check_still_there([*pictures, *(one.output.picks_dir for one in done)])
    tables = [read_run_table(one.output.picks_dir) for one in done]
    picks = pd.concat(tables, ignore_index=True)
    uses = {name: use for name, use in training_uses.items() if name not in failures}
    truths = {
        one.source.name: one.truth for one in tomograms if one.truth is not None and one.source.name not in failures
    }
    score = score_of(picks, truths, particles)
    write_results(output_dir, picks, score, uses, failures, settings, windows)
    scored = tuple(sorted(score.runs)) if score is not None else ()
    return Evaluation(picks, score, scored, tuple(pictures), failures)


def remove_summaries(output_dir: Path, names: Iterable[str] = SUMMARIES) -> None:
    """Of what is done anew the summaries of before are no longer right, should this process be stopped."""
    for name in names:
        (output_dir / name).unlink(missing_ok=True)


def remove_other_runs(output_dir: Path, run_names: Iterable[str]) -> list[str]:
    """Remove picks, pictures and maps of runs that are no longer there; their names."""
    wanted = set(run_names)
    by_path = {path: path.name.removesuffix(s) for pattern, s in BY_RUN.items() for path in output_dir.glob(pattern)}
    others = {path: name for path, name in by_path.items() if name not in wanted}
    for path in others:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if others:
        remove_summaries(output_dir)
    return sorted(set(others.values()))


def open_sources(runs: Sequence[Run], settings: TomogramSettings) -> tuple[list[SourceTomogram], dict[str, Exception]]:
    """The tomograms that can be opened, and run name -> what is wrong with each of the others.

    Raises
    ------
    InputError, MachineError : none of them can be opened; what is wrong with the first.
    """
    sources, failures = [], {}
    for run in runs:
        try:
            sources.append(SourceTomogram(run, settings))
        except FAILURES as error:
            failures[run.name] = error
    if failures and not sources:
        raise first_failure(failures)
    return sources, failures
