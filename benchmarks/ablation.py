"""What each choice of training is worth: one change at a time from the defaults, equal training time, several seeds.

    python -m benchmarks.ablation --data_root DATA --public_root DATA/10445 --minutes 5 --seeds 0 1 2
    python -m benchmarks.ablation --table results/ablation/scores.csv

DATA is a training tree, public_root a tree in the portal's layout with prepared annotations
(prepare_fullpublic_eval_annotations.py). First every row takes a few steps to measure its step time, beside the other
jobs as it will run, and then as many steps as fit into the minutes. Finished runs are kept in scores.csv and not
repeated. F4 is pooled, without views, thresholds from the one held-out training tomogram.
"""

from command_line import run_script

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import pandas as pd

import config
from benchmarks.processes import run_beside_others
from errors import InputError

EPOCHS = 3  # the last validation chooses the thresholds; more would cost time and change little
CALIBRATION_EPOCHS, CALIBRATION_STEPS = 4, 6

# What changes training most is whether maps have full resolution, so that the other changes are looked at there, too.
FULL_RESOLUTION, FULL = "output stride 1", ["--output_stride", "1"]
ROWS = {
    "defaults": [],
    "dropout 0.2": ["--dropout", "0.2"],
    "label smoothing 0.1": ["--label_smoothing", "0.1"],
    "loss ce": ["--loss_type", "ce"],
    "loss focal": ["--loss_type", "focal"],
    "radius fraction 0.3": ["--radius_fraction", "0.3"],
    "single voxel, ce 1:128": ["--single_pixel_mask", "--loss_type", "ce"],
    FULL_RESOLUTION: FULL,
    "output stride 1, loss ce": [*FULL, "--loss_type", "ce"],
    "output stride 1, loss tversky": [*FULL, "--loss_type", "tversky"],
    "output stride 1, loss focal": [*FULL, "--loss_type", "focal"],
    "output stride 1, loss focal_tversky": [*FULL, "--loss_type", "focal_tversky"],
    "output stride 1, loss focal_tversky_pp": [*FULL, "--loss_type", "focal_tversky_pp"],
    "output stride 1, ce_tversky with GradNorm": [*FULL, "--loss_type", "ce_tversky", "--use_gradnorm"],
    "output stride 1, radius fraction 0.3": [*FULL, "--radius_fraction", "0.3"],
    "output stride 1, single voxel, ce 1:128": [*FULL, "--single_pixel_mask", "--loss_type", "ce"],
    "output stride 1, no quarter turns": [*FULL, "--augmentation_mode", "wedge"],
    "output stride 1, isotropic augmentation": [*FULL, "--augmentation_mode", "isotropic"],
    "output stride 1, no augmentation": [*FULL, "--augmentation_level", "none"],
    "output stride 1, advanced augmentation": [*FULL, "--augmentation_level", "advanced"],
    "output stride 1, mixup": [*FULL, "--use_mixup"],
    "output stride 1, no averaging": [*FULL, "--no-use_ema"],
    "output stride 1, SWA": [*FULL, "--use_swa"],
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--data_root", type=Path, default=config.CZI_DATA_ROOT)
    parser.add_argument("--public_root", type=Path, default=config.CZI_PUBLIC_EVAL_DATA_ROOT)
    parser.add_argument("--output_dir", type=Path, default=config.OUTPUT_ROOT / "results" / "ablation")
    parser.add_argument("--rows", nargs="+", choices=ROWS, metavar="ROW", default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="of training, without validation")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time; they share the cores")
    parser.add_argument("--table", type=Path, help="only print the table of this scores.csv")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    if args.table is not None:
        print(as_markdown(pd.read_csv(args.table)))
        return
    if not any(args.public_root.glob("*/Picks")):
        raise InputError(f"{args.public_root} has no prepared picks; run prepare_fullpublic_eval_annotations.py on it")
    scores = args.output_dir / "scores.csv"
    done = pd.read_csv(scores) if scores.is_file() else pd.DataFrame(columns=["row", "seed"])
    wanted = [
        (row, seed)
        for seed in args.seeds
        for row in args.rows
        if not ((done["row"] == row) & (done["seed"] == seed)).any()
    ]
    lock = Lock()

    def job(row_and_seed: tuple[str, int]) -> None:
        record = one_run(*row_and_seed, step_times[row_and_seed[0]], args)
        with lock:
            pd.DataFrame([record]).to_csv(scores, mode="a", header=not scores.is_file(), index=False)
            print(json.dumps(record), flush=True)

    args.output_dir.mkdir(parents=True, exist_ok=True)
    step_times = measured_step_times(args)

    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(job, wanted))
    print(as_markdown(pd.read_csv(scores)))


