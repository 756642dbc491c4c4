"""Which epoch's weights are best on other tomograms, and which radius of the target spheres.

    python -m benchmarks.epoch_choice --data_root DATA --public_root PUBLIC --radius_fractions 0.3 0.4 0.5 --seeds 0 1 2
    python -m benchmarks.epoch_choice --table results/epoch_choice/scores.csv

DATA is a training tree, PUBLIC a tree in the portal's layout with prepared annotations
(prepare_fullpublic_eval_annotations.py). Seed s trains fold s, so that the seeds cover folds too. With the weights of
every epoch, and the hyperparameters that validation found for them, particles are found in all tomograms of PUBLIC,
without views; F4 is pooled over these tomograms. The first table compares rules that choose an epoch by the F4 on the
held-out tomogram, for all particles together and for each particle (specialists); the second one the radii. Finished
runs are kept in scores.csv and not repeated. Several commands of different seeds or radii may run side by side.
"""

from command_line import run_script

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

import config
import train
from data.czi import find_runs
from data.locks import locked
from data.picks import truth_table
from detection.proposals import DetectionSettings, propose, threshold_curves
from evaluation.truth import by_particle
from inference.checkpoints import load_checkpoint
from inference.predictor import Predictor
from inference.tomograms import SourceTomogram, TomogramSettings
from metrics.threshold_curve import ThresholdCurve, pooled
from particle_config import PARTICLES
from training.arguments import hardware, training_settings, volume_source
from training.module import SMOOTHED_VALIDATIONS
from training.run import train_fold

METHOD = "peak_local_max_gpu"
KEYS = ["radius_fraction", "seed"]


def highest(f4: np.ndarray) -> int:
    """The last of the epochs with the highest score."""
    return len(f4) - 1 - int(np.argmax(f4[::-1]))


def highest_mean(f4: np.ndarray) -> int:
    """As training does: by the mean over the last epochs, those before the first counting as 0."""
    return highest(np.convolve(f4, np.ones(SMOOTHED_VALIDATIONS))[: len(f4)])


RULES: dict[str, Callable[[np.ndarray], int]] = {
    "highest F4": highest,
    f"highest mean F4 over {SMOOTHED_VALIDATIONS} epochs": highest_mean,
    "last epoch": lambda f4: len(f4) - 1,
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.epoch_choice",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--data_root", type=Path, default=config.CZI_DATA_ROOT)
    parser.add_argument("--public_root", type=Path, default=config.CZI_PUBLIC_EVAL_DATA_ROOT)
    parser.add_argument("--output_dir", type=Path, default=config.OUTPUT_ROOT / "results" / "epoch_choice")
    parser.add_argument("--radius_fractions", type=float, nargs="+", default=[config.RADIUS_FRACTION])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--steps_per_epoch", type=int, default=50)
    parser.add_argument("--table", type=Path, help="only print the tables of this scores.csv")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    scores = args.table or args.output_dir / "scores.csv"
    if args.table is None:
        args.output_dir.mkdir(parents=True, exist_ok=True)
        for seed in args.seeds:
            for fraction in args.radius_fractions:
                done = pd.read_csv(scores) if scores.is_file() else pd.DataFrame(columns=KEYS)
                if not ((done["radius_fraction"] == fraction) & (done["seed"] == seed)).any():
                    rows = one_run(fraction, seed, args)
                    with locked(scores.with_suffix(".lock")):
                        rows.to_csv(scores, mode="a", header=not scores.is_file(), index=False)
    table = pd.read_csv(scores)
    print(f"{as_markdown(rule_table(table))}\n\n{as_markdown(radius_table(table))}")


