"""The results of a campaign on disk; what is there is finished, and need not be done again."""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from data.files import atomic_path
from errors import InputError
from evaluation.campaign.configuration import Configuration
from evaluation.exports import read_run_picks
from evaluation.finished import holding
from inference.maps.timings import Timings
from particle_config import Particle

PARAMETERS = "run_parameters.json"
# Where a campaign leaves temporary files when it is killed: among its tables and below its configurations.
TEMPORARY = (".*.partial", "*/*-*-*/**/.*.partial")


@dataclass(frozen=True)
class CampaignFolder:
    """Tables of the whole campaign; and ``{experiment}/{strategy}-{method}-{views}/{detector}/`` with ``picks/{run}``
    and ``hyperparameters``, each marked when it is finished, see evaluation.finished.
    """

    root: Path

    @contextmanager
    def opened(self, parameters: Mapping[str, Any], *, command: str) -> Iterator[None]:
        """Hold the folder for a campaign with these parameters (plain values) until the block ends.

        Raises
        ------
        InputError : another process is at work here, or the folder is of a campaign with other parameters.
        """
        with holding(self.root, temporary=TEMPORARY):
            self._check_parameters(parameters)
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
        folders = [(self.picks_dir(configuration, detector, name), name) for name in run_names]
        return pd.concat([read_run_picks(*one, particles) for one in folders], ignore_index=True)

    def thresholds(self, configuration: Configuration, detector: str, keyword: str) -> dict[str, float]:
        """Particle name -> the value of a hyperparameter that the detector uses."""
        path = self.hyperparameters_dir(configuration, detector) / "thresholds.json"
        [entry] = json.loads(path.read_text(encoding="utf-8")).values()
        return {name: values[keyword] for name, values in entry["hyperparameters"][configuration.method].items()}

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """A CSV in the root, the same bytes for the same values."""
        with atomic_path(self.root / name) as temporary:
            table.to_csv(temporary, index=False, float_format="%.6f", lineterminator="\n")


def _as_typed(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "not given" if value is None else str(value)
