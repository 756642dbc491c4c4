"""What views are worth: F4 for every group, in networks trained with and without quarter turns about the beam.

    python make_phantom_dataset.py --output_dir phantom45 --tilt_range 45 --shape 96 192 192 --num_train 6 --num_eval 6
    python prepare_fullpublic_eval_annotations.py --data_dir phantom45/public
    python -m benchmarks.tta --name "phantom, 45 degrees" --data_root phantom45 --public_root phantom45/public
    python -m benchmarks.tta --table results/tta/*/scores.csv --picture docs/tta.png

One network per training and seed, evaluated with each group of views (view_groups.py). It keeps its picks down to the
lowest scores; two scores are read off them: F4 at the thresholds of the checkpoint, which were found on one held-out
tomogram without views, and F4 at the best threshold of every particle on these very tomograms. Views change the
distribution of scores, so the first may do them wrong; the second does not depend on thresholds, but knows the truth.
Position errors are those of the hits of the first. The cost of a group is its time over that of no views, on noise of
the first tomogram's shape: CPU seconds on a CPU. Finished trainings and evaluations are kept and not repeated.
"""

from command_line import run_script

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import config
from benchmarks.ablation import file_name
from benchmarks.inference import default_predictor, view_flags
from benchmarks.processes import run_beside_others
from benchmarks.thresholds import maximum
from benchmarks.tta_picture import save_picture
from data.czi import find_runs
from data.files import atomic_path
from data.picks import read_picks_table, table_coordinates_zyx, truth_table
from data.tomogram import open_tomogram
from errors import InputError
from inference.checkpoints import load_checkpoint
from inference.predictor import Predictor
from metrics.fbeta import MATCH_RADIUS_FRACTION, score_picks
from metrics.localization import offsets_per_particle, position_error
from metrics.threshold_curve import ThresholdCurve, threshold_curve
from particle_config import PARTICLES, Particle
from train import MAY_CHANGE
from training.experiment import check_same_arguments, finished_folds, fold_dir
from tta.orientations import ORIENTATIONS

# What the rows are called -> --augmentation_mode.
TRAININGS = {"with quarter turns": "anisotropic", "without quarter turns": "wedge"}
BASE = "none"
GROUPS = ("d2", "d2h", "etfinder7", "d4h", "oh")
FOLD = 0
# Reused experiments may be of other lengths, which the table then shows; all else must be the same.
MAY_DIFFER = (*MAY_CHANGE, "seed", "augmentation_mode", "steps_per_epoch")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tta",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--name", default="phantom", help="of the data, in table, picture and folder")
    parser.add_argument("--data_root", type=Path, default=config.CZI_DATA_ROOT)
    parser.add_argument("--public_root", type=Path, default=config.CZI_PUBLIC_EVAL_DATA_ROOT)
    parser.add_argument("--output_dir", type=Path, default=config.OUTPUT_ROOT / "results" / "tta")
    parser.add_argument("--trainings", nargs="+", choices=TRAININGS, metavar="TRAINING", default=list(TRAININGS))
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=GROUPS, help="beside none")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--steps_per_epoch", type=int, default=config.STEPS_PER_EPOCH)
    parser.add_argument(
        "--experiments",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="finished ones of this data root; each serves for its seed and augmentation_mode",
    )
    parser.add_argument("--jobs", type=int, default=2, help="networks at a time; they share the cores")
    parser.add_argument(
        "--table", type=Path, nargs="+", metavar="CSV", help="only print the tables of these scores.csv"
    )
    parser.add_argument("--picture", type=Path, help="where to draw what the tables say")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    tables = args.table or [run_all(args)]
    scores = with_gains(pd.concat([pd.read_csv(path) for path in tables], ignore_index=True))
    for name, rows in scores.groupby("data", sort=False):
        print(f"\n{name}\n\n{as_markdown(rows)}")
    if args.picture is not None:
        print(f"\npicture   {save_picture(args.picture, scores)}")


