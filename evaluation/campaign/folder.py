"""The results of a campaign on disk; what is there is finished, and need not be done again."""

import json
import shutil
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data.files import atomic_path
from data.picks import write_submission
from evaluation.campaign.configuration import Configuration
from evaluation.campaign.experiments import STRATEGIES
from evaluation.exports import FAILURES_TABLE, read_run_table, write_run_picks
from evaluation.ownership import Command, owned
from evaluation.shards import Shard
from inference.maps.timings import Timings
from particle_config import Particle

# Tables and report of all that is finished.
SUMMARIES = (
    *("report.html", "comparison_summary.csv", "comparison_summary_by_particle.csv", "per_tomogram_scores.csv"),
)
# All that a campaign writes.
RESULTS = (
    *(*SUMMARIES, "intermediate_results.csv", FAILURES_TABLE, "timings.jsonl"),
    *(f"*/{strategy}-*-*" for strategy in STRATEGIES),
)
# Where a campaign leaves temporary files when it is killed: among its tables and below its configurations.
TEMPORARY = (".*.partial", "*/*-*-*/**/.*.partial")


@dataclass(frozen=True)
class CampaignFolder:
    """Tables of the whole campaign; and ``{experiment}/{strategy}-{method}-{views}/{detector}/`` with ``picks/{run}``
    and ``hyperparameters``, each marked when it is finished, see evaluation.finished.
    """

    root: Path

    def owned(
        self, command: Command, *, anew: bool = False, shard: Shard | None = None
    ) -> AbstractContextManager[None]:
        """Hold the folder for a campaign, see evaluation.ownership.owned."""
        return owned(self.root, command, results=RESULTS, temporary=TEMPORARY, anew=anew, shard=shard)

    def remove_summaries(self) -> None:
        """Of what is done anew the tables of before are no longer right, should this process be stopped."""
        for name in SUMMARIES:
            (self.root / name).unlink(missing_ok=True)

    def remove_other_runs(self, run_names: Iterable[str]) -> list[str]:
        """Remove picks of runs that are no longer there, and all pictures, which are drawn again; the runs' names."""
        for folder in self.root.glob("*/*-*-*/*/overlays"):
            shutil.rmtree(folder)
        wanted = set(run_names)
        others = [folder for folder in self.root.glob("*/*-*-*/*/picks/*") if folder.name not in wanted]
        for folder in others:
            shutil.rmtree(folder)
        return sorted({folder.name for folder in others})

    @property
    def timings(self) -> Timings:
        return Timings(self.root / "timings.jsonl")

    def detector_dir(self, configuration: Configuration, detector: str) -> Path:
        return self.root / configuration.folder / detector

    def picks_dir(self, configuration: Configuration, detector: str, run_name: str) -> Path:
        return self.detector_dir(configuration, detector) / "picks" / run_name

    def hyperparameters_dir(self, configuration: Configuration, detector: str) -> Path:
        return self.detector_dir(configuration, detector) / "hyperparameters"

    def export(
        self, configuration: Configuration, detector: str, run_names: Sequence[str], particles: Sequence[Particle]
    ) -> pd.DataFrame:
        """Write the picks of finished tomograms for other programs: a JSON file for each particle, submission.csv.

        Returns the table, in the order of the runs, then of the particles.
        """
        tables = []
        for name in run_names:
            folder = self.picks_dir(configuration, detector, name)
            tables.append(read_run_table(folder))
            write_run_picks(folder, name, tables[-1], particles)
        picks = pd.concat(tables, ignore_index=True)
        write_submission(self.detector_dir(configuration, detector) / "submission.csv", picks)
        return picks

    def thresholds(self, configuration: Configuration, detector: str, keyword: str) -> dict[str, float]:
        """Particle name -> the value of a hyperparameter that the detector uses."""
        path = self.hyperparameters_dir(configuration, detector) / "thresholds.json"
        [entry] = json.loads(path.read_text(encoding="utf-8")).values()
        return {name: values[keyword] for name, values in entry["hyperparameters"][configuration.method].items()}

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """A CSV in the root, the same bytes for the same values."""
        with atomic_path(self.root / name) as temporary:
            table.to_csv(temporary, index=False, float_format="%.6f", lineterminator="\n")
