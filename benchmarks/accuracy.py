"""Accuracy of one fold: masks, annotations, training, evaluation with and without views, each timed.

    python -m benchmarks.accuracy --data_root DATA --public_root DATA/public
    python -m benchmarks.accuracy --data_root DATA --public_root DATA/public --seeds 0 1 2 --epochs 10

DATA is a training tree, public_root a tree in the portal's layout; both stay as they are, everything is written below
--output_dir. Thresholds come from the held-out training tomogram.
"""

from command_line import run_script

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import config

ROOT = Path(__file__).parents[1]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--data_root", type=Path, default=config.CZI_DATA_ROOT)
    parser.add_argument("--public_root", type=Path, default=config.CZI_PUBLIC_EVAL_DATA_ROOT)
    parser.add_argument("--output_dir", type=Path, default=config.OUTPUT_ROOT / "results" / "accuracy")
    parser.add_argument("--epochs", type=int, default=config.EPOCHS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[config.SEED])
    parser.add_argument("--fold", type=int, default=0)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    out = args.output_dir.resolve()
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(args.public_root, out / "public", copy_function=shutil.copyfile)
    masks = out / "masks"
    timed("prepare_mask_czi.py", "--data_root", args.data_root.resolve(), "--output_dir", masks)
    timed("prepare_fullpublic_eval_annotations.py", "--data_dir", out / "public")
    print("| seed | training s | views | pooled F4 | mean over tomograms | evaluation s |\n|---|---|---|---|---|---|")
    for seed in args.seeds:
        experiments = out / f"seed_{seed}"
        training = timed(
            *("train.py", "--data_root", args.data_root.resolve(), "--mask_dir", masks),
            *("--output_dir", experiments, "--fold", args.fold, "--epochs", args.epochs, "--seed", seed),
        )
        for flags in ((), ("--use_tta",)):
            results = experiments / f"results{'_tta' * bool(flags)}"
            evaluation = timed(
                *("eval_public_czi.py", "--model_path", next(experiments.glob("*_*")), *flags),
                *("--data_root", out / "public", "--output_dir", results),
            )
            score = json.loads((results / "scores.json").read_text())["score"]
            print(
                f"| {seed} | {training:.0f} | {'default group' if flags else 'none'} | {score['weighted_f4']:.4f} "
                f"| {score['mean_over_runs_f4']:.4f} | {evaluation:.0f} |",
                flush=True,
            )


def timed(*command) -> float:
    """Run one of the scripts; seconds."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    run_script(main)
