"""The picks of all tomograms together: one table, a summary, and what a person reads at the end."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from data.files import atomic_path, check_still_there
from data.picks import write_submission
from errors import first_failure, one_line
from evaluation.detector import Detector
from evaluation.exports import read_run_table, write_failures
from evaluation.picking import PICKS, PickingRecord
from evaluation.selection import Selection
from evaluation.work import failures_of

# More tomograms are summed up.
MOST_ROWS = 40


@dataclass(frozen=True)
class PickingResults:
    """Records and tables of the tomograms that could be read, by name, and what went wrong with the others."""

    records: Mapping[str, PickingRecord]
    tables: Mapping[str, pd.DataFrame]
    failures: Mapping[str, Exception]

    @classmethod
    def read(
        cls, folder: Path, records: Sequence[PickingRecord], failures: Mapping[str, Exception]
    ) -> "PickingResults":
        """InputError or MachineError where no picks were found in any; what is wrong with the first."""
        failures = dict(failures) | failures_of(records)
        done = {one.run_name: one for one in records if one.error is None}
        if not done:
            raise first_failure(failures)
        check_still_there(folder / PICKS / name for name in done)
        return cls(done, {name: read_run_table(folder / PICKS / name) for name in done}, failures)

    def counts(self) -> pd.DataFrame:
        """A row for each tomogram, a column for each particle."""
        table = pd.DataFrame({name: one.counts for name, one in self.records.items()}, dtype=int).T
        return table.rename_axis("tomogram")

    def in_words(self) -> str:
        """Numbers of picks: of each tomogram, or of many together."""
        counts = self.counts()
        total = pd.DataFrame([counts.sum()], index=["all"])
        if len(counts) <= MOST_ROWS:
            return pd.concat([counts, total]).to_string()
        rows = {"all": counts.sum(), "least": counts.min(), "median": counts.median(), "most": counts.max()}
        return f"picks in {len(counts)} tomograms:\n{pd.DataFrame(rows).T.astype(int).to_string()}"


def write_picking_results(folder: Path, results: PickingResults, detector: Detector, selection: Selection) -> None:
    """picks.csv, failures.csv and summary.json: counts and windows of each tomogram, failures, and all settings."""
    write_failures(folder, results.failures)
    write_submission(folder / "picks.csv", pd.concat(results.tables.values(), ignore_index=True))
    content = {
        "tomograms": {
            name: {"picks": one.counts, "windows_zyx": one.windows_zyx} for name, one in results.records.items()
        },
        "failed_tomograms": {name: one_line(error) for name, error in results.failures.items()},
        "settings": {
            "tomograms": asdict(detector.tomograms),
            "inference": asdict(detector.inference),
            "detection": asdict(detector.detection),
            "selection": asdict(selection),
        },
    }
    with atomic_path(folder / "summary.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
