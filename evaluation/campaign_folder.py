"""The results of a campaign on disk; what is there is finished, and need not be done again."""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from data.files import atomic_path
from data.picks import picks_table, read_picks
from errors import InputError
from evaluation.experiments import Configuration
from evaluation.timings import Timings
from particle_config import Particle

PARAMETERS = "run_parameters.json"
# In a folder that is finished: what it depends on.
FINISHED = ".finished.json"


@dataclass(frozen=True)
class CampaignFolder:
    """Tables of the whole campaign; and ``{experiment}/{strategy}-{method}-{views}/{detector}/``, where every folder
    ``picks/{run}`` and ``hyperparameters`` is written at once or not at all, see :func:`finishing`.
    """

    root: Path

    @contextmanager
    def opened(self, parameters: Mapping[str, Any], *, command: str) -> Iterator[None]:
        """Hold the folder for a campaign with these parameters (plain values) until the block ends.

        Raises
        ------
        InputError : another process is at work here, or the folder is of a campaign with other parameters.
        """
        lock = FileLock(self.root / ".lock", timeout=0)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise InputError(f"another process is at work on {self.root}; wait for it or stop it") from None
        except OSError as error:
            raise InputError(f"cannot write {self.root}: {error.strerror}; choose another --output_dir") from error
        with lock:
            self._check_parameters(parameters)
            for rest in self.root.rglob(".*.partial"):  # of a process that was killed
                shutil.rmtree(rest)
            with atomic_path(self.root / PARAMETERS) as temporary:
                content = {"command": command, "parameters": parameters}
                temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            yield

    def _check_parameters(self, parameters: Mapping[str, Any]) -> None:
        path = self.root / PARAMETERS
        if not path.is_file():
            return
        before = json.loads(path.read_text(encoding="utf-8"))["parameters"]
        for name in {**parameters, **before}:
            if before.get(name) != parameters.get(name):
                raise InputError(
                    f"{self.root} is of a campaign with --{name} {_as_typed(before.get(name))}, not "
                    f"{_as_typed(parameters.get(name))}; give another --output_dir"
                )

    @property
    def timings(self) -> Timings:
        return Timings(self.root / "timings.jsonl")

    def forget(self, configurations: Iterable[Configuration]) -> None:
        """Remove what is finished."""
        for configuration in configurations:
            shutil.rmtree(self.root / configuration.folder, ignore_errors=True)
        self.timings.path.unlink(missing_ok=True)

    def detector_dir(self, configuration: Configuration, detector: str) -> Path:
        return self.root / configuration.folder / detector

    def picks_dir(self, configuration: Configuration, detector: str, run_name: str) -> Path:
        return self.detector_dir(configuration, detector) / "picks" / run_name

    def hyperparameters_dir(self, configuration: Configuration, detector: str) -> Path:
        return self.detector_dir(configuration, detector) / "hyperparameters"

    def picks(
        self, configuration: Configuration, detector: str, run_names: Sequence[str], particles: Sequence[Particle]
    ) -> pd.DataFrame:
        """The table of finished tomograms, in the order of the runs, then of the particles."""
        tables = []
        for run_name in run_names:
            folder = self.picks_dir(configuration, detector, run_name)
            for particle in particles:
                picks = read_picks(folder / f"{particle.name}.json")
                count = len(picks.coordinates_zyx_angstrom)
                values = (
                    np.full(count, np.nan) if values is None else values
                    for values in (picks.scores, picks.uncertainties, picks.sizes_voxels, picks.confidences)
                )
                tables.append(picks_table(run_name, particle.name, picks.coordinates_zyx_angstrom, *values))
        return pd.concat(tables, ignore_index=True)

    def thresholds(self, configuration: Configuration, detector: str, keyword: str) -> dict[str, float]:
        """Particle name -> the value of a hyperparameter that the detector uses."""
        path = self.hyperparameters_dir(configuration, detector) / "thresholds.json"
        [entry] = json.loads(path.read_text(encoding="utf-8")).values()
        return {name: values[keyword] for name, values in entry["hyperparameters"][configuration.method].items()}

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """A CSV in the root, the same bytes for the same values."""
        with atomic_path(self.root / name) as temporary:
            table.to_csv(temporary, index=False, float_format="%.6f", lineterminator="\n")


@contextmanager
def finishing(folder: Path, key: str) -> Iterator[Path]:
    """A folder to fill, which becomes ``folder`` as a whole when the block ends well; ``key``: what it depends on."""
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        yield temporary
        (temporary / FINISHED).write_text(json.dumps({"key": key}) + "\n", encoding="utf-8")


def is_finished(folder: Path, key: str) -> bool:
    """Whether the folder was finished, and from the same."""
    path = folder / FINISHED
    return path.is_file() and json.loads(path.read_text(encoding="utf-8"))["key"] == key


def _as_typed(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "not given" if value is None else str(value)