# --- Running ------------------------------------------------------------------------------------------
def run_all(args: argparse.Namespace) -> Path:
    """Train and evaluate what is missing; the path of scores.csv, one row per training, seed and group."""
    if not any(args.public_root.glob("*/Picks")):
        raise InputError(f"{args.public_root} has no prepared picks; run prepare_fullpublic_eval_annotations.py on it")
    folder = args.output_dir / file_name(args.name)
    claim(folder, {name: getattr(args, name) for name in ("data_root", "public_root", "epochs", "steps_per_epoch")})
    given = given_experiments(args.experiments, args.data_root)
    wanted = [(training, seed) for seed in args.seeds for training in args.trainings]
    groups = (BASE, *args.groups)

    def job(training: str, seed: int) -> tuple[Path, list[Path]]:
        experiment = given.get((training, seed)) or trained(training, seed, folder, args)
        root = folder / "evaluations" / file_name(f"{training} {seed} {experiment.name}")
        return experiment, evaluated(experiment, groups, root, args)

    with ThreadPoolExecutor(args.jobs) as pool:
        done = list(pool.map(job, *zip(*wanted, strict=True)))
    costs = measured_costs(done[0][0], groups, args.public_root, folder / "costs.json")
    truth = truth_table(find_runs(args.public_root))
    rows = [
        {
            **{"data": args.name, "training": training, "seed": seed, "steps": steps_of(experiment)},
            **{"group": group, "views": len(ORIENTATIONS[group]), "cost": costs[group] / costs[BASE]},
            **summary(read_picks_table(results / "submission.csv"), truth, thresholds_of(experiment)),
        }
        for (training, seed), (experiment, evaluations) in zip(wanted, done, strict=True)
        for group, results in zip(groups, evaluations, strict=True)
    ]
    with atomic_path(folder / "scores.csv") as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)
    return folder / "scores.csv"


def claim(folder: Path, arguments: Mapping[str, object]) -> None:
    """The folder is for runs with these arguments; InputError where it holds results of others."""
    check_same_arguments(folder, arguments, (), "choose another --name or --output_dir")
    with atomic_path(folder / "args.json") as temporary:
        temporary.write_text(json.dumps(arguments, indent=2, default=str))


def given_experiments(folders: Sequence[Path], data_root: Path) -> dict[tuple[str, int], Path]:
    """(training, seed) -> the experiment that serves for it; InputError for one that cannot."""
    given, first = {}, None
    names = {mode: training for training, mode in TRAININGS.items()}
    for folder in folders:
        if FOLD not in finished_folds(folder):
            raise InputError(f"--experiments {folder} is no experiment whose fold {FOLD} is finished")
        arguments = json.loads((folder / "args.json").read_text())
        if Path(arguments["data_root"]).resolve() != data_root.resolve():
            raise InputError(f"--experiments {folder} was trained on {arguments['data_root']}, not on {data_root}")
        if arguments["augmentation_mode"] not in names:
            raise InputError(f"--experiments {folder}: --augmentation_mode must be one of {', '.join(names)}")
        first = first or arguments
        check_same_arguments(folder, first, MAY_DIFFER, f"{folders[0]} is the first of --experiments")
        given[names[arguments["augmentation_mode"]], arguments["seed"]] = folder
    return given


def trained(training: str, seed: int, folder: Path, args: argparse.Namespace) -> Path:
    """The finished experiment, trained now where there is none."""
    root = folder / "training" / file_name(f"{training} {seed}")
    if not finished_in(root):
        run_beside_others(
            *(args.jobs, "train.py", "--data_root", args.data_root, "--output_dir", root, "--fold", FOLD),
            *("--augmentation_mode", TRAININGS[training], "--seed", seed, "--cache_dir", folder / "cache"),
            *("--epochs", args.epochs, "--steps_per_epoch", args.steps_per_epoch),
        )
        print(f"trained   {training}, seed {seed}", flush=True)
    return finished_in(root)[-1]


def finished_in(root: Path) -> list[Path]:
    return [experiment for experiment in sorted(root.glob("*")) if FOLD in finished_folds(experiment)]


def evaluated(experiment: Path, groups: Sequence[str], root: Path, args: argparse.Namespace) -> list[Path]:
    """The folders of all candidates through the views of each group, evaluated now where there are none."""
    results = [root / group for group in groups]
    missing = [folder.name for folder in results if not (folder / "submission.csv").is_file()]
    if missing:
        run_beside_others(
            *(args.jobs, "benchmarks.view_groups", "--model_path", checkpoint_of(experiment)),
            *("--data_root", args.public_root, "--output_dir", root, "--groups", *missing),
        )
        print(f"evaluated {experiment}, {', '.join(missing)}", flush=True)
    return results


def checkpoint_of(experiment: Path) -> Path:
    return experiment / finished_folds(experiment)[FOLD].checkpoint


def steps_of(experiment: Path) -> int:
    return int(pd.read_csv(fold_dir(experiment, FOLD) / "metrics.csv")["step"].max())


def thresholds_of(experiment: Path) -> dict[str, float]:
    found = finished_folds(experiment)[FOLD].hyperparameters[config.POSTPROCESSING_METHOD]
    return {name: keywords["peak_threshold"] for name, keywords in found.items()}


