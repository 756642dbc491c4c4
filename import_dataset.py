"""One's own tomograms and picks into the layout that train.py, prepare_mask_czi.py and eval_public_czi.py read.

    python import_dataset.py --tomograms tomograms --picks particles.star --particle ribosome --output_dir mine
    python import_dataset.py --tomograms "rec/*.mrc" --picks models --particle spike --radius spike=90 --output_dir mine
    python import_dataset.py --copick_config config.json --tomo_type wbp --output_dir mine

Picks: STAR of RELION 3 to 5 and WarpTools, CSV and TSV, copick, portal ndjson, IMOD, Dynamo, EMAN2, ChimeraX. Writes
{output_dir}/train, particles.json (the table of the particles) and overlays/{run}.png: look at these first.
"""

from command_line import run_script

import argparse
import re
import shlex
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

import config
from data.challenge_layout import training_folders
from data.command_record import write_command_record
from data.files import complete_group, path_argument
from data.names import name_argument
from data.number_ranges import SCALE, VOXEL_SIZE
from data.picks import read_run_picks, run_table
from data.tomogram import Tomogram, open_tomogram
from errors import InputError, some_names
from formats import FORMATS, format_of, read_points
from formats.copick_project import CopickProject, read_project
from formats.dataset import (
    COPY,
    LINK,
    TO_ZARR,
    Assignment,
    assign,
    check_run,
    rival_files,
    without_outside,
    write_run,
)
from formats.density import GreyValues, density_verdict, grey_values, joined, wrong_parts
from formats.input_files import find_picks, find_tomograms
from formats.particle_table import PARTICLES_FILE, parse_radii, particle_table, table_name, write_table
from formats.plausibility import check_inside, wrong_places
from formats.star import NO_STAR
from formats.table import read_name_map
from formats.tomogram_names import run_names
from particle_config import Particle, read_table
from versions import typed_command

# Runs of which pictures are drawn.
DRAWN = 3
# More runs are not each held out once.
FOLDS_OF_ALL = 10


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--tomograms", nargs="+", help="MRC or zarr: files, globs, folders, or a text file that lists them"
    )
    data.add_argument("--picks", nargs="+", help="files, globs or folders")
    data.add_argument("--copick_config", type=path_argument, help="config JSON of a copick project, instead of the two")
    data.add_argument(
        "--output_dir", type=path_argument, required=True, help="the data set; the same command adds nothing twice"
    )
    data.add_argument(
        "--tomo_type",
        type=name_argument,
        default=config.TRAINING_TOMO_TYPES[0],
        help="name of these tomograms; of a copick project, which",
    )
    data.add_argument("--voxel_spacing", type=VOXEL_SIZE, help="angstrom; overrides what the tomograms say")
    data.add_argument("--copy", action="store_true", help="copy the tomograms instead of linking to them")
    data.add_argument("--to_zarr", action="store_true", help="write the tomograms as zarr instead of linking to them")
    picks = parser.add_argument_group("picks")
    picks.add_argument("--picks_format", choices=list(FORMATS), help="of all files; default: recognised for each")
    picks.add_argument(
        "--tomograms_star",
        type=path_argument,
        help="of RELION, for sizes; default: the one beside the picks; none: without",
    )
    picks.add_argument("--binning", type=SCALE, help="tomogram voxel / pixel of the coordinates")
    picks.add_argument(
        "--coords_angpix", type=VOXEL_SIZE, help="angstrom per pixel of the coordinates; 1 if in angstrom"
    )
    picks.add_argument("--particle", help="name of the particle in files that name none")
    picks.add_argument("--radius", nargs="+", default=[], metavar="NAME=ANGSTROM", help="of particles not known here")
    picks.add_argument("--name_map", type=path_argument, help="CSV of two columns: name in the picks, name meant")
    picks.add_argument("--copick_user", help="whose picks of a copick project")
    picks.add_argument("--copick_session", help="picks of this session of a copick project")
    picks.add_argument("--invert", action="store_true", help="particles are brighter than their surroundings")
    return parser


