"""Experiments as train.py leaves them, and the ways to make detectors of their networks.

A strategy of STRATEGIES turns an experiment into detectors; each detector knows its networks, how their maps are
combined, and on which training tomograms its hyperparameters may be searched: those that its networks have not been
trained on.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.czi import Run
from data.picks import read_run_picks
from data.text_files import read_json_object
from data.thresholds import Hyperparameters
from data.tomogram import open_tomogram
from data.training_volume import check_same_content, run_content, training_runs, types_of
from detection.conditions import Conditions, found_in_training
from errors import InputError
from evaluation.training_use import unseen_by
from inference.checkpoint_files import best_checkpoints
from inference.checkpoints import Description, check_agreement, check_particles, read_description
from inference.ensembles import Ensemble, mean_of_maps, specialists_map
from particle_config import Particle

GENERALIST = "fscore"


@dataclass(frozen=True)
class TrainedFold:
    """The checkpoints of one fold, and the runs that none of them was trained on."""

    index: int
    held_out_runs: tuple[str, ...]
    generalist: Path
    specialists: Mapping[str, Path]

    @property
    def name(self) -> str:
        return f"fold_{self.index}"


@dataclass(frozen=True)
class Experiment:
    """A folder that train.py wrote.

    Attributes
    ----------
    name : of the folder
    folds : those that have a generalist, by index
    descriptions : of the generalists, all trained alike
    arguments : the flags that it was trained with
    """

    name: str
    folds: tuple[TrainedFold, ...]
    descriptions: tuple[Description, ...]
    arguments: Mapping[str, Any]

    def check_training_data(self, data_root: Path, particles: Sequence[Particle]) -> None:
        """InputError when a data root does not hold what the networks were trained on.

        Those of earlier versions do not say what it was; a relative path of theirs gives a warning.
        """
        arguments = self.arguments
        if "runs" not in arguments:
            if not data_root.is_absolute():
                text = f"{self.name} was trained on {data_root}, taken as {data_root.resolve()}"
                warnings.warn(f"{text}; if that is another data set, give --training_data_root", stacklevel=2)
            return
        tomo_types = arguments["training_tomo_types"]
        runs = {run.name: run for run in training_runs(data_root, tomo_types)}

        def content(run: Run) -> str:
            tomogram = open_tomogram(
                run.tomogram_path(types_of(run, tomo_types)[0]),
                voxel_spacing_angstrom=arguments.get("voxel_spacing"),
                rescale_to_angstrom=arguments.get("rescale"),
            )
            return run_content(read_run_picks(run.picks_dir, particles), tomogram)

        now = {name: content(runs[name]) for name in arguments["runs"] if name in runs}
        check_same_content(
            *(arguments["runs"], now, f"{data_root} is not what {self.name} was trained on"),
            "say where its training data is by --training_data_root",
        )

    def generalists_unseen_by(self, run_name: str) -> tuple[Path, ...]:
        """The generalists that were not trained on the run."""
        return tuple(self.folds[index].generalist for index in unseen_by(run_name, self.descriptions))


@dataclass(frozen=True)
class Detector:
    """Networks that find particles together.

    Attributes
    ----------
    name : unique within the experiment and strategy
    ensemble : the networks, and how their maps are combined
    descriptions : of the networks
    tuning : training run -> those of the networks, combined alike, that were not trained on it
    specialities : the particle that each member is for; None: every member is for all
    """

    name: str
    ensemble: Ensemble
    descriptions: tuple[Description, ...]
    tuning: Mapping[str, Ensemble]
    specialities: tuple[str, ...] | None = None

    @property
    def networks_per_class(self) -> int:
        """Whose maps are averaged: of specialists none."""
        return len(self.ensemble.members) if self.specialities is None else 1

    def found_in_training(self, conditions: Conditions | None) -> list[Hyperparameters]:
        """The hyperparameters that each member found on its held-out tomograms, for the particles that it is for.

        Calibrations only where they hold under the conditions (detection.conditions); None: all of them.
        """
        found = [found_in_training(one, conditions) for one in self.descriptions]
        if self.specialities is None:
            return found
        return [
            {method: {name: values[name]} for method, values in one.items() if name in values}
            for one, name in zip(found, self.specialities, strict=True)
        ]


def best_single(experiment: Experiment, particles: Sequence[Particle]) -> list[Detector]:
    """The generalist of each fold by itself."""
    ensembles = [Ensemble((fold.generalist,), mean_of_maps) for fold in experiment.folds]
    return [
        Detector(fold.name, ensemble, (description,), dict.fromkeys(fold.held_out_runs, ensemble))
        for fold, ensemble, description in zip(experiment.folds, ensembles, experiment.descriptions, strict=True)
    ]


def ensemble_specialists(experiment: Experiment, particles: Sequence[Particle]) -> list[Detector]:
    """The specialists of each fold, each for its own particle."""
    detectors, names = [], tuple(particle.name for particle in particles)
    for fold in experiment.folds:
        if missing := [name for name in names if name not in fold.specialists]:
            raise InputError(
                f"experiment {experiment.name} has no specialist for {missing[0]} in fold {fold.index} "
                f"(fold_{fold.index}-best-{missing[0]}-epoch=...ckpt); choose another --evaluation_strategy"
            )
        ensemble = Ensemble(tuple(fold.specialists[name] for name in names), specialists_map)
        descriptions = _descriptions(ensemble.members, particles)
        tuning = dict.fromkeys(fold.held_out_runs, ensemble)
        detectors.append(Detector(fold.name, ensemble, descriptions, tuning, names))
    return detectors


def kfold_ensemble(experiment: Experiment, particles: Sequence[Particle]) -> list[Detector]:
    """The generalists of all folds together.

    Nearly all of them have been trained on any training tomogram, so hyperparameters are searched out of fold: on
    every held-out tomogram with the networks that were not trained on it.
    """
    tuning = {
        run: Ensemble(experiment.generalists_unseen_by(run), mean_of_maps)
        for fold in experiment.folds
        for run in fold.held_out_runs
    }
    ensemble = Ensemble(tuple(fold.generalist for fold in experiment.folds), mean_of_maps)
    return [Detector("ensemble", ensemble, experiment.descriptions, tuning)]


STRATEGIES: dict[str, Callable[[Experiment, Sequence[Particle]], list[Detector]]] = {
    "best_single": best_single,
    "ensemble_specialists": ensemble_specialists,
    "kfold_ensemble": kfold_ensemble,
}


def load_experiment(experiments_dir: Path, name: str, particles: Sequence[Particle]) -> Experiment:
    """The experiment of exactly that name.

    Raises
    ------
    InputError : no such experiment, nothing trained in it, or checkpoints that were not trained alike, or not with
        these particles
    """
    folder = experiments_dir / name
    found = _checkpoints_of(experiments_dir, name)
    indices = sorted(fold for fold, what in found if what == GENERALIST)
    generalists = [found[index, GENERALIST] for index in indices]
    descriptions = _descriptions(generalists, particles)
    check_agreement(generalists, descriptions)
    unfinished = [index for index in indices if not (folder / f"fold_{index}" / "result.json").is_file()]
    if unfinished:
        warnings.warn(f"{folder}: fold {unfinished[0]} has not finished; its best so far is taken", stacklevel=2)
    folds = [
        TrainedFold(
            index,
            description.validation_runs,
            generalist,
            {what: path for (fold, what), path in found.items() if fold == index and what != GENERALIST},
        )
        for index, generalist, description in zip(indices, generalists, descriptions, strict=True)
    ]
    return Experiment(name, tuple(folds), descriptions, _arguments(folder))


def trained_table(experiments_dir: Path, name: str) -> tuple[Particle, ...]:
    """Of the first generalist; InputError where there is no such experiment."""
    found = _checkpoints_of(experiments_dir, name)
    return read_description(next(path for (_, what), path in found.items() if what == GENERALIST)).particles


def _checkpoints_of(experiments_dir: Path, name: str) -> dict[tuple[int, str], Path]:
    found = best_checkpoints(experiments_dir / name)
    if not any(what == GENERALIST for _, what in found):
        there = sorted({path.parent.name for path in experiments_dir.glob(f"*/fold_*-best-{GENERALIST}-*.ckpt")})
        raise InputError(
            f"no experiment {name!r} in {experiments_dir} (a folder with fold_*-best-{GENERALIST}-*.ckpt); "
            f"there are: {', '.join(there) or 'none; train.py makes them'}"
        )
    return found


def _descriptions(paths: Sequence[Path], particles: Sequence[Particle]) -> tuple[Description, ...]:
    descriptions = tuple(read_description(path) for path in paths)
    for path, description in zip(paths, descriptions, strict=True):
        check_particles(path, description.particles, particles)
    return descriptions


def _arguments(folder: Path) -> dict[str, Any]:
    """The flags that train.py wrote down; InputError where those that are used are missing or wrong."""
    path = folder / "args.json"
    arguments = read_json_object(path, advice="train.py writes it beside the checkpoints")
    kinds = {"data_root": str, "voxel_spacing": float | int | None, "rescale": float | int | str | None}
    if "runs" in arguments:  # earlier versions do not name them
        kinds |= {"runs": dict, "training_tomo_types": list}
    for name, kind in kinds.items():
        if not isinstance(arguments.get(name), kind):
            raise InputError(f"{path}: {name} is {arguments.get(name)!r}; restore the file that train.py wrote")
    return arguments
