"""A copick project on this machine: runs, picks and objects of its config JSON, read by the layout alone."""

import json
from dataclasses import dataclass
from pathlib import Path

from data.czi import find_runs
from errors import InputError
from formats import copick
from formats.point_groups import PointGroup, read_text
from particle_file import rows_of_copick

LOCAL = "local://"


@dataclass(frozen=True)
class CopickProject:
    """Run -> tomogram, the picks, and rows as of particle_file.py, not checked, of the objects that are particles."""

    tomograms: dict[str, Path]
    groups: list[PointGroup]
    rows: dict[str, dict]


def read_project(path: Path, *, tomo_type: str, user: str | None = None) -> CopickProject:
    """Read a project; picks of ``static_root`` and ``overlay_root``, of one user where ``user`` is given.

    InputError for roots that are not on this machine, no such tomograms, or an object picked twice in a run.
    """
    try:
        content = json.loads(read_text(path))
        rows = {row["name"]: row for row in rows_of_copick(content["pickable_objects"])}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a copick config ({error}); give the JSON of the project") from error
    roots = [_local(path, content[key]) for key in ("static_root", "overlay_root") if content.get(key)]
    if not roots:
        raise InputError(f"{path}: neither static_root nor overlay_root inside; give a filesystem project")
    tomograms: dict[str, Path] = {}
    for root in roots:
        if any(root.glob("ExperimentRuns/*/VoxelSpacing*")):
            for run in find_runs(root):
                if tomo_type in run.tomogram_paths:
                    tomograms.setdefault(run.name, run.tomogram_paths[tomo_type])
    if not tomograms:
        raise InputError(f"{path}: no tomogram of type {tomo_type!r} in {roots[0]}; name another with --tomo_type")
    taken: dict[tuple[str, str], Path] = {}
    groups = []
    for file in sorted(f for root in roots for f in root.glob("ExperimentRuns/*/Picks/*.json")):
        # Names are {user}_{session}_{object}; those without belong to the challenge's layout.
        if user is not None and file.stem.split("_")[0] != user:
            continue
        for group in copick.read(file):
            if group.particle_name in rows and len(group.coordinates_xyz):
                run = file.parents[1].name
                other = taken.setdefault((run, group.particle_name), file)
                if other != file:
                    raise InputError(f"{other} and {file} both pick {group.particle_name}; choose with --copick_user")
                groups.append(PointGroup(file, group.coordinates_xyz, group.unit, run, group.particle_name))
    return CopickProject(tomograms, groups, rows)


def _local(config: Path, root: str) -> Path:
    if "://" in root and not root.startswith(LOCAL):
        raise InputError(f"{config}: {root} is not on this machine; fetch it with `copick sync` and give that project")
    folder = Path(root.removeprefix(LOCAL))
    return folder if folder.is_absolute() or folder.exists() else config.absolute().parent / folder