def one_run(fraction: float, seed: int, args: argparse.Namespace) -> pd.DataFrame:
    """Train; a row for each epoch and particle: F4 held out, on the other tomograms, and at their best thresholds."""
    folder = args.output_dir / f"radius_{fraction:g}_seed_{seed}"
    words = ["--data_root", args.data_root, "--cache_dir", args.output_dir / "cache", "--radius_fraction", fraction]
    words += ["--seed", seed, "--epochs", args.epochs, "--steps_per_epoch", args.steps_per_epoch]
    flags = train.build_parser().parse_args([str(word) for word in words])
    source = volume_source(flags)
    fold = train.load_folds(source, train.read_labels(source))[seed]
    every_epoch = ModelCheckpoint(
        dirpath=folder / "epochs",
        filename="{epoch:03d}",
        save_top_k=-1,
        save_weights_only=True,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    train_fold(
        fold,
        source=source,
        particles=PARTICLES,
        settings=training_settings(flags),
        hardware=hardware(flags),
        experiment_dir=folder,
        callbacks=[every_epoch],
    )
    held_out = pd.read_csv(folder / f"fold_{seed}" / "metrics.csv")
    rows = []
    for epoch, path in enumerate(sorted((folder / "epochs").glob("*.ckpt"))):
        thresholds, curves = curves_of(path, args.public_root)
        rows += [
            {
                "radius_fraction": fraction,
                "seed": seed,
                "epoch": epoch,
                "particle": particle.name,
                "held_out": held_out[f"f4_{particle.name}"][epoch],
                "held_out_weighted": held_out["f4"][epoch],
                "f4": curves[particle.name].f_beta_at(thresholds[particle.name]),
                "best_f4": float(np.max(curves[particle.name].f_beta(), initial=0.0)),
            }
            for particle in PARTICLES
        ]
    return pd.DataFrame(rows)


def curves_of(checkpoint: Path, data_root: Path) -> tuple[dict[str, float], dict[str, ThresholdCurve]]:
    """Particle name -> threshold of the checkpoint, and particle name -> F4 at all thresholds on all tomograms."""
    network, trained = load_checkpoint(checkpoint)
    args = train.build_parser().parse_args([])
    predictor = Predictor([network], training_settings(args).inference, torch.device(hardware(args).device))
    values = trained.hyperparameters[METHOD]
    detection = DetectionSettings(trained.radius_fraction, METHOD, values)
    settings = TomogramSettings(trained.tomo_types[0], trained.norm_percentiles, trained.voxel_spacing_angstrom)
    found = []
    for run in find_runs(data_root, tomo_type=settings.tomo_type):
        source = SourceTomogram(run, settings)
        proposals = propose(
            predictor(source.voxels()[1]),
            detection,
            PARTICLES,
            run_name=run.name,
            voxel_spacing_angstrom=source.voxel_spacing_angstrom,
        )
        found.append(threshold_curves(proposals, values, by_particle(truth_table([run], PARTICLES))))
    curves = {particle.name: pooled([one[particle.name] for one in found]) for particle in PARTICLES}
    return {name: one["peak_threshold"] for name, one in values.items()}, curves


# --- Tables -------------------------------------------------------------------------------------------
def rule_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean over all runs of the weighted F4 at the epochs that each rule chooses."""
    rows = []
    for name, rule in RULES.items():
        chosen = [of_rule(run, rule) for _, run in scores.groupby(KEYS)]
        rows.append({"rule": name, "runs": len(chosen), **pd.DataFrame(chosen).mean().to_dict()})
    return pd.DataFrame(rows)


def of_rule(run: pd.DataFrame, rule: Callable[[np.ndarray], int]) -> dict[str, float]:
    """Weighted F4 of one run at the epoch chosen for all particles, and at those chosen for each particle."""
    f4, best, held_out = (run.pivot(index="epoch", columns="particle", values=v) for v in ("f4", "best_f4", "held_out"))
    epoch = rule(run.groupby("epoch")["held_out_weighted"].first().to_numpy())
    specialists = {name: f4[name].iloc[rule(held_out[name].to_numpy())] for name in f4}
    return {
        "generalist": weighted(f4.iloc[epoch]),
        "generalist, best thresholds": weighted(best.iloc[epoch]),
        "specialists": weighted(specialists),
    }


def radius_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Weighted F4 of the generalists that training keeps, mean and range over the seeds."""
    rows = []
    for fraction, of in scores.groupby("radius_fraction"):
        runs = pd.DataFrame([of_rule(run, highest_mean) for _, run in of.groupby("seed")])
        row = {"radius fraction": f"{fraction:g}", "seeds": len(runs)}
        for name in ("generalist", "generalist, best thresholds"):
            row[name] = f"{runs[name].mean():.3f} ({runs[name].min():.3f} to {runs[name].max():.3f})"
        rows.append(row)
    return pd.DataFrame(rows)


def weighted(f4: Mapping[str, float]) -> float:
    return sum(p.score_weight * f4[p.name] for p in PARTICLES) / sum(p.score_weight for p in PARTICLES)


def as_markdown(table: pd.DataFrame) -> str:
    cells = [
        [f"{value:.4f}" if isinstance(value, float) else str(value) for value in row] for row in table.to_numpy(object)
    ]
    lines = [list(table.columns), ["---"] * len(table.columns), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    run_script(main)
