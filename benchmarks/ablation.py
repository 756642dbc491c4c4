"""What each choice of training is worth: one change at a time from the defaults, equal training time, several seeds.

    python -m benchmarks.ablation --data_root DATA --public_root DATA/10445 --minutes 5 --seeds 0 1 2
    python -m benchmarks.ablation --table results/ablation/scores.csv

DATA is a training tree, public_root a tree in the portal's layout with prepared annotations
(prepare_fullpublic_eval_annotations.py). First every row takes a few steps to measure its step time, beside the other
jobs as it will run, and then as many steps as fit into the minutes. Finished runs are kept in scores.csv and not
repeated. F4 is pooled, without views, thresholds from the one held-out training tomogram.
"""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import pandas as pd

import config
from benchmarks.processes import run_beside_others
from errors import InputError, run_script

EPOCHS = 3  # the last validation chooses the thresholds; more would cost time and change little
CALIBRATION_EPOCHS, CALIBRATION_STEPS = 4, 6

ROWS = {
    "defaults": [],
    "loss ce": ["--loss_type", "ce"],
    "loss tversky": ["--loss_type", "tversky"],
    "loss focal": ["--loss_type", "focal"],
    "loss focal_tversky": ["--loss_type", "focal_tversky"],
    "loss focal_tversky_pp": ["--loss_type", "focal_tversky_pp"],
    "ce_tversky with GradNorm": ["--loss_type", "ce_tversky", "--use_gradnorm"],
    "radius fraction 0.3": ["--radius_fraction", "0.3"],
    "single voxel, ce 1:128": ["--single_pixel_mask", "--loss_type", "ce"],
    "output stride 2": ["--output_stride", "2"],
    "output stride 2, loss ce": ["--output_stride", "2", "--loss_type", "ce"],
    "output stride 2, loss focal": ["--output_stride", "2", "--loss_type", "focal"],
    "output stride 2, radius fraction 0.3": ["--output_stride", "2", "--radius_fraction", "0.3"],
    "output stride 2, single voxel, ce 1:128": ["--output_stride", "2", "--single_pixel_mask", "--loss_type", "ce"],
    "no quarter turns": ["--augmentation_mode", "wedge"],
    "isotropic augmentation": ["--augmentation_mode", "isotropic"],
    "no augmentation": ["--augmentation_level", "none"],
    "advanced augmentation": ["--augmentation_level", "advanced"],
    "mixup": ["--use_mixup"],
    "no averaging": ["--no-use_ema"],
    "SWA": ["--use_swa"],
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
        *("--data_root", args.public_root, "--output_dir", results),
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
    """One line per row: mean and range of F4 over the seeds, and the difference from the defaults, seed by seed."""
    base = scores[scores["row"] == "defaults"].set_index("seed")["f4"]
    lines = [
        "| change | s per step | steps | seeds | F4 | F4 - defaults | held-out F4 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in [name for name in ROWS if name in set(scores["row"])]:
        runs = scores[scores["row"] == row].set_index("seed")
        gain = (runs["f4"] - base).dropna()
        spread = f" ({runs['f4'].min():.3f} to {runs['f4'].max():.3f})" if len(runs) > 1 else ""
        lines.append(
            f"| {row} | {runs['seconds_per_step'].mean():.2f} | {runs['steps'].mean():.0f} | {len(runs)} "
            f"| {runs['f4'].mean():.3f}{spread} | {gain.mean():+.3f} | {runs['validation_f4'].mean():.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(main)
