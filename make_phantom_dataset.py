"""Make a data set from first principles: molecules in ice, imaged in a tilt series, reconstructed.

    python make_phantom_dataset.py --output_dir phantom
    python make_phantom_dataset.py --shape 96 192 192 --num_train 3 --num_eval 2 --output_dir small
    python make_phantom_dataset.py --density_dir maps --picks_csv train_ground_truth.csv --output_dir realistic
    python make_phantom_dataset.py --density_dir maps --vary --num_train 20 --output_dir varied

Writes both layouts: ``{output_dir}/train/...`` with picks, and ``{output_dir}/public/...`` as the data portal.
Interrupted? The same command makes what is missing.
"""

from command_line import run_script

import argparse
import warnings
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

import config
from data.challenge_layout import training_folders
from data.command_record import write_command_record
from data.content_hash import content_hash, hash_of
from data.files import complete_group, path_argument
from data.names import check_name
from data.number_ranges import SEED, NumberRange, whole
from data.phantom.dataset import (
    SMALLEST_SIDE_VOXELS,
    SMALLEST_SPACING_ANGSTROM,
    PhantomSettings,
    load_molecules,
    make_tomogram,
    random_generator,
)
from data.phantom.layouts import (
    other_runs,
    portal_folder,
    runs_to_make,
    write_portal_run,
    write_training_run,
)
from data.phantom.scene import check_inside
from data.phantom.tomo_types import TOMO_TYPES
from data.picks import read_picks_table, table_coordinates_zyx
from errors import InputError
from inference.device import DEVICES, choose_device
from particle_config import PARTICLES, TABLE_SOURCE, find_particle
from versions import typed_command

FIRST_EVAL_NUMBER = 201  # run names stay unique between the two trees


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    output = parser.add_argument_group("Output")
    output.add_argument("--output_dir", type=path_argument, default=config.CZI_DATA_ROOT, help="of both layouts")
    output.add_argument(
        "--num_train", type=whole(0, FIRST_EVAL_NUMBER - 1), default=config.PHANTOM_NUM_TRAIN, help="training tomograms"
    )
    output.add_argument("--num_eval", type=whole(0, 10_000), default=config.PHANTOM_NUM_EVAL, help="portal tomograms")
    output.add_argument(
        "--tomo_types", nargs="+", choices=list(TOMO_TYPES), default=["denoised"], help="kinds to write"
    )
    output.add_argument("--overwrite", action="store_true", help="replace runs that exist")
    sample = parser.add_argument_group("Sample")
    sample.add_argument(
        "--shape",
        type=whole(SMALLEST_SIDE_VOXELS, 8192),
        nargs=3,
        metavar=("D", "H", "W"),
        default=config.PHANTOM_SHAPE,
        help="voxels",
    )
    sample.add_argument(
        "--voxel_spacing",
        type=NumberRange(SMALLEST_SPACING_ANGSTROM, 100),
        default=config.PHANTOM_VOXEL_SPACING,
        help="angstrom",
    )
    sample.add_argument(
        "--density_dir", type=path_argument, help="MRC maps named after the particles; decoys/ holds distractors"
    )
    sample.add_argument(
        "--picks_csv",
        type=path_argument,
        help="particle positions of the training tomograms: experiment,particle_type,x,y,z in angstrom",
    )
    sample.add_argument("--seed", type=SEED, default=0, help="of everything drawn")
    microscope = parser.add_argument_group("Microscope")
    microscope.add_argument(
        "--noise",
        type=NumberRange(0, 1000),
        default=config.PHANTOM_NOISE,
        help="0 = none, 1 = about as hard as real data",
    )
    microscope.add_argument(
        "--defocus", type=NumberRange(1, 1e6), default=config.PHANTOM_DEFOCUS, help="underfocus in angstrom"
    )
    microscope.add_argument(
        "--tilt_range", type=NumberRange(1, 90), default=config.PHANTOM_TILT_RANGE, help="degrees to either side"
    )
    microscope.add_argument("--tilt_step", type=NumberRange(0.1, 90), default=config.PHANTOM_TILT_STEP, help="degrees")
    microscope.add_argument(
        "--vary",
        action="store_true",
        help="draw defocus, tilt range, noise, thickness of the ice and the denoising filter for each tomogram, about "
        "the values given: to train networks that carry over to other data",
    )
    compute = parser.add_argument_group("Compute")
    compute.add_argument("--device", choices=DEVICES, default="auto", help="auto: the GPU if there is one")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    settings = PhantomSettings(
        shape_zyx=tuple(args.shape),
        voxel_spacing_angstrom=args.voxel_spacing,
        noise=args.noise,
        defocus_angstrom=args.defocus,
        tilt_range_degrees=args.tilt_range,
        tilt_step_degrees=args.tilt_step,
    )
    device = choose_device(args.device)
    given = read_given_positions(args.picks_csv, settings) if args.picks_csv is not None else None
    train_names, eval_names = run_names(args.num_train, args.num_eval, given)
    key = key_of_runs(args, settings)
    folders = {name: training_folders(args.output_dir, name) for name in train_names}
    folders |= {name: (portal_folder(args.output_dir, name),) for name in eval_names}
    todo = list(folders) if args.overwrite else runs_to_make(folders, key)
    if len(todo) < len(folders):
        print(f"{len(folders) - len(todo)} of {len(folders)} tomograms were made before")
    if others := other_runs(args.output_dir, [*train_names, *eval_names]):
        warnings.warn(
            f"{args.output_dir} also holds {', '.join(others)}, which stay as they are; "
            "for a data set of one kind give another --output_dir",
            stacklevel=2,
        )
    molecules = load_molecules(PARTICLES, args.density_dir)
    write_command_record(args.output_dir, typed_command(__file__, argv))
    with ExitStack() as groups:
        # Who reads the data set in between is told that it is not whole.
        for parent in sorted({of[0].parent for of in folders.values()}):
            groups.enter_context(complete_group(parent))
        for name in (bar := tqdm(todo, desc="tomograms", unit="tomogram", disable=None)):
            its = settings.varied(random_generator(args.seed, f"settings of {name}")) if args.vary else settings
            tomograms, truth = make_tomogram(
                random_generator(args.seed, name),
                settings=its,
                particles=PARTICLES,
                molecules=molecules,
                tomo_types=tuple(dict.fromkeys(args.tomo_types)),
                device=device,
                given_zyx_angstrom=given[name] if given is not None and name in train_names else None,
                progress=step_bar,
            )
            if name in train_names:
                write_training_run(args.output_dir, name, tomograms, truth, args.voxel_spacing, key)
            else:
                write_portal_run(args.output_dir, name, tomograms, truth, args.voxel_spacing, PARTICLES, key)
            counts = ", ".join(f"{len(p.coordinates_zyx_angstrom)} {kind}" for kind, p in truth.items())
            bar.write(f"{name}: {counts}{f'; {its.in_words()}' if args.vary else ''}")
    print(f"wrote {len(train_names)} training and {len(eval_names)} portal tomograms to {args.output_dir}")