def check_arguments(args: argparse.Namespace) -> None:
    """InputError for flags that contradict each other or have no meaning together."""
    if (args.copick_config is None) == (args.tomograms is None and args.picks is None):
        raise InputError("give either --tomograms and --picks, or --copick_config")
    if args.copick_config is None and (args.tomograms is None or args.picks is None):
        raise InputError("--tomograms and --picks belong together; give both")
    only_files = ("picks_format", "tomograms_star", "particle", "binning", "coords_angpix")
    without = only_files if args.copick_config is not None else ("copick_user", "copick_session")
    if given := [name for name in without if getattr(args, name) is not None]:
        raise InputError(f"--{given[0]} has no meaning with {'--copick_config' if args.copick_config else '--picks'}")
    if args.copy and args.to_zarr:
        raise InputError("--copy and --to_zarr exclude each other; give one")
    if args.binning is not None and args.coords_angpix is not None:
        raise InputError("--binning and --coords_angpix say the same thing twice; give one")
    # It becomes a file's name; an underscore has a meaning of its own there (copick's features). A project's is there.
    if args.copick_config is None and not re.fullmatch(r"[A-Za-z0-9+-]+", args.tomo_type):
        raise InputError(f"--tomo_type {args.tomo_type!r}: give a name of letters, digits, - and +")
    if (there := next(p for p in (args.output_dir, *args.output_dir.absolute().parents) if p.exists())).is_file():
        raise InputError(f"--output_dir {args.output_dir}: {there} is a file; give a folder")
    if args.tomograms_star not in (None, NO_STAR) and not args.tomograms_star.is_file():
        raise InputError(f"--tomograms_star {args.tomograms_star}: no such file; check the path, or give none")


def read_inputs(args: argparse.Namespace) -> CopickProject:
    """Tomograms and points, of a copick project or of files."""
    if args.copick_config is not None:
        choice = {"user": args.copick_user, "session": args.copick_session}
        return read_project(args.copick_config, tomo_type=args.tomo_type, **choice)
    paths = find_picks(args.picks)
    if args.tomograms_star is not None and all((args.picks_format or format_of(p)) != "star" for p in paths):
        raise InputError("--tomograms_star: no picks file is a STAR file; leave it out")
    tomograms = run_names(find_tomograms(args.tomograms))
    groups = [
        group
        for path in tqdm(paths, desc="picks", unit="file", disable=None)
        for group in read_points(path, format_name=args.picks_format, tomograms_star=args.tomograms_star)
    ]
    return CopickProject(tomograms, groups, {})


def look_at(
    run: str, tomogram: Tomogram, by_file: Mapping[str, list[tuple[Path, np.ndarray]]], radii: dict, *, bright: bool
) -> list[GreyValues]:
    """The grey values of a run's picks as they are (""), and with each usual mistake mended."""
    volume, spacing = tomogram.read(), tomogram.voxel_spacing_angstrom
    volume = -volume if bright else volume
    mends = {"": lambda points: points, **wrong_places(volume.shape, spacing)}
    return [
        GreyValues(
            run, name, path, *grey_values(volume, {c: mend(p) for c, mend in mends.items()}, spacing, radii[name])
        )
        for name, parts in by_file.items()
        for path, p in parts
    ]


def draw(root: Path, run: str, tomogram: Tomogram, particles: tuple[Particle, ...]) -> None:
    """The picture of a run with all picks there are of it, those of earlier imports as well."""
    from evaluation.overlays import save_overlay

    points = read_run_picks(training_folders(root, run)[1] / "Picks", particles)
    path = save_overlay(
        root / "overlays" / f"{run}.png",
        tomogram.read(),
        picks=run_table(run, points),
        truth=None,
        voxel_spacing_angstrom=tomogram.voxel_spacing_angstrom,
        particles=[particle for particle in particles if particle.name in points],
        title=run,
    )
    print(f"picture: {path}")


def next_commands(root: Path, tomo_type: str, runs: int) -> str:
    folder = shlex.quote(str(root.absolute()))
    kind = "" if tomo_type == config.TRAINING_TOMO_TYPES[0] else f" --tomo_type {shlex.quote(tomo_type)}"
    training_kind = kind.replace("--tomo_type", "--training_tomo_types")
    lines = [
        f"export ETFINDER_PARTICLES={shlex.quote(str(root.absolute() / PARTICLES_FILE))}",
        f"python prepare_mask_czi.py --data_root {folder}{kind} --save_plots",
        f"python train.py --data_root {folder}{training_kind}{' --num_folds 5' if runs > FOLDS_OF_ALL else ''}",
    ]
    if runs < 2:
        lines[-1] = "import a second tomogram with its picks: training holds one out"
    return "\n  ".join(["next:", *lines])


def report(points: Mapping[str, Mapping[str, np.ndarray]], outside: Mapping[str, int]) -> None:
    names = sorted({name for by_particle in points.values() for name in by_particle})
    rows = [
        {"run": run, **{name: len(by.get(name, ())) for name in names}, "outside": outside[run]}
        for run, by in points.items()
    ]
    print(pd.DataFrame(rows).to_string(index=False))
    if any(outside.values()):
        warnings.warn(
            f"{sum(outside.values())} picks outside of their tomogram are left out "
            f"({', '.join(run for run, count in outside.items() if count)}); are voxel size and names right?",
            stacklevel=2,
        )


