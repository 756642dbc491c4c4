"""Which tomogram a name in a picks file means: programs add endings to a tilt series' name, and take them away."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from data.names import check_name
from data.tomogram import TOMOGRAM_SUFFIXES
from errors import InputError

ENDINGS = (*TOMOGRAM_SUFFIXES, ".ome", ".ali", ".tomostar", ".tbl", ".hdf")
# Numbers in names of files that are no part of the tilt series' name.
NUMBERS_ADDED = r"_\d+(\.\d+)?Apx|_bin\d+"
# What reconstruction programs put before and behind the name of the tilt series.
ADDED = r"^rec_|_+(Vol|rec|full_rec|ali|\d+(\.\d+)?Apx|bin\d+)$"


def written_stem(name: str) -> str:
    """The last part of a path (of any system) without the endings of tomogram files."""
    stem = re.split(r"[\\/]", name.strip())[-1]
    while ending := next((e for e in ENDINGS if stem.lower().endswith(e) and len(stem) > len(e)), None):
        stem = stem[: -len(ending)]
    return stem


def series_name(name: str) -> str:
    """The name of the tilt series: ``TS_01`` of ``rec_TS_01_10.00Apx.mrc`` or ``TS_01.tomostar``; its case is kept."""
    stem = written_stem(name)
    while (shorter := re.sub(ADDED, "", stem)) not in (stem, ""):
        stem = shorter
    return stem


def run_names(paths: Sequence[Path]) -> dict[str, Path]:
    """Name of the run -> tomogram; InputError where two tomograms would have one name."""
    named: dict[str, Path] = {}
    for path in paths:
        name = series_name(path.name)
        check_name(name, f"{path.parent}: the name of tomogram")
        if name in named:
            raise InputError(f"{named[name]} and {path} are both run {name!r}; give one of them, or rename one")
        named[name] = path
    return named


def safe_name(name: str) -> str:
    """A name that every file system takes and no shell reads otherwise: letters, digits and - _ . + alone."""
    return re.sub(r"[^\w.+-]+", "_", name).lstrip(".-") or "_"


def match_run(name: str | None, path: Path, runs: Sequence[str]) -> str | None:
    """The run that a name in a picks file means, None where there is none.

    In the challenge's layout it is that of the folder (``ExperimentRuns/TS_1/VoxelSpacing10.000/denoised.zarr``).
    Without a name in the file, the file's own name tells it, else its folder's, else there is a single run. Names that
    file systems do not take may stand as :func:`safe_name` writes them. A number that follows is part of a name: TS_1_2
    is not TS_1. InputError where the file's name holds those of several runs.
    """
    if name is not None:
        stems = (*re.findall(r"ExperimentRuns[\\/]([^\\/]+)", name), written_stem(name), series_name(name))
        stems = [unicodedata.normalize("NFC", stem) for stem in stems]
        by_spelling = {safe_name(run): run for run in runs} | {run: run for run in runs}
        # macOS writes letters and their accents apart.
        by_spelling = {unicodedata.normalize("NFC", spelling): run for spelling, run in by_spelling.items()}
        return next((by_spelling[stem] for stem in stems if stem in by_spelling), None)
    own, folder = (re.sub(NUMBERS_ADDED, "", words) for words in (path.name.rsplit(".", 1)[0], path.parent.name))
    for place in (own, folder):
        found = [run for run in runs if _holds(place, run) or _holds(place, safe_name(run))]
        # TS_1 stands in x_TS_1, too: the longest is meant, if it holds the others.
        longest = max(found, key=len, default=None)
        if any(run not in longest for run in found):
            raise InputError(f"{path}: names the tomograms {', '.join(found)}; give each tomogram a file of its own")
        if longest is not None and not (place == folder and _names_another(path, longest)):
            return longest
    return runs[0] if len(runs) == 1 and not _names_another(path, runs[0]) else None


def similar_run(name: str, runs: Sequence[str]) -> str | None:
    """The only run whose name is that name in other capitals, or begins with it, or the other way round.

    What follows begins with a letter, such as what a program adds: TS_1_filtered of TS_1; TS_1_2 is another tomogram.
    """
    wanted = series_name(name)
    found = [run for run in runs if run.lower() == wanted.lower()]
    found = found or [run for run in runs if _begins_with(run, wanted) or _begins_with(wanted, run)]
    return found[0] if len(found) == 1 else None


def _begins_with(longer: str, shorter: str) -> bool:
    added = r"([_.-]|_\d+(\.\d+)?Apx_|_bin\d+_)+[A-Za-z]"
    return re.match(re.escape(shorter) + added, longer, re.IGNORECASE) is not None


def _names_another(path: Path, run: str) -> bool:
    """Whether the file has a name such as the run's with other numbers: TS_7.csv and TS_2_1.csv are not of TS_2."""
    pattern, name = (re.sub(r"\d+", "#", words) for words in (run, path.name))
    return "#" in pattern and re.search(rf"(?<![A-Za-z]){re.escape(pattern)}(?![A-Za-z])", name) is not None


def _holds(place: str, run: str) -> bool:
    """Whether the name of a run stands in a place, and not as a part of a longer word or number."""
    return re.search(rf"(?<![A-Za-z0-9]){re.escape(run)}(?![A-Za-z0-9]|[_.-]\d)", place) is not None
