"""What longer training brings: F4 against minutes of training, without and with views, several seeds.

    python -m benchmarks.training_time --data_root DATA --public_root DATA/10445 --minutes 10 60 180 --seeds 0 1 2
    python -m benchmarks.training_time --table results/training_time/scores.csv --picture docs/training_time.png

DATA is a training tree, public_root a tree in the portal's layout with prepared annotations
(prepare_fullpublic_eval_annotations.py). Every training has the whole machine and the defaults; finished ones are
in scores.csv and not repeated, so that longer ones can be added later. F4 is pooled, with the thresholds of the one
held-out training tomogram.
"""

from command_line import run_script

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

import config
from benchmarks.processes import run_beside_others
from data.files import atomic_path, path_argument
from data.number_ranges import SEED, NumberRange
from errors import InputError
from inference.device import DEVICES
from models import ENCODERS

ALL = "all tomograms"
VIEWS = {"one view": [], "views": ["--use_tta"]}
COLOURS = dict(zip(VIEWS, ("#0072b2", "#d55e00"), strict=True))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_time",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--data_root", type=path_argument, default=config.CZI_DATA_ROOT)
    parser.add_argument("--public_root", type=path_argument, default=config.CZI_PUBLIC_EVAL_DATA_ROOT)
    parser.add_argument("--output_dir", type=path_argument, default=config.OUTPUT_ROOT / "results" / "training_time")
    parser.add_argument("--minutes", type=NumberRange(0.1, 100_000), nargs="+", default=[10.0, 60.0, 180.0])
    parser.add_argument("--seeds", type=SEED, nargs="+", default=[0])
    parser.add_argument("--encoder_name", choices=ENCODERS, default=config.ENCODER_NAME)
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--table", type=path_argument, help="only print the table of this scores.csv")
    parser.add_argument("--picture", type=path_argument, help="draw it, too")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    table = args.table or args.output_dir / "scores.csv"
    if args.table is None:
        train_and_score(args, table)
    scores = pd.read_csv(table)
    print(as_markdown(scores))
    if args.picture is not None:
        save_picture(args.picture, scores)


def train_and_score(args: argparse.Namespace, table: Path) -> None:
    """Add the trainings that the table lacks, the shorter ones first."""
    if not any(args.public_root.glob("*/Picks")):
        raise InputError(f"{args.public_root} has no prepared picks; run prepare_fullpublic_eval_annotations.py on it")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    rows = pd.read_csv(table) if table.is_file() else pd.DataFrame(columns=["data", "encoder", "minutes", "seed"])
    data = f"{args.data_root.resolve()} {args.public_root.resolve()}"
    if not (rows["data"] == data).all():
        raise InputError(f"{table} is of other data; give another --output_dir")
    for minutes in sorted(set(args.minutes)):
        for seed in args.seeds:
            done = (rows["minutes"] == minutes) & (rows["seed"] == seed) & (rows["encoder"] == args.encoder_name)
            if not done.any():
                new = pd.DataFrame(one_training(minutes, seed, args)).assign(data=data)
                rows = pd.concat([rows, new], ignore_index=True)
                with atomic_path(table) as path:
                    rows.to_csv(path, index=False)


def one_training(minutes: float, seed: int, args: argparse.Namespace) -> list[dict]:
    """F4 of each tomogram, and of all, without and with views."""
    folder = args.output_dir / f"{args.encoder_name}_{minutes:g}_minutes_seed_{seed}"
    flags = ("--fold", 0, "--seed", seed, "--minutes", f"{minutes:g}", "--encoder_name", args.encoder_name)
    run_beside_others(
        *(1, "train.py", "--data_root", args.data_root, "--output_dir", folder, "--device", args.device, *flags),
        *("--cache_dir", args.output_dir / "cache"),
    )
    experiment = max(folder.iterdir())  # the newest, where one before it was stopped
    metrics = pd.read_csv(experiment / "fold_0" / "metrics.csv")
    training = {"minutes": minutes, "seed": seed, "encoder": args.encoder_name, "steps": int(metrics["step"].max())}
    rows = []
    for views, view_words in VIEWS.items():
        results = args.output_dir / "results" / folder.name / views.replace(" ", "_")
        run_beside_others(
            *(1, "eval_public_czi.py", "--model_path", experiment, "--data_root", args.public_root),
            *("--output_dir", results, "--force_rerun", "--device", args.device, *view_words),
        )
        report = json.loads((results / "scores.json").read_text())
        found = {name: run["weighted_f4"] for name, run in report["runs"].items()}
        found[ALL] = report["score"]["weighted_f4"]
        rows += [{**training, "views": views, "tomogram": name, "f4": round(f4, 4)} for name, f4 in found.items()]
    return rows


def as_markdown(scores: pd.DataFrame) -> str:
    """A line for each time: mean and range over the seeds, and the gain of views over seeds and single tomograms."""
    lines = [
        "| network | minutes | steps | seeds | F4, one view | F4, views | gain | gain of single tomograms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (encoder, minutes), rows in scores.groupby(["encoder", "minutes"]):
        all_of_them, single = with_gains(rows[rows["tomogram"] == ALL]), with_gains(rows[rows["tomogram"] != ALL])
        cells = [_with_range(all_of_them[views], "{:.3f}") for views in VIEWS]
        cells += [_with_range(part["gain"], "{:+.3f}") for part in (all_of_them, single)]
        steps = rows["steps"].mean()
        lines.append(f"| {encoder} | {minutes:g} | {steps:.0f} | {rows['seed'].nunique()} | {' | '.join(cells)} |")
    return "\n".join(lines)


def with_gains(rows: pd.DataFrame) -> pd.DataFrame:
    """F4 without and with views side by side, and the difference, for each seed and tomogram."""
    wide = rows.pivot(index=["minutes", "seed", "tomogram"], columns="views", values="f4").reset_index()
    return wide.assign(gain=wide["views"] - wide["one view"])


def _with_range(values: pd.Series, form: str) -> str:
    mean = form.format(values.mean())
    return f"{mean} ({form.format(values.min())} to {form.format(values.max())})" if len(values) > 1 else mean


def save_picture(path: Path, scores: pd.DataFrame) -> Path:
    figure, panel = plt.subplots(figsize=(6.0, 3.6), layout="constrained", dpi=200)
    draw(panel, with_gains(scores[scores["tomogram"] == ALL]))
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
    plt.close(figure)
    return path


def draw(panel: Axes, wide: pd.DataFrame) -> None:
    """Mean over the seeds, and each of them, against the logarithm of the time."""
    for views, colour in COLOURS.items():
        mean = wide.groupby("minutes")[views].mean()
        panel.plot(mean.index, mean, "-o", color=colour, label=views)
        panel.plot(wide["minutes"], wide[views], "o", color=colour, alpha=0.3, markersize=4)
    ticks = sorted(wide["minutes"].unique())
    panel.set_xscale("log")
    panel.set_xticks(ticks, [f"{minutes:g} min" if minutes < 60 else f"{minutes / 60:g} h" for minutes in ticks])
    panel.set_xticks([], minor=True)
    panel.set_xlabel("training time")
    panel.set_ylabel("F4 on other tomograms")
    panel.legend(frameon=False)
    panel.grid(axis="y", color="0.85", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    run_script(main)
