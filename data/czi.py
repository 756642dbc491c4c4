"""The runs of a data set: the challenge's training tree and the CryoET Data Portal's public tree.

training  {split}/static/ExperimentRuns/{run}/VoxelSpacing10.000/{tomo_type}.zarr|.mrc
          {split}/overlay/ExperimentRuns/{run}/Picks/{particle}.json          (split: train, test)
portal    {run}/Reconstructions/VoxelSpacing{s}/Tomograms/{id}/{run}.zarr|.mrc, tomogram_metadata.json
          {run}/Reconstructions/VoxelSpacing{s}/Annotations/{id}/{object}-1.0_point.ndjson
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data.files import check_complete, entries, files_below
from data.names import check_name
from data.portal_metadata import TOMOGRAM_METADATA, read_metadata
from data.tomogram import TOMOGRAM_SUFFIXES
from data.voxel_spacing import spacing_of_folder
from errors import InputError

PORTAL_SPLIT = "portal"
UNKNOWN_TYPE = "unknown"
# The portal calls the plain weighted back-projection "raw", the challenge calls it "wbp".
SAME_TYPE = {"wbp": "raw", "raw": "wbp"}
# Where a run holds one type at several spacings: the spacing of the challenge.
PREFERRED_SPACING_ANGSTROM = 10.0


@dataclass(frozen=True)
class Run:
    """One tilt series: its tomograms by type and where its picks lie.

    Attributes
    ----------
    tomogram_paths : type -> file; one per type, the one nearest to 10 angstrom per voxel.
    picks_dir : where the picks JSON files lie or would be written.
    annotation_paths : the ndjson files (portal layout only).
    split : train, test or portal.
    unread_files : names of other files that lie among the tomograms (training layout only).
    """

    name: str
    tomogram_paths: Mapping[str, Path]
    picks_dir: Path
    annotation_paths: tuple[Path, ...] = ()
    split: str = "train"
    unread_files: tuple[str, ...] = ()

    def tomogram_path(self, tomo_type: str) -> Path:
        """The file of that type (``raw`` and ``wbp`` are the same); InputError names the types there are."""
        for name in (tomo_type, SAME_TYPE.get(tomo_type)):
            if name in self.tomogram_paths:
                return self.tomogram_paths[name]
        there = ", ".join(sorted(self.tomogram_paths)) or "none"
        raise InputError(f"run {self.name} has no tomogram of type {tomo_type!r}; there are: {there}")


def find_runs(
    data_root: str | Path,
    *,
    tomo_type: str | None = None,
    names: Sequence[str] | None = None,
    split: str | None = None,
) -> list[Run]:
    """The runs below ``data_root``, sorted by name; the layout is recognised from the folders.

    Parameters
    ----------
    data_root : the root of either layout; also ``train`` itself, ``static`` or ``ExperimentRuns``.
    tomo_type : only runs that have this type, which then is a key of their ``tomogram_paths``. A portal run
        whose only tomogram has no metadata is taken for it, with a warning.
    names : only these runs; each must exist, and have the type.
    split : ``train`` or ``test`` (training layout). A run in both is returned once, as the training run. Runs of the
        portal, which knows no such parts, are runs to train on.

    Raises
    ------
    InputError : no such folder, no runs in it, unknown names, no run with the type (it names what exists), or a folder
        that a stopped command left incomplete.
    """
    root = Path(data_root)
    if not root.is_dir():
        raise InputError(f"data root {root} does not exist or is no folder; check the path")
    found: dict[str, Run] = {}
    for run in (*_training_runs(root), *_portal_runs(root)):
        if split in (None, run.split) or (split == "train" and run.split == PORTAL_SPLIT):
            found.setdefault(run.name, run)
    if not found:
        wanted = f"{split} runs" if split else "runs"
        raise InputError(
            f"no {wanted} in {root}: looked for {{split}}/static/ExperimentRuns/{{run}}/VoxelSpacing* "
            "and {run}/Reconstructions; point to the root of such a tree"
        )
    for name in found:
        check_name(name, f"{root}: the name of run", "rename its folder")
    runs = [found[name] for name in sorted(found)]
    if names is not None:
        unknown = [name for name in names if name not in found]
        if unknown:
            there = ", ".join(sorted(found)[:5]) + (", ..." if len(found) > 5 else "")
            raise InputError(f"no run {unknown[0]!r} in {root}; there are: {there}")
        runs = [run for run in runs if run.name in set(names)]
    return runs if tomo_type is None else _of_type(runs, tomo_type, root, all_needed=names is not None)


def is_data_root(folder: Path) -> bool:
    """Whether a folder is the root of either layout."""
    return any(True for _ in _training_runs(folder)) or any(True for _ in _portal_runs(folder))


def _of_type(runs: list[Run], tomo_type: str, root: Path, all_needed: bool) -> list[Run]:
    chosen, untyped = [], []
    for run in runs:
        if list(run.tomogram_paths) == [UNKNOWN_TYPE]:
            untyped.append(run.name)
            path = run.tomogram_paths[UNKNOWN_TYPE]
        elif {tomo_type, SAME_TYPE.get(tomo_type)} & set(run.tomogram_paths):
            path = run.tomogram_path(tomo_type)
        elif all_needed:
            run.tomogram_path(tomo_type)  # raises, and names the types
        else:
            continue
        chosen.append(replace(run, tomogram_paths={**run.tomogram_paths, tomo_type: path}))
    if not chosen:
        there = ", ".join(sorted({t for run in runs for t in run.tomogram_paths})) or "none at all"
        others = sorted({name for run in runs for name in run.unread_files})
        hint = f"; not readable as tomograms, convert to MRC or zarr: {', '.join(others[:5])}" if others else ""
        raise InputError(f"no run in {root} has a tomogram of type {tomo_type!r}; there are: {there}{hint}")
    if untyped:
        _warn(f"no tomogram_metadata.json says the type; taken as {tomo_type!r}", untyped)
    return chosen


def _warn(text: str, run_names: Sequence[str]) -> None:
    listed = ", ".join(run_names[:3]) + (", ..." if len(run_names) > 3 else "")
    warnings.warn(f"{text} ({len(run_names)} runs: {listed})", stacklevel=4)


def _folders(parent: Path, pattern: str = "*") -> list[Path]:
    return sorted(p for p in entries(parent, pattern) if p.is_dir() and not p.name.startswith("."))


def _by_preference(spacing_folders: Sequence[Path]) -> list[Path]:
    def distance(folder: Path) -> float:
        return abs((spacing_of_folder(folder / "any") or float("inf")) - PREFERRED_SPACING_ANGSTROM)

    return sorted(spacing_folders, key=distance)


def _tomogram_files(folder: Path) -> list[Path]:
    """zarr before MRC: only the chunks needed are read of it."""
    files = [p for p in sorted(folder.iterdir()) if p.name.lower().endswith(TOMOGRAM_SUFFIXES)]
    return sorted(files, key=lambda p: (p.suffix != ".zarr", p.name.startswith(".")))


def _other_files(folders: Sequence[Path]) -> tuple[str, ...]:
    """Files that are no tomograms to this program, such as TIFF."""
    files = [p for folder in folders for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith(".")]
    return tuple(p.name for p in files if not p.name.lower().endswith(TOMOGRAM_SUFFIXES))


def _type_name(path: Path) -> str:
    suffix = next(s for s in sorted(TOMOGRAM_SUFFIXES, key=len, reverse=True) if path.name.lower().endswith(s))
    return path.name[: -len(suffix)]


# --- Training layout ----------------------------------------------------------------------------------
def _training_roots(root: Path) -> Iterator[tuple[str, Path, Path]]:
    """(split, folder of the runs, folder of their picks) for every place that holds runs."""
    for split in ("train", "test"):
        yield split, root / split / "static" / "ExperimentRuns", root / split / "overlay" / "ExperimentRuns"
    split = "test" if "test" in (root.name, root.parent.name, root.parent.parent.name) else "train"
    yield split, root / "static" / "ExperimentRuns", root / "overlay" / "ExperimentRuns"
    for runs in (root / "ExperimentRuns", root):
        if runs.name == "ExperimentRuns":
            beside = runs.parent.parent / "overlay" / "ExperimentRuns"
            yield split, runs, beside if runs.parent.name == "static" else runs


def _training_runs(root: Path) -> Iterator[Run]:
    for split, static, overlay in _training_roots(root):
        check_complete(static)
        for folder in _folders(static):
            spacing_folders = _by_preference(_folders(folder, "VoxelSpacing*"))
            if spacing_folders:
                files = [p for spacing in spacing_folders for p in _tomogram_files(spacing)]
                paths: dict[str, Path] = {}
                for path in files:
                    # copick keeps learned feature maps beside the tomograms.
                    if not _type_name(path).endswith("_features"):
                        paths.setdefault(_type_name(path), path)
                picks_dir = overlay / folder.name / "Picks"
                yield Run(folder.name, paths, picks_dir, split=split, unread_files=_other_files(spacing_folders))


# --- Portal layout ------------------------------------------------------------------------------------
def _portal_runs(root: Path) -> Iterator[Run]:
    ambiguous: dict[str, list[str]] = {}
    check_complete(root)
    for folder in _folders(root):
        reconstructions = folder / "Reconstructions"
        if reconstructions.is_dir():
            spacing_folders = _by_preference(_folders(reconstructions, "VoxelSpacing*"))
            paths, repeated = _portal_tomograms(spacing_folders)
            for tomo_type in repeated:
                ambiguous.setdefault(tomo_type, []).append(folder.name)
            annotations = [p for s in spacing_folders for p in files_below(s / "Annotations") if p.suffix == ".ndjson"]
            yield Run(folder.name, paths, folder / "Picks", tuple(annotations), PORTAL_SPLIT)
    for tomo_type, names in ambiguous.items():
        _warn(f"several {tomo_type!r} tomograms; the portal's default, else the lowest id, is taken", names)


def _portal_tomograms(spacing_folders: Sequence[Path]) -> tuple[dict[str, Path], set[str]]:
    """Type -> file, and the types that several tomograms of the same spacing claim."""
    # Sorted best first: nearest spacing, the portal's default, lowest id.
    candidates: list[tuple[tuple[int, bool, int, str], str, Path]] = []
    for nearness, spacing_folder in enumerate(spacing_folders):
        for folder in _folders(spacing_folder / "Tomograms"):
            metadata = read_metadata(folder / TOMOGRAM_METADATA)
            tomo_type = str(metadata.get("processing") or UNKNOWN_TYPE).lower()
            number = int(folder.name) if folder.name.isdecimal() else -1
            rank = (nearness, not metadata.get("is_visualization_default", False), number, folder.name)
            candidates.extend((rank, tomo_type, path) for path in _tomogram_files(folder)[:1])
    paths: dict[str, Path] = {}
    ranks: dict[str, int] = {}
    repeated: set[str] = set()
    for rank, found_type, path in sorted(candidates):
        # Only a run's single tomogram may go untyped; of several, each is asked for by its id.
        untyped = found_type == UNKNOWN_TYPE and len(candidates) > 1
        tomo_type = f"{UNKNOWN_TYPE}-{rank[3]}" if untyped else found_type
        if ranks.setdefault(tomo_type, rank[0]) == rank[0] and tomo_type in paths:
            repeated.add(tomo_type)
        paths.setdefault(tomo_type, path)
    return paths, repeated
