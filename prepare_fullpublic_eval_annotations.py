"""Annotations of the CryoET Data Portal (ndjson, voxels) to picks JSON (angstrom), ready to be scored.

    python prepare_fullpublic_eval_annotations.py --data_dir /data/10445

Reads {data_dir}/{run}/Reconstructions/VoxelSpacing{s}/Annotations/{id}/{object}-1.0_point.ndjson and writes
{data_dir}/{run}/Picks/{particle}.json. Voxels are those of the VoxelSpacing{s} folder the annotation lies in,
which need not be the tomogram's. Where a run has several annotations of a particle, one is taken, never both:
the curator's recommendation, else ground truth, else the lowest id; the terminal says which.
"""

from command_line import run_script

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

import config
from data.command_record import write_command_record
from data.czi import Run, find_runs
from data.files import complete_group, entries, path_argument
from data.number_ranges import VOXEL_SIZE
from data.picks import object_name_of_annotation, read_ndjson, without_repeated_points, write_picks
from data.portal_metadata import read_metadata
from data.tomogram import open_tomogram
from data.voxel_spacing import spacing_of_folder
from errors import InputError
from particle_config import PARTICLES, TABLE_SOURCE, find_particle
from versions import typed_command


@dataclass(frozen=True)
class Conversion:
    """The points of one run, (N, 3) zyx in angstrom per particle, and what the user should know of."""

    picks: dict[str, np.ndarray]
    unknown_objects: tuple[str, ...]
    choices: tuple[str, ...]
    outside: int


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data_dir", type=path_argument, default=config.CZI_PUBLIC_EVAL_DATA_ROOT, help="holds {run}/Reconstructions"
    )
    data.add_argument(
        "--voxel_spacing", type=VOXEL_SIZE, help="angstrom; of the annotations' voxels, overrides the folder name"
    )
    return parser


def preference(annotation: Path) -> tuple:
    """Smallest first: recommended by the curators, ground truth, lowest id, points with an orientation."""
    # Beside ribosome-1.0_point.ndjson lies ribosome-1.0.json.
    metadata = read_metadata(annotation.with_name(annotation.name.rpartition("_")[0] + ".json"))
    annotation_id = annotation.parent.name
    return (
        not metadata.get("is_curator_recommended", False),
        not metadata.get("ground_truth_status", False),
        (int(annotation_id), "") if annotation_id.isdecimal() else (np.inf, annotation_id),
        not annotation.stem.lower().endswith("_orientedpoint"),
        str(annotation),
    )


def points_in_angstrom(annotation: Path, voxel_spacing_angstrom: float | None) -> np.ndarray:
    """(N, 3) zyx in angstrom, by the voxel size of the folder the annotation lies in unless it is given."""
    spacing = voxel_spacing_angstrom or spacing_of_folder(annotation)
    if spacing is None:
        raise InputError(f"{annotation}: lies in no VoxelSpacing folder; give --voxel_spacing (angstrom)")
    return without_repeated_points(read_ndjson(annotation) * spacing, str(annotation))


def choose(annotations: Sequence[Path], reconstructions: Path) -> tuple[Path, str | None]:
    """One of several annotations of a particle, and a note unless the others are the same annotation."""
    ranked = sorted(annotations, key=preference)
    # Point and orientedpoint files of one id and version hold the same points.
    same = ranked[0].with_name(ranked[0].name.rpartition("_")[0])
    others = [path for path in ranked[1:] if path.with_name(path.name.rpartition("_")[0]) != same]
    if not others:
        return ranked[0], None
    names = [str(path.relative_to(reconstructions)) for path in (ranked[0], *others)]
    return ranked[0], f"{names[0]} is taken, not {', '.join(names[1:])}"


def points_outside(run: Run, picks: dict[str, np.ndarray]) -> int:
    """How many points lie outside of the tomogram, where there is one: a wrong voxel size shows so."""
    try:
        tomogram = open_tomogram(next(iter(run.tomogram_paths.values())))
    except (StopIteration, InputError):
        return 0  # the points are right or wrong without it, too
    limit = np.array(tomogram.shape_zyx) * tomogram.voxel_spacing_angstrom
    return sum(int(((points < 0) | (points > limit)).any(axis=1).sum()) for points in picks.values())


