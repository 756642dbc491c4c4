"""Whether a network trained on imported data is as good as one trained on the challenge's layout.

    python -m benchmarks.import_round_trip --data_root DATA --public_root PUBLIC --seeds 0 1 2

DATA is a training tree, PUBLIC a tree in the portal's layout with prepared annotations
(prepare_fullpublic_eval_annotations.py). DATA is exported as a lab has it: MRC files with names such as
rec_TS_1_10.01Apx.mrc, a tomograms.star with the sizes of the unbinned tomograms, and for each particle, under a name of
one's own, a particles.star of RELION 5 with centred coordinates. import_dataset.py reads them back. First grey values,
positions and masks of both layouts are compared. Then the same network is trained from both with the first seed, and
from the challenge's layout with the other seeds, which show how far two trainings differ anyway. All are evaluated on
PUBLIC. A training takes one thread, so that equal inputs give equal networks. Finished trainings and evaluations are
kept and not repeated.
"""

from command_line import run_script

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import starfile
import torch

import config
import import_dataset
from benchmarks.processes import run_beside_others
from data.czi import Run, find_runs
from data.files import atomic_path
from data.masks import make_mask
from data.picks import read_run_picks
from data.tomogram import open_tomogram
from errors import InputError
from formats.star import CENTRED, OPTICS_GROUP, PIXEL_SIZE, SIZES, TOMOGRAM
from inference.checkpoints import load_checkpoint
from particle_config import BACKGROUND_LABEL, PARTICLES, VARIABLE, Particle, given_table
from training.experiment import finished_folds

# Names of one's own for the challenge's particles, none of which the built-in table knows.
OWN_NAMES = {
    "apo-ferritin": "apoF",
    "beta-amylase": "bAmy",
    "beta-galactosidase": "bGal",
    "ribosome": "ribo",
    "thyroglobulin": "TG",
    "virus-like-particle": "PP7",
}
NATIVE, IMPORTED = "challenge", "imported"
FOLD = 0
BINNING = 4
# A reconstruction program rounds the binned size down: then the middle of the binned tomogram is not that of the
# unbinned one, to which RELION's coordinates refer.
CUT_PIXELS = 2


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.import_round_trip",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--data_root", type=Path, default=config.CZI_DATA_ROOT)
    parser.add_argument("--public_root", type=Path, default=config.CZI_PUBLIC_EVAL_DATA_ROOT)
    parser.add_argument("--output_dir", type=Path, default=config.OUTPUT_ROOT / "results" / "import_round_trip")
    parser.add_argument("--tomo_type", default=config.TRAINING_TOMO_TYPES[0])
    parser.add_argument("--encoder_name", default="deepfinder2")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="imported data are trained with the first"
    )
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--steps_per_epoch", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, of one thread each")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    files, imported, first = args.output_dir / "files", args.output_dir / "imported", args.seeds[0]
    export_as_files(args.data_root, files, tomo_type=args.tomo_type)
    import_files(files, imported, tomo_type=args.tomo_type)
    print(f"\n{compare(args.data_root, imported, tomo_type=args.tomo_type)}\n", flush=True)
    table = imported / "particles.json"
    # The pair of the first seed comes first: it is what the comparison is about.
    wanted = [(IMPORTED, first), *((NATIVE, seed) for seed in args.seeds)]

    def job(layout: str, seed: int) -> tuple[Path, dict]:
        data = args.data_root if layout == NATIVE else imported
        variables = {} if layout == NATIVE else {VARIABLE: str(table.resolve())}
        experiment = trained(args.output_dir / "training" / f"{layout}_{seed}", data, seed, variables, args)
        return experiment, evaluated(experiment, args)

    with ThreadPoolExecutor(args.jobs) as pool:
        done = dict(zip(wanted, pool.map(job, *zip(*wanted, strict=True)), strict=True))
    same = same_weights(done[NATIVE, first][0], done[IMPORTED, first][0], given_table(str(table)))
    print(f"networks of seed {first}: {'equal bit for bit' if same else 'not equal bit for bit'}\n")
    print(as_markdown({key: score for key, (_, score) in done.items()}, first))


