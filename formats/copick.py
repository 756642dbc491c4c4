"""Picks JSON of copick: angstrom, one file for each run, object, user and session (see data/picks.py).

An overlay project is a folder with ``ExperimentRuns/{run}/Picks/{user}_{session}_{object}.json`` and a config.json that
names it (copick: models.py, impl/filesystem.py, docs/templates/configs). User, session and object hold no ``_``, blank
or ``<>:"/\\|?*``: copick splits the file's name at ``_``, and one name without two of them makes it fail for the run.
"""

import json
import re
from pathlib import Path

from data.files import atomic_path
from data.picks import Picks, read_picks, write_picks
from formats.export import Export, PickedTomogram
from formats.next_command import Command, shell_command
from formats.point_groups import ANGSTROM, PointGroup
from formats.tomogram_names import safe_name
from particle_config import Particle

SUFFIXES = (".json",)
RUNS, PICKS, CONFIG, LOCAL = "ExperimentRuns", "Picks", "config.json", "local://"
USER, SESSION = "etfinder", "0"
FORBIDDEN = r'[<>:"/\\|?*\x00-\x1f\x7f\s_]'
LINKED_TYPE = "tomogram"


def recognises(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES) and not path.name.endswith("_info.json")


def read(path: Path) -> list[PointGroup]:
    """InputError for a file that is no picks file, or a unit other than angstrom."""
    picks = read_picks(path)
    name = picks.run_name or (path.parents[1].name if path.parent.name == "Picks" else None)
    return [
        PointGroup(path, picks.coordinates_zyx_angstrom[:, ::-1], ANGSTROM, name, picks.particle_name, picks.scores)
    ]


def write(folder: Path, export: Export) -> list[Command]:
    """The overlay project, with the tomograms where copick can read them.

    Tomograms in copick's layout below one folder become its static_root. Other zarr tomograms are linked to as
    ``VoxelSpacing{s}/tomogram.zarr``; MRC files are left out, since copick reads zarr alone. An object that was not
    found in a run gets an empty file, as copick has it.
    """
    static = _static_root(export)
    for tomogram in export.tomograms:
        run = folder / RUNS / (tomogram.name if static is not None else safe_name(tomogram.name))
        found = {particle.name: picks for particle, picks in export.of_tomogram(tomogram)}
        for particle in export.particles:
            _write_object(run / PICKS, particle, run.name, found.get(particle.name))
        if static is None and tomogram.path.suffix == ".zarr":
            _link(run / f"VoxelSpacing{tomogram.voxel_size_angstrom:.3f}" / f"{LINKED_TYPE}.zarr", tomogram)
    with atomic_path(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps(_config(folder, export, static), indent=2) + "\n", encoding="utf-8")
    return [shell_command("napari-copick", "run", "--config", folder.absolute() / CONFIG)]


def copick_name(name: str) -> str:
    """The name with what copick does not take as ``-``, as its own sanitize_name has it."""
    return re.sub(FORBIDDEN, "-", name).strip("-")


def _write_object(folder: Path, particle: Particle, run: str, picks: Picks | None) -> None:
    name = copick_name(particle.name)
    write_picks(
        folder / f"{USER}_{SESSION}_{name}.json",
        particle_name=name,
        run_name=run,
        coordinates_zyx_angstrom=[] if picks is None else picks.coordinates_zyx_angstrom,
        scores=None if picks is None else picks.scores,
        uncertainties=None if picks is None else picks.uncertainties,
        sizes_voxels=None if picks is None else picks.sizes_voxels,
        confidences=None if picks is None else picks.confidences,
        user_id=USER,
        session_id=SESSION,
    )


def _static_root(export: Export) -> Path | None:
    """The folder above ExperimentRuns that all tomograms lie in, each in its run's folder; None where they do not."""
    roots = set()
    for tomogram in export.tomograms:
        parents = tomogram.path.parents
        in_layout = tomogram.path.suffix == ".zarr" and len(parents) > 3 and parents[2].name == RUNS
        roots.add(parents[3] if in_layout and parents[1].name == tomogram.name else None)
    return roots.pop() if len(roots) == 1 else None


def _link(link: Path, tomogram: PickedTomogram) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(link) as temporary:
        temporary.symlink_to(tomogram.path)


def _config(folder: Path, export: Export, static: Path | None) -> dict:
    content = {
        "name": "ETFinder",
        "description": "Picks of ETFinder",
        "version": "1.0.0",
        "config_type": "filesystem",
        "pickable_objects": [_object(particle) for particle in export.particles],
        "user_id": "person",
        "overlay_root": f"{LOCAL}{folder.absolute()}",
        "overlay_fs_args": {"auto_mkdir": True},
    }
    if static is not None:
        content |= {"static_root": f"{LOCAL}{static}", "static_fs_args": {"auto_mkdir": True}}
    return content


def _object(particle: Particle) -> dict:
    return {
        "name": copick_name(particle.name),
        "is_particle": True,
        "label": particle.label,
        "color": [*(int(particle.colour[start : start + 2], 16) for start in (1, 3, 5)), 255],
        "radius": particle.radius_angstrom,
        "metadata": {"score_weight": particle.score_weight},
    }