def key_of_runs(args: argparse.Namespace, settings: PhantomSettings) -> str:
    """A key of all that a run is made from, beside its name."""
    given = {name: getattr(args, name) for name in ("density_dir", "picks_csv")}
    ingredients = {
        "settings": asdict(settings),
        "seed": args.seed,
        "vary": args.vary,
        "tomo_types": list(dict.fromkeys(args.tomo_types)),
        "particles": [[p.name, p.radius_angstrom, p.label] for p in PARTICLES],
        **{name: None if path is None or not path.exists() else content_hash(path) for name, path in given.items()},
    }
    return hash_of(ingredients)


def run_names(num_train: int, num_eval: int, given: dict[str, dict] | None) -> tuple[list[str], list[str]]:
    """Names of the training runs (the experiments of the CSV when there is one) and of the portal runs."""
    if num_train + num_eval == 0:
        raise InputError("--num_train and --num_eval must not both be 0")
    train = [f"TS_{number}_1" for number in range(1, num_train + 1)]
    evaluation = [f"TS_{number}_1" for number in range(FIRST_EVAL_NUMBER, FIRST_EVAL_NUMBER + num_eval)]
    if given is not None:
        train = list(given)[:num_train]
        taken = sorted(set(train) & set(evaluation))
        if taken:
            raise InputError(f"--picks_csv has an experiment {taken[0]}, the name of a portal run; rename it")
    return train, evaluation


def read_given_positions(path: Path, settings: PhantomSettings) -> dict[str, dict[str, np.ndarray]]:
    """Experiment -> particle name -> (N, 3) zyx angstrom, experiments in the order of the file."""
    table = read_picks_table(path)
    if table.empty:
        raise InputError(f"--picks_csv {path} holds no points; give one with rows")
    given: dict[str, dict[str, np.ndarray]] = {}
    for (experiment, kind), rows in table.groupby(["experiment", "particle_type"], sort=False):
        particle = find_particle(kind)
        if particle is None:
            raise InputError(f"{path}: particle {kind!r} is not in {TABLE_SOURCE}; add a row or an alias")
        check_name(experiment, f"{path}: experiment")
        points = given.setdefault(experiment, {})
        earlier = points.get(particle.name, np.empty((0, 3)))
        points[particle.name] = np.concatenate([earlier, table_coordinates_zyx(rows)])
    for experiment, points in given.items():
        check_inside(points, settings.extent_zyx_angstrom, f"{path}, experiment {experiment}")
    return given


def step_bar(steps: Iterable, name: str) -> Iterable:
    """A bar below that of the tomograms, gone when the step is done."""
    return tqdm(steps, desc=name, leave=False, position=1, mininterval=0.5, disable=None)


if __name__ == "__main__":
    run_script(main)