# --- Files as a lab has them --------------------------------------------------------------------------
def export_as_files(data_root: Path, folder: Path, *, tomo_type: str) -> None:
    """Write ``tomograms/rec_{run}_{voxel size}Apx.mrc``, ``tomograms.star`` and an ``{own name}.star`` a particle."""
    runs = find_runs(data_root, tomo_type=tomo_type)
    series, points = [], {name: [] for name in OWN_NAMES}
    for run in runs:
        tomogram = open_tomogram(run.tomogram_path(tomo_type))
        pixel = tomogram.voxel_spacing_angstrom / BINNING
        write_mrc(
            folder / "tomograms" / f"rec_{run.name}_{tomogram.voxel_spacing_angstrom:.2f}Apx.mrc",
            tomogram.read(),
            tomogram.voxel_spacing_angstrom,
        )
        sizes_xyz = [BINNING * side + CUT_PIXELS for side in reversed(tomogram.shape_zyx)]
        series.append(
            {TOMOGRAM: run.name, PIXEL_SIZE: pixel, OPTICS_GROUP: 1, **dict(zip(SIZES, sizes_xyz, strict=True))}
        )
        for name, coordinates in read_run_picks(run.picks_dir).items():
            centred = coordinates[:, ::-1] - np.array(sizes_xyz) * pixel / 2
            rows = pd.DataFrame(centred, columns=CENTRED)
            points[name].append(rows.assign(**{TOMOGRAM: run.name, OPTICS_GROUP: 1}))
    starfile.write({"global": pd.DataFrame(series)}, folder / "tomograms.star", overwrite=True)
    optics = pd.DataFrame([{OPTICS_GROUP: 1, "rlnOpticsGroupName": "opticsGroup1", PIXEL_SIZE: series[0][PIXEL_SIZE]}])
    for name, tables in points.items():
        if sum(map(len, tables)):
            particles = pd.concat(tables, ignore_index=True)
            path = folder / f"{OWN_NAMES[name]}.star"
            starfile.write({"optics": optics, "particles": particles}, path, overwrite=True)


def write_mrc(path: Path, volume: np.ndarray, voxel_spacing_angstrom: float) -> None:
    """Write ``volume`` (Z, Y, X) unless the file is there."""
    if not path.exists():
        with atomic_path(path) as temporary, mrcfile.new(temporary) as file:
            file.set_data(volume)
            file.voxel_size = voxel_spacing_angstrom


def import_files(folder: Path, root: Path, *, tomo_type: str) -> None:
    """Import one particle after the other, as their STAR files do not name them, and give them the weights of ours."""
    for particle in PARTICLES:
        star, name = folder / f"{OWN_NAMES[particle.name]}.star", OWN_NAMES[particle.name]
        if star.is_file():
            radius = f"{name}={particle.radius_angstrom:g}"
            words = ["--tomograms", folder / "tomograms", "--picks", star, "--tomo_type", tomo_type, "--particle", name]
            import_dataset.main([str(word) for word in (*words, "--radius", radius, "--output_dir", root)])
    # No picks file holds these values; they are written into the table of particles by hand. With its alias a particle
    # is found in the true picks of the evaluation.
    table = root / "particles.json"
    by_hand = {
        OWN_NAMES[p.name]: {"score_weight": p.score_weight, "loss_weight": p.loss_weight, "aliases": [p.name]}
        for p in PARTICLES
    }
    rows = [row | by_hand[row["name"]] for row in json.loads(table.read_text())]
    with atomic_path(table) as temporary:
        temporary.write_text(json.dumps(rows, indent=2) + "\n")


# --- Comparison of the inputs -------------------------------------------------------------------------
@dataclass(frozen=True)
class Differences:
    """Between the two layouts of a data set, summed or the largest over its runs."""

    runs: int
    grey_value: float
    spacing_angstrom: float
    position_angstrom: float
    mask_voxels: int

    def __str__(self) -> str:
        return (
            f"{self.runs} runs; largest difference in grey value {self.grey_value:g}, in voxel size "
            f"{self.spacing_angstrom:.1g} angstrom, in position {self.position_angstrom:.1g} angstrom; "
            f"{self.mask_voxels} voxels of the masks differ"
        )


def compare(native_root: Path, imported_root: Path, *, tomo_type: str) -> Differences:
    """Of an imported data set and the one that it was made from; InputError where runs or particles are missing."""
    table = given_table(str(imported_root / "particles.json"))
    native, imported = (find_runs(root, tomo_type=tomo_type) for root in (native_root, imported_root))
    if [run.name for run in native] != [run.name for run in imported]:
        raise InputError(f"{imported_root} has other runs than {native_root}; choose another --output_dir")
    found = [_difference(*pair, tomo_type, table) for pair in zip(native, imported, strict=True)]
    grey, spacing, position, voxels = np.array(found).T
    return Differences(len(found), grey.max(), spacing.max(), position.max(), int(voxels.sum()))