def report_names(assigned: Assignment, without_picks: list[str]) -> None:
    if assigned.similar:
        pairs = ", ".join(f"{name} as {run}" for name, run in sorted(assigned.similar.items()))
        warnings.warn(f"names that fit a tomogram in part: {pairs}; give --name_map where that is wrong", stacklevel=2)
    if assigned.unmatched:
        warnings.warn(f"picks without a tomogram, left out: {', '.join(sorted(assigned.unmatched))}", stacklevel=2)
    if without_picks:
        warnings.warn(f"tomograms without picks, left out: {', '.join(without_picks)}", stacklevel=2)


def report_rivals(files: set[Path]) -> None:
    if files:
        names = some_names(sorted(map(str, files)))
        warnings.warn(
            f"the same particles are picked in several files: {names}; give one of them in --picks",
            stacklevel=2,
        )


def report_density(found: list[GreyValues], *, bright: bool) -> None:
    """Whether picks lie on particles, in a sentence about all, and one about every part that does not as others do."""
    is_plausible, words = density_verdict(*joined(found), bright=bright)
    print(words) if is_plausible else warnings.warn(words, stacklevel=2)
    for sentence in wrong_parts(found, bright=bright):
        warnings.warn(sentence, stacklevel=2)


def convert(
    args: argparse.Namespace, inputs: CopickProject, tomograms: Mapping[str, Tomogram], known: tuple[Particle, ...]
) -> Assignment:
    """The picks in angstrom; InputError where none fit a tomogram or most lie outside of theirs."""
    if not any(len(group.coordinates_xyz) for group in inputs.groups):
        raise InputError("the picks files hold no points; export them again")
    assigned = assign(
        inputs.groups,
        tomograms,
        particle=args.particle,
        name_map=read_name_map(args.name_map) if args.name_map else None,
        pixel_size_angstrom=args.coords_angpix,
        binning=args.binning,
        known=known,
        spacing_is_given=args.voxel_spacing is not None,
    )
    if not assigned.points:
        named, there = (some_names(sorted(names)) for names in (assigned.unmatched, tomograms))
        raise InputError(
            f"no picks fit a tomogram: picks name {named}; tomograms are {there}; "
            f"{'correct' if args.name_map else 'give'} --name_map"
        )
    joined_points = {run: np.concatenate(list(by.values())) for run, by in assigned.points.items()}
    sizes = {run: (tomograms[run].shape_zyx, tomograms[run].voxel_spacing_angstrom) for run in joined_points}
    check_inside(joined_points, sizes)
    return assigned


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    check_arguments(args)
    root, table = args.output_dir, args.output_dir / PARTICLES_FILE
    existing = read_table(table) if table.exists() else ()
    radii = parse_radii(args.radius, existing)
    inputs = read_inputs(args)
    tomograms = {
        run: open_tomogram(path, voxel_spacing_angstrom=args.voxel_spacing) for run, path in inputs.tomograms.items()
    }
    assigned = convert(args, inputs, tomograms, existing)
    kept = {run: without_outside(by, tomograms[run]) for run, by in assigned.points.items()}
    points = {run: by for run, (by, _) in kept.items()}
    names = [name for by in points.values() for name in by]
    if unused := sorted(set(radii) - set(names)):
        raise InputError(f"--radius {unused[0]}: no picks of it; there are: {some_names(sorted(set(names)))}")
    particles = particle_table(
        names,
        radii_angstrom=radii,
        given_rows={table_name(name, existing): row for name, row in inputs.rows.items()},
        existing=existing,
        source=str(args.copick_config or table),
    )
    all_radii = {particle.name: particle.radius_angstrom for particle in particles}
    how = {"tomo_type": args.tomo_type, "mode": TO_ZARR if args.to_zarr else COPY if args.copy else LINK}
    for run, by in points.items():
        check_run(root, run, tomograms[run], by, **how)
    found = [
        one
        for run, by in tqdm(assigned.by_file.items(), desc="grey values", unit="run", disable=None)
        for one in look_at(run, tomograms[run], by, all_radii, bright=args.invert)
    ]
    with complete_group(training_folders(root, "any")[0].parent):
        for run, by in tqdm(points.items(), desc="runs", unit="run", disable=None):
            write_run(root, run, tomograms[run], by, **how)
        write_table(table, particles)
    write_command_record(root, typed_command(__file__, argv))
    report(points, {run: outside for run, (_, outside) in kept.items()})
    report_names(assigned, sorted(set(tomograms) - set(points)))
    report_rivals(rival_files(assigned, all_radii))
    for run in [run for run, by in points.items() if any(map(len, by.values()))][:DRAWN]:
        draw(root, run, tomograms[run], particles)
    report_density(found, bright=args.invert)
    print(next_commands(root, args.tomo_type, len(points)))


if __name__ == "__main__":
    run_script(main)