def convert_run(run: Run, voxel_spacing_angstrom: float | None) -> Conversion:
    """Read the annotations of one run; nothing is written yet."""
    by_particle: dict[str, list[Path]] = {}
    unknown = set()
    for path in run.annotation_paths:
        name = object_name_of_annotation(path)
        particle = find_particle(name)
        if particle is None:
            unknown.add(name)
        else:
            by_particle.setdefault(particle.name, []).append(path)
    picks, choices = {}, []
    for particle in PARTICLES:
        if particle.name in by_particle:
            chosen, note = choose(by_particle[particle.name], run.picks_dir.parent / "Reconstructions")
            picks[particle.name] = points_in_angstrom(chosen, voxel_spacing_angstrom)
            choices.extend([f"{run.name}: {note}"] if note else [])
    return Conversion(picks, tuple(unknown), tuple(choices), points_outside(run, picks))


def write_run(run: Run, picks: dict[str, np.ndarray]) -> None:
    """The picks of one run, of which nobody reads a part."""
    with complete_group(run.picks_dir):
        for name, points in picks.items():
            path = run.picks_dir / f"{name}.json"
            write_picks(path, particle_name=name, run_name=run.name, coordinates_zyx_angstrom=points)


def report(conversions: dict[str, Conversion], data_dir: Path) -> None:
    """The table of points per run and particle, and one line for each thing to know."""
    rows = [
        {"run": name, **{p.name: len(c.picks[p.name]) if p.name in c.picks else "-" for p in PARTICLES}}
        for name, c in conversions.items()
    ]
    print(pd.DataFrame(rows).to_string(index=False))
    for name, conversion in conversions.items():
        if conversion.outside:
            text = "points lie outside of the tomogram; is the voxel size of the annotations right?"
            warnings.warn(f"{name}: {conversion.outside} {text}", stacklevel=2)
    choices = [note for conversion in conversions.values() for note in conversion.choices]
    if choices:
        print(f"several annotations of one particle in {len(choices)} cases:", *choices, sep="\n  ")
    unknown = sorted({name for conversion in conversions.values() for name in conversion.unknown_objects})
    if unknown:
        text = f"no row or alias of {TABLE_SOURCE} knows these objects, skipped"
        warnings.warn(f"{text}: {', '.join(unknown)}", stacklevel=2)
    empty = [name for name, conversion in conversions.items() if not conversion.picks]
    if empty:
        warnings.warn(f"no annotation of a known particle in: {', '.join(empty)}", stacklevel=2)
    total = sum(len(points) for conversion in conversions.values() for points in conversion.picks.values())
    print(f"{total} points of {len(conversions) - len(empty)} runs written to {data_dir}/{{run}}/Picks")


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    runs = find_runs(args.data_dir, split="portal")
    conversions = {
        run.name: convert_run(run, args.voxel_spacing)
        for run in tqdm(runs, desc="annotations", unit="run", disable=None)
    }
    if not any(conversion.picks for conversion in conversions.values()):
        found = sorted({name for c in conversions.values() for name in c.unknown_objects})
        raise InputError(
            f"{args.data_dir}: no annotation of a known particle in any of {len(runs)} runs; looked for "
            "{run}/Reconstructions/VoxelSpacing*/Annotations/*/*.ndjson; "
            + (f"add aliases to {TABLE_SOURCE} for: {', '.join(found)}" if found else "fetch them first")
        )
    for run in runs:
        others = [path.stem for path in entries(run.picks_dir, "*.json")]
        if others := [name for name in others if name not in conversions[run.name].picks]:
            warnings.warn(
                f"{run.picks_dir} also holds {', '.join(others)}, of which there is no annotation; "
                "remove it if it is of an earlier conversion",
                stacklevel=2,
            )
        if conversions[run.name].picks:
            write_run(run, conversions[run.name].picks)
    write_command_record(args.data_dir, typed_command(__file__, argv))
    report(conversions, args.data_dir)


if __name__ == "__main__":
    run_script(main)
