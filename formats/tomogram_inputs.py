"""The tomograms to find particles in, as a person names them: files, folders, data sets of either layout, copick."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from data.czi import Run, find_runs, is_data_root
from errors import InputError, some_names
from formats.copick_project import project_tomograms
from formats.input_files import find_tomograms
from formats.tomogram_names import match_run, run_names


def runs_of_words(words: Sequence[str], *, tomo_type: str) -> list[Run]:
    """Every tomogram as a run, sorted by name.

    Parameters
    ----------
    words : files, globs, folders and lists of files (formats.input_files), and roots of either layout (data.czi)
    tomo_type : which tomograms of layouts; those of plain files are taken for it

    Raises
    ------
    InputError : a word that gives none, or two tomograms of one name.
    """
    roots = [word for word in words if (folder := Path(word).expanduser()).is_dir() and is_data_root(folder)]
    files = [word for word in words if word not in roots]
    runs = [run for root in roots for run in find_runs(Path(root).expanduser(), tomo_type=tomo_type)]
    named = run_names(find_tomograms(files)) if files else {}
    return _sorted([*runs, *_runs(named, tomo_type)], tomo_type)


def runs_of_copick(path: Path, *, tomo_type: str) -> list[Run]:
    """The tomograms of a project, sorted by name; InputError where it has none or is not on this machine."""
    return _sorted(_runs(project_tomograms(path, tomo_type=tomo_type), tomo_type), tomo_type)


def with_names(runs: Sequence[Run], names: Sequence[str] | None) -> list[Run]:
    """Those of the names, all of them for None; InputError for a name that no run has."""
    there = [run.name for run in runs]
    for name in names or ():
        if name not in there:
            raise InputError(f"--limit_tomos_by_id {name!r}: no such tomogram; there are: {some_names(there)}")
    return [run for run in runs if names is None or run.name in names]


def _runs(paths: Mapping[str, Path], tomo_type: str) -> list[Run]:
    return [Run(name, {tomo_type: path}, path.parent / "Picks") for name, path in paths.items()]


def _sorted(runs: Iterable[Run], tomo_type: str) -> list[Run]:
    by_name: dict[str, Run] = {}
    for run in runs:
        if other := by_name.get(run.name):
            both = [one.tomogram_path(tomo_type) for one in (other, run)]
            raise InputError(f"{both[0]} and {both[1]} are both tomogram {run.name!r}; give one of them, or rename one")
        by_name[run.name] = run
    return [by_name[name] for name in sorted(by_name)]


def masks_of(folder: Path, names: Sequence[str], files: Sequence[Path]) -> dict[str, Path]:
    """Tomogram -> its mask, whose file has the tomogram's name in its own.

    InputError for a tomogram without a mask, or with two.
    """
    masks: dict[str, Path] = {}
    for path in files:
        name = match_run(None, path, names)
        if name is not None and (other := masks.setdefault(name, path)) != path:
            raise InputError(f"{other} and {path} are both masks of {name}; leave one of them in {folder}")
    if without := [name for name in names if name not in masks]:
        names = some_names(without)
        raise InputError(f"--mask_dir {folder} has no mask of {names}; a mask has its tomogram's name in its own")
    return masks
