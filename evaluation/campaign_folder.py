"""The results of a campaign on disk; what is there is finished, and need not be done again."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from data.files import atomic_path
from data.picks import picks_table, read_picks, write_submission
from data.thresholds import write_thresholds
from errors import InputError
from evaluation.experiments import Configuration
from evaluation.exports import write_run_picks
from evaluation.timings import Timings
from particle_config import Particle

PARAMETERS = "run_parameters.json"
# Beside the picks of a tomogram: what they depend on.
FINISHED = ".finished.json"


@dataclass(frozen=True)
class CampaignFolder:
    """``{root}/{experiment}/{strategy}-{method}-{views}/{detector}/``, and the tables of the whole campaign in the root.

    Every tomogram's picks are written at once or not at all, together with a key of what they depend on.
    """

    root: Path

    @contextmanager
    def opened(self, parameters: Mapping[str, Any], *, command: str, may_change: Sequence[str] = ()) -> Iterator[None]:
        """Hold the folder for a campaign with these parameters (plain values) until the block ends.

        Raises
        ------
        InputError : another process is at work here, or the folder is of a campaign with other parameters.
        """
        lock = FileLock(self.root / ".lock", timeout=0)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except OSError as error:
            raise InputError(f"cannot write {self.root}: {error.strerror}; choose another --output_dir") from error
        except Timeout:
            raise InputError(f"another process is at work on {self.root}; wait for it or stop it") from None
        with lock:
            self._check_parameters(parameters, may_change)
            for rest in self.root.rglob(".*.partial"):  # of a process that was killed
                shutil.rmtree(rest)
            with atomic_path(self.root / PARAMETERS) as temporary:
                content = {"command": command, "parameters": parameters}
                temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            yield

    def _check_parameters(self, parameters: Mapping[str, Any], may_change: Sequence[str]) -> None:
        path = self.root / PARAMETERS
        if not path.is_file():
            return
        before, now = json.loads(path.read_text(encoding="utf-8"))["parameters"], json.loads(json.dumps(parameters))
        for name in [name for name in {**now, **before} if name not in may_change]:
            if before.get(name) != now.get(name):
                raise InputError(
                    f"{self.root} is of a campaign with --{name} {_as_typed(before.get(name))}, not "
                    f"{_as_typed(now.get(name))}; give another --output_dir"
                )

    @property
    def timings(self) -> Timings:
        return Timings(self.root / "timings.jsonl")

    def forget(self, configurations: Sequence[Configuration]) -> None:
        """Remove what is finished."""
        for configuration in configurations:
            shutil.rmtree(self.root / configuration.folder, ignore_errors=True)
        self.timings.path.unlink(missing_ok=True)

    def detector_dir(self, configuration: Configuration, detector: str) -> Path:
        return self.root / configuration.folder / detector

    def _picks_dir(self, configuration: Configuration, detector: str, run_name: str) -> Path:
        return self.detector_dir(configuration, detector) / "picks" / run_name

    def is_finished(self, configuration: Configuration, detector: str, run_name: str, key: str) -> bool:
        path = self._picks_dir(configuration, detector, run_name) / FINISHED
        return path.is_file() and json.loads(path.read_text(encoding="utf-8"))["key"] == key

    def save_picks(
        self,
        configuration: Configuration,
        detector: str,
        run_name: str,
        table: pd.DataFrame,
        *,
        key: str,
        particles: Sequence[Particle],
    ) -> None:
        """Finish a tomogram; ``table`` as :func:`evaluation.tomograms.picks_of` makes it."""
        with atomic_path(self._picks_dir(configuration, detector, run_name)) as temporary:
            write_run_picks(temporary, run_name, table, particles)
            (temporary / FINISHED).write_text(json.dumps({"key": key}) + "\n", encoding="utf-8")

    def picks(
        self, configuration: Configuration, detector: str, run_names: Sequence[str], particles: Sequence[Particle]
    ) -> pd.DataFrame:
        """The table of finished tomograms, in the order of the runs, then of the particles."""
        tables = []
        for run_name in run_names:
            folder = self._picks_dir(configuration, detector, run_name)
            for particle in particles:
                picks = read_picks(folder / f"{particle.name}.json")
                count = len(picks.coordinates_zyx_angstrom)
                scores, uncertainties = (
                    np.full(count, np.nan) if values is None else values
                    for values in (picks.scores, picks.uncertainties)
                )
                tables.append(
                    picks_table(run_name, particle.name, picks.coordinates_zyx_angstrom, scores, uncertainties)
                )
        return pd.concat(tables, ignore_index=True)

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """A CSV in the root, the same bytes for the same values."""
        with atomic_path(self.root / name) as temporary:
            table.to_csv(temporary, index=False, float_format="%.6f", lineterminator="\n")


def _as_typed(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "not given" if value is None else str(value)
