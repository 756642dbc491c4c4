"""Tomograms and picks of other programs into the challenge's layout (see data/czi.py)."""

import glob
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from data.challenge_layout import training_folders, write_pyramid
from data.content_hash import content_hash
from data.files import atomic_path, complete_group, entries
from data.map_origin import map_origin_xyz_angstrom
from data.picks import read_picks, without_repeated_points, write_picks
from data.tomogram import Tomogram, open_tomogram
from data.voxel_spacing import folder_of_spacing
from errors import InputError, os_error
from formats.particle_table import table_name
from formats.plausibility import is_inside
from formats.point_groups import (
    CENTRED_PIXELS,
    IN_PIXELS,
    MAP_ANGSTROM,
    PointGroup,
    check_spacing,
    coordinates_zyx_angstrom,
)
from formats.tomogram_names import match_run, similar_run, written_stem
from particle_config import Particle

LINK, COPY, TO_ZARR = "link", "copy", "zarr"
# Distance, by the particle's radius, within which two picks are of the same particle.
RIVAL_FRACTION = 0.5


@dataclass
class Assignment:
    """Run -> particle -> (N, 3) zyx angstrom, the same by file, and what names in picks files fit no tomogram.

    ``similar`` are names that fit a tomogram only in part -> its run.
    """

    points: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    by_file: dict[str, dict[str, list[tuple[Path, np.ndarray]]]] = field(default_factory=dict)
    unmatched: set[str] = field(default_factory=set)
    similar: dict[str, str] = field(default_factory=dict)


def assign(
    groups: Sequence[PointGroup],
    tomograms: Mapping[str, Tomogram],
    *,
    particle: str | None = None,
    name_map: Mapping[str, str] | None = None,
    pixel_size_angstrom: float | None = None,
    binning: float | None = None,
    known: Sequence[Particle] = (),
    spacing_is_given: bool = False,
) -> Assignment:
    """Give every group its tomogram, its particle and coordinates in angstrom.

    Parameters
    ----------
    particle : the particle of groups that name none.
    name_map : name in the files -> tomogram or particle that it means.
    pixel_size_angstrom, binning : of the coordinates' pixels; how much the tomogram is binned against them.
    known : particles that the data set has already, whose names are kept.
    spacing_is_given : the tomograms' voxel size was decided by the user, whatever files say.

    Raises
    ------
    InputError : a group without particle, coordinates of unknown size, an option that nothing needs, or a
        size that a file and the tomogram say differently.
    """
    mapped = dict(name_map or {})
    if (pixel_size_angstrom or binning) and not any(g.unit in (*IN_PIXELS, CENTRED_PIXELS) for g in groups):
        raise InputError(
            "no picks file has coordinates in pixels; leave --coords_angpix and --binning out (x is angstrom in tables "
            "with experiment and particle_type: name the columns x_voxels, y_voxels, z_voxels if they are not)"
        )
    if particle is not None and all(g.particle_name for g in groups):
        raise InputError("every picks file names its particles; leave --particle out, or rename with --name_map")
    runs, similar = _matched_runs(groups, list(tomograms), mapped)
    unmatched = {g.tomogram_name or g.path.name for g, run in zip(groups, runs, strict=True) if run is None}
    result = Assignment(unmatched=unmatched, similar=similar)
    for group, run in zip(groups, runs, strict=True):
        if run is None:
            continue
        name = mapped.get(group.particle_name, group.particle_name) or particle
        if name is None:
            raise InputError(f"{group.path}: names no particle; give its name with --particle")
        tomogram = tomograms[run]
        spacing = tomogram.voxel_spacing_angstrom
        if not spacing_is_given:
            check_spacing(group, tomogram.path, spacing)
        points = coordinates_zyx_angstrom(
            group,
            shape_zyx=tomogram.shape_zyx,
            voxel_spacing_angstrom=spacing,
            pixel_size_angstrom=pixel_size_angstrom or (spacing / binning if binning else None),
            map_origin_xyz_angstrom=map_origin_xyz_angstrom(tomogram.path)
            if group.unit == MAP_ANGSTROM
            else (0.0, 0.0, 0.0),
        )
        result.by_file.setdefault(run, {}).setdefault(table_name(name, known), []).append((group.path, points))
    for run, by_particle in sorted(result.by_file.items()):
        result.points[run] = {
            name: without_repeated_points(np.concatenate([points for _, points in parts]), f"run {run}, {name}")
            for name, parts in sorted(by_particle.items())
        }
    return result


def _matched_runs(
    groups: Sequence[PointGroup], runs: Sequence[str], mapped: Mapping[str, str]
) -> tuple[list[str | None], dict[str, str]]:
    """The run of each group, None where there is none, and names that fit one only in part -> its run."""
    found, names = [], []
    for group in groups:
        written = group.tomogram_name or next((n for n in (group.path.name, group.path.stem) if n in mapped), None)
        written = mapped.get(written, mapped.get(written_stem(written), written)) if written else written
        found.append(match_run(written, group.path, runs))
        names.append(written or group.path.stem)
    similar = {name: similar_run(name, runs) for name, run in zip(names, found, strict=True) if run is None}
    # Of several names for a tomogram it is not known which is meant.
    taken = [*set(filter(None, found)), *similar.values()]
    similar = {name: run for name, run in similar.items() if run is not None and taken.count(run) == 1}
    return [run or similar.get(name) for run, name in zip(found, names, strict=True)], similar