def _difference(native: Run, imported: Run, tomo_type: str, table: Sequence[Particle]) -> tuple[float, ...]:
    pair = [open_tomogram(run.tomogram_path(tomo_type)) for run in (native, imported)]
    grey = np.abs(pair[0].read() - pair[1].read()).max()
    spacings = [tomogram.voxel_spacing_angstrom for tomogram in pair]
    picks = read_run_picks(native.picks_dir), read_run_picks(imported.picks_dir, table)
    positions = [np.concatenate(list(by_particle.values())) for by_particle in picks]
    counts = [{name: len(points) for name, points in by_particle.items() if len(points)} for by_particle in picks]
    if {OWN_NAMES[name]: count for name, count in counts[0].items()} != counts[1]:
        raise InputError(f"run {native.name}: {imported.picks_dir} has other picks than {native.picks_dir}")
    masks = [
        make_mask(
            tomogram.shape_zyx,
            by_particle,
            voxel_spacing_angstrom=tomogram.voxel_spacing_angstrom,
            radius_fraction=config.RADIUS_FRACTION,
            particles=particles,
        )
        for tomogram, by_particle, particles in zip(pair, picks, (PARTICLES, table), strict=True)
    ]
    return (
        *(grey, abs(spacings[1] - spacings[0]), np.abs(positions[1] - positions[0]).max()),
        np.count_nonzero(_relabelled(masks[0], table) != masks[1]),
    )


def _relabelled(mask: np.ndarray, table: Sequence[Particle]) -> np.ndarray:
    """The mask with the labels of ``table``, where particles without picks have no row."""
    own = {particle.name: particle.label for particle in table}
    labels = np.zeros(len(PARTICLES) + 1, dtype=np.uint8)
    for particle in PARTICLES:
        labels[particle.label] = own.get(OWN_NAMES[particle.name], BACKGROUND_LABEL)
    return labels[mask]


# --- Networks -----------------------------------------------------------------------------------------
def trained(folder: Path, data: Path, seed: int, variables: Mapping[str, str], args: argparse.Namespace) -> Path:
    """The finished experiment, trained now where there is none."""
    if not finished_in(folder):
        run_on_one_thread(
            *("train.py", "--data_root", data, "--output_dir", folder, "--fold", FOLD, "--seed", seed),
            *("--encoder_name", args.encoder_name, "--training_tomo_types", args.tomo_type),
            *("--epochs", args.epochs, "--steps_per_epoch", args.steps_per_epoch),
            *("--cache_dir", args.output_dir / "cache"),
            environment=variables,
        )
        print(f"trained   {folder}", flush=True)
    return finished_in(folder)[-1]


def finished_in(folder: Path) -> list[Path]:
    return [experiment for experiment in sorted(folder.glob("*")) if FOLD in finished_folds(experiment)]


def evaluated(experiment: Path, args: argparse.Namespace) -> dict:
    """The score in ``scores.json``; the names of the particles come from the checkpoint."""
    results = experiment.parent.with_name(f"{experiment.parent.name}_results")
    if not (results / "scores.json").is_file():
        run_on_one_thread(
            *("eval_public_czi.py", "--model_path", experiment / finished_folds(experiment)[FOLD].checkpoint),
            *("--data_root", args.public_root, "--tomo_type", args.tomo_type, "--output_dir", results),
            *("--cache_dir", args.output_dir / "cache"),
        )
    return json.loads((results / "scores.json").read_text())["score"]


def run_on_one_thread(script: str, *flags, environment: Mapping[str, str] | None = None) -> None:
    run_beside_others(os.cpu_count() or 1, script, *flags, environment=environment)


def same_weights(native: Path, imported: Path, table: Sequence[Particle]) -> bool:
    """Whether the chosen checkpoints of two experiments hold the same numbers."""
    pair = [
        load_checkpoint(experiment / finished_folds(experiment)[FOLD].checkpoint, particles)[0].state_dict()
        for experiment, particles in ((native, PARTICLES), (imported, table))
    ]
    return all(torch.equal(value, pair[1][name]) for name, value in pair[0].items())


# --- Table --------------------------------------------------------------------------------------------
def as_markdown(scores: Mapping[tuple[str, int], Mapping], first_seed: int) -> str:
    """One row a network, then the difference between the layouts beside the range over the seeds."""
    lines = [f"| layout | seed | F4 | {' | '.join(OWN_NAMES)} |", "|---|---|---|" + "---|" * len(OWN_NAMES)]
    for (layout, seed), score in sorted(scores.items(), key=lambda item: (item[0][1], item[0][0])):
        f4_of = {row["particle"]: row["f4"] for row in score["per_particle"]}
        names = OWN_NAMES if layout == NATIVE else OWN_NAMES.values()
        cells = [f"{f4_of[name]:.4f}" for name in names]
        lines.append(f"| {layout} | {seed} | {score['weighted_f4']:.4f} | {' | '.join(cells)} |")
    native = [score["weighted_f4"] for (layout, _), score in scores.items() if layout == NATIVE]
    difference = scores[IMPORTED, first_seed]["weighted_f4"] - scores[NATIVE, first_seed]["weighted_f4"]
    lines += ["", f"imported - challenge: {difference:+.4f}"]
    if len(native) > 1:
        lines.append(f"range over the seeds: {max(native) - min(native):.4f} ({min(native):.4f} to {max(native):.4f})")
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(main)
