"""Experiments as train.py leaves them, and the ways to make detectors of their networks.

A strategy of STRATEGIES turns an experiment into detectors; each detector knows its networks, how their maps are
combined, and on which training tomograms it may be tuned: those that its networks have not been trained on.
"""

import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.thresholds import Hyperparameters
from errors import InputError
from evaluation.ensembles import Combination, mean_of_maps, specialists_map
from inference.checkpoints import Description, check_agreement, read_description
from inference.settings import InferenceSettings
from particle_config import Particle

GENERALIST = "fscore"
BEST_CHECKPOINT = re.compile(r"fold_(?P<fold>\d+)-best-(?P<what>.+)-epoch=(?P<epoch>\d+)-f4=(?P<f4>[\d.]+)\.ckpt")


@dataclass(frozen=True)
class TrainedFold:
    """The checkpoints of one fold, and the run that none of them was trained on."""

    index: int
    held_out_run: str
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

    def trained_on(self, run_names: Sequence[str]) -> list[str]:
        """Those of the runs that some of its networks have seen."""
        seen = {fold.held_out_run for fold in self.folds} if len(self.folds) > 1 else set()
        seen.update(*(one.training_runs or () for one in self.descriptions))
        return [name for name in run_names if name in seen]


@dataclass(frozen=True)
class UnseenTomogram:
    """A training run, and those of a detector's networks that have not seen it."""

    run_name: str
    members: tuple[Path, ...]


@dataclass(frozen=True)
class Detector:
    """Networks that find particles together.

    Attributes
    ----------
    name : unique within the experiment and strategy
    members : checkpoints, in the order in which ``combine`` wants their maps
    combine : what the members see -> what they see together
    tuning : what its hyperparameters may be chosen on; ``combine`` serves for these members too
    specialities : the particle that each member is for; None: every member is for all
    """

    name: str
    members: tuple[Path, ...]
    combine: Combination
    tuning: tuple[UnseenTomogram, ...]
    specialities: tuple[str, ...] | None = None

    def found_in_training(self) -> list[Hyperparameters]:
        """The hyperparameters that each member found on its held-out tomogram, for the particles that it is for."""
        found = [read_description(path).hyperparameters for path in self.members]
        if self.specialities is None:
            return found
        return [
            {method: {name: values[name]} for method, values in one.items() if name in values}
            for one, name in zip(found, self.specialities, strict=True)
        ]


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


@dataclass(frozen=True)
class Task:
    """A detector of an experiment with one set of views: its maps serve all methods."""

    experiment: str
    strategy: str
    detector: Detector
    inference: InferenceSettings

    def configuration(self, method: str) -> Configuration:
        return Configuration(self.experiment, self.strategy, method, self.inference.tta_group)


def best_single(experiment: Experiment, particles: Sequence[Particle]) -> list[Detector]:
    """The generalist of each fold by itself."""
    return [
        Detector(fold.name, (fold.generalist,), mean_of_maps, (UnseenTomogram(fold.held_out_run, (fold.generalist,)),))
        for fold in experiment.folds
    ]


def ensemble_specialists(experiment: Experiment, particles: Sequence[Particle]) -> list[Detector]:
    """The specialists of each fold, each for its own particle."""
    detectors = []
    for fold in experiment.folds:
        missing = [particle.name for particle in particles if particle.name not in fold.specialists]
        if missing:
            raise InputError(
                f"experiment {experiment.name} has no specialist for {missing[0]} in fold {fold.index} "
                f"(fold_{fold.index}-best-{missing[0]}-epoch=...ckpt); choose another --evaluation_strategy"
            )
        names = tuple(particle.name for particle in particles)
        members = tuple(fold.specialists[name] for name in names)
        tuning = (UnseenTomogram(fold.held_out_run, members),)
        detectors.append(Detector(fold.name, members, specialists_map, tuning, names))
    return detectors


def kfold_ensemble(experiment: Experiment, particles: Sequence[Particle]) -> list[Detector]:
    """The generalists of all folds together.

    All but one of them have been trained on any training tomogram, so it is tuned out of fold: every tomogram as the
    one network sees it that has not been trained on it.
    """
    tuning = tuple(UnseenTomogram(fold.held_out_run, (fold.generalist,)) for fold in experiment.folds)
    return [Detector("ensemble", tuple(fold.generalist for fold in experiment.folds), mean_of_maps, tuning)]


STRATEGIES: dict[str, Callable[[Experiment, Sequence[Particle]], list[Detector]]] = {
    "best_single": best_single,
    "ensemble_specialists": ensemble_specialists,
    "kfold_ensemble": kfold_ensemble,
}


def load_experiment(experiments_dir: Path, name: str) -> Experiment:
    """The experiment of exactly that name.

    Raises
    ------
    InputError : no such experiment, nothing trained in it, or checkpoints that were not trained alike
    """
    folder = experiments_dir / name
    found = _best_checkpoints(folder)
    indices = sorted(fold for fold, what in found if what == GENERALIST)
    if not indices:
        there = sorted({path.parent.name for path in experiments_dir.glob(f"*/fold_*-best-{GENERALIST}-*.ckpt")})
        raise InputError(
            f"no experiment {name!r} in {experiments_dir} (a folder with fold_*-best-{GENERALIST}-*.ckpt); "
            f"there are: {', '.join(there) or 'none; train.py makes them'}"
        )
    generalists = [found[index, GENERALIST] for index in indices]
    descriptions = [read_description(path) for path in generalists]
    check_agreement(generalists, descriptions)
    unfinished = [index for index in indices if not (folder / f"fold_{index}" / "result.json").is_file()]
    if unfinished:
        warnings.warn(f"{folder}: fold {unfinished[0]} has not finished; its best so far is taken", stacklevel=2)
    folds = [
        TrainedFold(
            index,
            description.validation_run,
            generalist,
            {what: path for (fold, what), path in found.items() if fold == index and what != GENERALIST},
        )
        for index, generalist, description in zip(indices, generalists, descriptions, strict=True)
    ]
    return Experiment(name, tuple(folds), tuple(descriptions), _arguments(folder))


def _best_checkpoints(folder: Path) -> dict[tuple[int, str], Path]:
    """(fold, particle or fscore) -> checkpoint; the best of several that a killed run left."""
    named = [(match, path) for path in folder.glob("*.ckpt") if (match := BEST_CHECKPOINT.fullmatch(path.name))]
    named.sort(key=lambda pair: (float(pair[0]["f4"]), int(pair[0]["epoch"])))
    return {(int(match["fold"]), match["what"]): path for match, path in named}


def _arguments(folder: Path) -> dict[str, Any]:
    path = folder / "args.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); train.py writes it beside the checkpoints") from None