def rival_files(assigned: Assignment, radii_angstrom: Mapping[str, float]) -> set[Path]:
    """Files that pick the same particles: points of one kind and of several files, nearer than two particles can be.

    Points that are the same to the last digit do not count: they are kept once.
    """
    rivals = set()
    for name, parts in ((name, parts) for by in assigned.by_file.values() for name, parts in by.items()):
        points = np.concatenate([points for _, points in parts])
        paths = np.array([str(path) for path, points in parts for _ in points])
        first, second = cKDTree(points).query_pairs(RIVAL_FRACTION * radii_angstrom[name], output_type="ndarray").T
        is_rival = (paths[first] != paths[second]) & (points[first] != points[second]).any(axis=1)
        rivals |= {*paths[first[is_rival]], *paths[second[is_rival]]}
    return {Path(path) for path in rivals}


def without_outside(points: Mapping[str, np.ndarray], tomogram: Tomogram) -> tuple[dict[str, np.ndarray], int]:
    """The points that lie in the tomogram, and how many do not."""
    args = (tomogram.shape_zyx, tomogram.voxel_spacing_angstrom)
    kept = {name: p[is_inside(p, *args)] for name, p in points.items()}
    return kept, sum(len(points[name]) - len(p) for name, p in kept.items())


# --- Writing ------------------------------------------------------------------------------------------
def tomogram_target(root: Path, run: str, source: Tomogram, *, tomo_type: str, mode: str) -> Path:
    """Where the tomogram goes; the folder has the voxel size with three decimals or more."""
    folder = training_folders(root, run)[0] / folder_of_spacing(source.voxel_spacing_angstrom)
    return folder / f"{tomo_type}{'.zarr' if mode == TO_ZARR else _suffix(source.path)}"


def _suffix(path: Path) -> str:
    return "".join(path.suffixes[-2:]) if path.suffix.lower() in (".gz", ".bz2") else path.suffix


def check_run(
    root: Path, run: str, source: Tomogram, points: Mapping[str, np.ndarray], *, tomo_type: str, mode: str
) -> None:
    """InputError where the run is there with other content, or a linked tomogram would be read otherwise."""
    target = tomogram_target(root, run, source, tomo_type=tomo_type, mode=mode)
    refusal = f"run {run} is in {root} with other content; choose another --output_dir, or remove {{}}"
    for other in _links_and_files(root, run, tomo_type):
        if other.exists() and (other != target or not _same_tomogram(target, source, mode)):
            raise InputError(refusal.format(other))
    picks = training_folders(root, run)[1] / "Picks"
    there = {path.stem: path for path in entries(picks, "*.json")}
    # Particles may come one command at a time.
    for name in sorted(set(there) & set(points)):
        if not _same_points(there[name], points[name]):
            raise InputError(refusal.format(there[name]))
    if mode != TO_ZARR:
        _check_reading(source, target)


def _links_and_files(root: Path, run: str, tomo_type: str) -> list[Path]:
    return sorted(training_folders(root, run)[0].glob(f"VoxelSpacing*/{glob.escape(tomo_type)}.*"))


def _same_tomogram(target: Path, source: Tomogram, mode: str) -> bool:
    if mode == TO_ZARR:
        return np.array_equal(open_tomogram(target).read(), source.read())
    is_same_file = target.resolve() == source.path.resolve()
    return is_same_file if mode == LINK else is_same_file or content_hash(target) == content_hash(source.path)


def _same_points(path: Path, points: np.ndarray) -> bool:
    old = read_picks(path).coordinates_zyx_angstrom
    return old.shape == points.shape and np.allclose(old, points, rtol=0, atol=1e-3)


def _check_reading(source: Tomogram, target: Path) -> None:
    """What stays as it is must be read with the voxel size that the picks were converted with."""
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / target.parent.name / target.name
        link.parent.mkdir()
        link.symlink_to(source.path.resolve())
        mend = f"reads otherwise than with {source.voxel_spacing_angstrom:g} angstrom per voxel; add --to_zarr"
        try:
            with warnings.catch_warnings():
                # What there is to warn of was said when the tomogram was opened by its own name.
                warnings.simplefilter("ignore")
                found = open_tomogram(link).voxel_spacing_angstrom
        except InputError as error:
            raise InputError(f"{source.path}: {mend}") from error
        if abs(found / source.voxel_spacing_angstrom - 1) > 1e-3:
            raise InputError(f"{source.path}: {mend}, since the file says {found:g}")


def write_run(
    root: Path, run: str, source: Tomogram, points: Mapping[str, np.ndarray], *, tomo_type: str, mode: str
) -> None:
    """Write the tomogram (a link, a copy or zarr) and one picks file a particle; what is there stays."""
    target = tomogram_target(root, run, source, tomo_type=tomo_type, mode=mode)
    for other in _links_and_files(root, run, tomo_type):
        if not other.exists():  # a link to a tomogram that has moved
            other.unlink()
    if not target.exists():
        _write_tomogram(target, source, mode)
    picks = training_folders(root, run)[1] / "Picks"
    with complete_group(picks):
        for name, coordinates in points.items():
            if not (picks / f"{name}.json").exists():
                write_picks(
                    picks / f"{name}.json", particle_name=name, run_name=run, coordinates_zyx_angstrom=coordinates
                )


def _write_tomogram(target: Path, source: Tomogram, mode: str) -> None:
    if mode == LINK:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source.path.resolve())
        except OSError as error:
            raise os_error(error, f"cannot link {target}", advice="give --copy, or another --output_dir") from error
        return
    with atomic_path(target) as temporary:
        if mode == TO_ZARR:
            write_pyramid(temporary, source.read(), source.voxel_spacing_angstrom)
        elif source.path.is_dir():
            shutil.copytree(source.path, temporary)
        else:
            shutil.copyfile(source.path, temporary)