def one_run(row: str, seed: int, seconds_per_step: float, args: argparse.Namespace) -> dict:
    """Train for the time that all rows get, and evaluate."""
    folder = args.output_dir / f"{file_name(row)}_{seed}"
    steps = max(1, round(60 * args.minutes / seconds_per_step / EPOCHS))
    experiment = train(row, folder / "run", args, "--epochs", EPOCHS, "--steps_per_epoch", steps, "--seed", seed)
    metrics = pd.read_csv(experiment / "fold_0" / "metrics.csv")
    results = folder / "results"
    run_beside_others(
        *(args.jobs, "eval_public_czi.py", "--model_path", experiment),
        *("--data_root", args.public_root, "--output_dir", results, "--force_rerun"),
    )
    score = json.loads((results / "scores.json").read_text())["score"]
    return {
        "row": row,
        "seed": seed,
        "steps": int(metrics["step"].max()),
        "training_seconds": round(float(metrics["seconds"].sum())),
        "seconds_per_step": round(seconds_per_step, 3),
        "validation_f4": round(float(metrics["f4"].max()), 4),
        "f4": round(score["weighted_f4"], 4),
    }


def measured_step_times(args: argparse.Namespace) -> dict[str, float]:
    """Seconds per step of every row, measured once, all rows before the first run.

    The shortest of several short epochs: what disturbs a measurement only ever makes it longer.
    """
    note = args.output_dir / "step_times.json"
    known = json.loads(note.read_text()) if note.is_file() else {}

    def measure(row: str) -> float:
        folder = args.output_dir / "step_times" / file_name(row)
        epochs = ("--epochs", CALIBRATION_EPOCHS, "--steps_per_epoch", CALIBRATION_STEPS)
        experiment = train(row, folder, args, *epochs)
        return float(pd.read_csv(experiment / "fold_0" / "metrics.csv")["seconds"].min()) / CALIBRATION_STEPS

    missing = [row for row in args.rows if row not in known]
    with ThreadPoolExecutor(args.jobs) as pool:
        known |= dict(zip(missing, pool.map(measure, missing), strict=True))
    note.write_text(json.dumps(known, indent=2))
    return known


def file_name(row: str) -> str:
    return row.replace(" ", "_").replace(",", "").replace(":", "-")


def train(row: str, folder: Path, args: argparse.Namespace, *flags) -> Path:
    run_beside_others(
        *(args.jobs, "train.py", "--data_root", args.data_root, "--output_dir", folder, "--fold", 0),
        *("--cache_dir", args.output_dir / "cache", *flags, *ROWS[row]),
    )
    return max(folder.iterdir())


def as_markdown(scores: pd.DataFrame) -> str:
    """One line per row: mean and range of F4 over the seeds, and the difference from its base, seed by seed.

    The base of a change at full resolution is full resolution alone, that of all others the defaults.
    """
    f4_of = {row: runs.set_index("seed")["f4"] for row, runs in scores.groupby("row")}
    lines = ["| change | s per step | steps | seeds | F4 | difference | held-out F4 |", "|---|---|---|---|---|---|---|"]
    for row in [name for name in ROWS if name in f4_of]:
        runs, f4 = scores[scores["row"] == row], f4_of[row]
        base = FULL_RESOLUTION if row.startswith(FULL_RESOLUTION + ",") else "defaults"
        gain = (f4 - f4_of.get(base, f4)).dropna()
        spread = f" ({f4.min():.3f} to {f4.max():.3f})" if len(f4) > 1 else ""
        difference = f"{gain.mean():+.3f}" if row != base else ""
        lines.append(
            f"| {row} | {runs['seconds_per_step'].mean():.2f} | {runs['steps'].mean():.0f} | {len(runs)} "
            f"| {f4.mean():.3f}{spread} | {difference} | {runs['validation_f4'].mean():.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(main)