def measured_costs(experiment: Path, groups: Sequence[str], public_root: Path, note: Path) -> dict[str, float]:
    """Seconds per group, CPU seconds on a CPU; measured once for all groups and kept."""
    known = json.loads(note.read_text()) if note.is_file() else {}
    if set(groups) <= set(known):
        return known
    network, description = load_checkpoint(checkpoint_of(experiment))
    run = find_runs(public_root, tomo_type=description.tomo_types[0])[0]
    shape = open_tomogram(run.tomogram_path(description.tomo_types[0])).shape_zyx
    volume = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    for group in (groups[0], *groups):  # the first warms up and is measured again
        known[group] = seconds_of(default_predictor(network, view_flags(group)), volume)
    with atomic_path(note) as temporary:
        temporary.write_text(json.dumps(known, indent=2))
    return known


def seconds_of(predict: Predictor, volume: np.ndarray) -> float:
    if predict.device.type == "cpu":
        start = time.process_time()
        predict(volume)
        return time.process_time() - start
    predict(volume)  # every group calls the network with batches of its own
    torch.cuda.synchronize()
    start = time.perf_counter()
    predict(volume)
    torch.cuda.synchronize()
    return time.perf_counter() - start


# --- Scores -------------------------------------------------------------------------------------------
def summary(picks: pd.DataFrame, truth: pd.DataFrame, thresholds: Mapping[str, float]) -> dict[str, float]:
    """F4 of all candidates cut at these thresholds and at the best ones, and position errors of the former's hits."""
    kept = above(picks, thresholds)
    best = {particle.name: maximum([pooled_curve(picks, truth, particle)]) for particle in PARTICLES}
    offsets = offsets_per_particle(kept, truth)
    return {
        "f4": score_picks(kept, truth).weighted,
        "best_f4": score_picks(above(picks, best), truth).weighted,
        **asdict(position_error(np.concatenate(list(offsets.values())))),
    }


def above(picks: pd.DataFrame, thresholds: Mapping[str, float]) -> pd.DataFrame:
    return picks[picks["score"] >= picks["particle_type"].map(thresholds).astype(float)]


def pooled_curve(picks: pd.DataFrame, truth: pd.DataFrame, particle: Particle) -> ThresholdCurve:
    """F4 of one particle at every threshold, all runs of the truth together."""
    runs = sorted(truth["experiment"].unique())

    def per_run(table: pd.DataFrame) -> list[pd.DataFrame]:
        rows = table[table["particle_type"] == particle.name]
        return [rows[rows["experiment"] == run] for run in runs]

    return threshold_curve(
        [(table_coordinates_zyx(rows), rows["score"].to_numpy()) for rows in per_run(picks)],
        [table_coordinates_zyx(rows) for rows in per_run(truth)],
        MATCH_RADIUS_FRACTION * particle.radius_angstrom,
    )


def with_gains(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows with what each is ahead of no views in the same network: gain and best_gain."""
    key = ["data", "training", "seed"]
    base = scores[scores["group"] == BASE].set_index(key)[["f4", "best_f4"]]
    base = base.reindex(pd.MultiIndex.from_frame(scores[key])).to_numpy()
    return scores.assign(gain=scores["f4"] - base[:, 0], best_gain=scores["best_f4"] - base[:, 1])


def as_markdown(scores: pd.DataFrame) -> str:
    """One line per training and group: means over the seeds, and the range of what differs between them."""
    lines = [
        "| trained | steps | views | seeds | F4 | gain | F4, best thresholds | gain | time "
        "| error in z, Å | in x, y, Å |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (training, group), runs in scores.groupby(["training", "group"], sort=False):
        f4, gain = mean_and_range(runs["f4"], ".3f"), mean_and_range(runs["gain"], "+.3f")
        best_f4, best_gain = mean_and_range(runs["best_f4"], ".3f"), mean_and_range(runs["best_gain"], "+.3f")
        lines.append(
            f"| {training} | {runs['steps'].mean():.0f} | {group} ({runs['views'].iloc[0]}) | {len(runs)} "
            f"| {f4} | {gain} | {best_f4} | {best_gain} | {runs['cost'].mean():.1f} "
            f"| {runs['rms_z'].mean():.1f} | {runs['rms_xy'].mean():.1f} |"
        )
    return "\n".join(lines)


def mean_and_range(values: pd.Series, style: str) -> str:
    spread = f" ({values.min():{style}} to {values.max():{style}})" if len(values) > 1 and values.any() else ""
    return f"{values.mean():{style}}{spread}"


if __name__ == "__main__":
    run_script(main)
