"""A copick project on this machine: runs, picks and objects of its config JSON, read by the layout alone."""

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data.czi import find_runs
from data.files import check_complete
from data.names import check_path
from data.text_files import read_json_object
from errors import InputError
from formats import copick
from formats.point_groups import PointGroup
from particle_file import rows_of_copick

# As fsspec names this machine.
LOCAL = ("local://", "file://")


@dataclass(frozen=True)
class CopickProject:
    """Run -> tomogram, the picks, and rows as of particle_file.py, not checked, of the objects that are particles."""

    tomograms: dict[str, Path]
    groups: list[PointGroup]
    rows: dict[str, dict]


def read_project(path: Path, *, tomo_type: str, user: str | None = None, session: str | None = None) -> CopickProject:
    """Read a project; picks of ``static_root`` and ``overlay_root``, of one user and session where they are given.

    InputError for roots that are not on this machine, no such tomograms, or an object picked twice in a run.
    """
    content, rows = _config(path)
    known = {one["name"] for one in content["pickable_objects"]}
    roots = _roots(path, content)
    tomograms = _tomograms(path, roots, tomo_type)
    picks = [
        group
        for root in roots
        for group in _picks(root, known, user=user, session=session)
        if len(group.coordinates_xyz)
    ]
    if not picks:
        there = sorted({file.stem for root in roots for file in root.glob("ExperimentRuns/*/Picks/*_*_*.json")})
        chosen = " by that user and session" if user is not None or session is not None else ""
        raise InputError(f"{path}: no picks{chosen}; there are: {', '.join(there[:5]) or 'none'} (user_session_object)")
    if unknown := sorted({group.particle_name for group in picks} - known):
        warnings.warn(f"{path}: has no object {', '.join(unknown)}, so picks of it are left out; add it", stacklevel=2)
    groups = [group for group in picks if group.particle_name in rows]
    _check_picked_once(groups)
    return CopickProject(tomograms, groups, rows)


def project_tomograms(path: Path, *, tomo_type: str) -> dict[str, Path]:
    """Run -> tomogram; InputError for roots that are not on this machine, or no such tomograms."""
    content, _ = _config(path)
    return _tomograms(path, _roots(path, content), tomo_type)


def _tomograms(path: Path, roots: Sequence[Path], tomo_type: str) -> dict[str, Path]:
    tomograms: dict[str, Path] = {}
    for root in roots:
        if any(root.glob("ExperimentRuns/*/VoxelSpacing*")):
            for run in find_runs(root):
                if tomo_type in run.tomogram_paths:
                    tomograms.setdefault(run.name, run.tomogram_paths[tomo_type])
    if not tomograms and (missing := [root for root in roots if not root.is_dir()]):
        raise InputError(f"{path}: {missing[0]} is no folder on this machine; correct the roots")
    if not tomograms:
        raise InputError(f"{path}: no tomogram of type {tomo_type!r} in {roots[0]}; name another with --tomo_type")
    return tomograms


def _config(path: Path) -> tuple[dict, dict[str, dict]]:
    """The content of the config JSON, and the rows of its particles by name."""
    try:
        content = read_json_object(path)
        rows = {row["name"]: row for row in rows_of_copick(content["pickable_objects"])}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a copick config ({error}); give the JSON of the project") from error
    kind = content.get("config_type", "filesystem")
    if kind != "filesystem":
        raise InputError(f"{path}: a project of {kind}, not on this machine; fetch it with `copick sync` and give that")
    return content, rows


def _roots(path: Path, content: Mapping) -> list[Path]:
    """The folders of static_root and overlay_root, which may be one, in copick's order."""
    roots = [_local(path, content[key]) for key in ("static_root", "overlay_root") if content.get(key)]
    if not roots:
        raise InputError(f"{path}: neither static_root nor overlay_root inside; give a filesystem project")
    return list({root.resolve(): root for root in roots}.values())


def _local(config: Path, root: object) -> Path:
    if not isinstance(root, str):
        raise InputError(f"{config}: static_root and overlay_root must be paths, not {root!r}; mend the config")
    scheme = next((scheme for scheme in LOCAL if root.startswith(scheme)), "")
    if "://" in root and not scheme:
        raise InputError(f"{config}: {root} is not on this machine; fetch it with `copick sync` and give that project")
    check_path(root, f"mend {config}")
    folder = Path(root.removeprefix(scheme)).expanduser()
    return folder if folder.is_absolute() or folder.exists() else config.absolute().parent / folder


def _picks(root: Path, objects: Collection[str], *, user: str | None, session: str | None) -> Iterator[PointGroup]:
    for file in sorted(root.glob("ExperimentRuns/*/Picks/*.json")):
        # Names are {user}_{session}_{object}, which copick goes by; others belong to the challenge's layout.
        words = file.stem.split("_", 2)
        if (
            file.name.startswith(".")
            or (user is not None and words[0] != user)
            or (session is not None and words[1:2] != [session])
        ):
            continue
        check_complete(file.parent)
        for group in copick.read(file):
            name = words[2] if len(words) == 3 and words[2] in objects else group.particle_name
            yield replace(group, tomogram_name=file.parents[1].name, particle_name=name)


def _check_picked_once(groups: Sequence[PointGroup]) -> None:
    taken: dict[tuple[str, str], Path] = {}
    for group in groups:
        other = taken.setdefault((group.tomogram_name, group.particle_name), group.path)
        if other != group.path:
            both = [path.stem.split("_")[:2] for path in (other, group.path)]
            flag = "--copick_session" if both[0][0] == both[1][0] else "--copick_user"
            mend = "remove one of them" if both[0] == both[1] else f"choose with {flag}"
            raise InputError(f"{other} and {group.path} both pick {group.particle_name}; {mend}")
