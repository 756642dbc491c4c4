"""Everything to be measured on a GPU, in one command: whether it computes what the CPU does, and how fast.

    python -m benchmarks.gpu --output gpu.json
    python -m benchmarks.gpu --shape 64 128 128 --minutes 2

Prints tables for BENCHMARKS.md and writes all figures as JSON after each part: what is measured stays when a later part
fails or time runs out. Parts: agreement of probabilities and picks with the CPU; inference with one and eight views,
with and without CUDA graphs, beside MONAI's sliding window; the four detection methods; training steps with the input
pipeline and without. Networks have random weights. What is timed runs once before, and figures are medians of
--repeats.
"""

from command_line import run_script

import argparse
import json
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

import config
from benchmarks import inference, input_pipeline, postprocessing
from data.augmentation import LEVELS
from data.files import atomic_path, path_argument
from data.number_ranges import COUNT, NumberRange
from inference.device import DEVICES, choose_device
from inference.settings import PRECISIONS
from postprocessing import METHODS
from versions import versions

# Voxels of what is compared with the CPU, which takes its time.
COMPARED_SHAPE = (48, 96, 96)
SMALL_NETWORKS = ("deepfinder2", "resnet18")
# A pick that lies nearer, in voxels, is the same one.
SAME_PICK = 0.5


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--device", choices=DEVICES, default="cuda")
    parser.add_argument("--encoders", nargs="+", default=["deepfinder2", "resnet34"])
    parser.add_argument("--shape", type=int, nargs=3, metavar=("D", "H", "W"), default=config.PHANTOM_SHAPE)
    parser.add_argument("--patch_size", type=int, nargs=3, metavar=("D", "H", "W"), default=(128, 128, 128))
    parser.add_argument("--batch_size", type=int, default=4, help="patches a training step")
    parser.add_argument("--num_workers", type=int, default=8, help="processes that cut patches")
    parser.add_argument("--steps", type=COUNT, default=30, help="training steps timed at a time")
    parser.add_argument("--repeats", type=COUNT, default=3, help="of what is timed")
    parser.add_argument("--minutes", type=NumberRange(0.1, 600), default=8.0, help="no part is begun later")
    parser.add_argument("--output", type=path_argument, default=Path("gpu.json"), help="of all figures")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    device = choose_device(args.device, "fp32")
    end = time.monotonic() + 60 * args.minutes
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    results: dict[str, Any] = {"device": name, "versions": versions(), "shape": list(args.shape)}
    print(f"{name}, torch {torch.__version__}\n", flush=True)
    for part, measure in PARTS.items():
        rows = results[part] = []
        try:
            for row in measure(args, device):
                rows.append(row)
                if time.monotonic() > end:
                    rows.append({"unfinished": "time ran out"})
                    break
        except Exception as error:  # the other parts may do better, and the machine is lent for a while
            traceback.print_exc()
            rows.append({"failed": f"{type(error).__name__}: {error}"[:300]})
        _write(args.output, results)
        print(_table(part, rows), flush=True)
    if failed := [part for part in PARTS if any("failed" in row for row in results[part])]:
        raise SystemExit(f"failed: {', '.join(failed)}")


def _write(path: Path, results: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _table(part: str, rows: list[dict]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(_cell(row.get(column, "")) for column in columns) for row in rows]
    return "\n".join([f"### {part}\n", *(f"| {line} |" for line in lines), ""])


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


# --- Agreement with the CPU ---------------------------------------------------------------------------
def probabilities(args: argparse.Namespace, device: torch.device) -> Iterator[dict]:
    """The largest difference of a probability from that of the CPU in fp32."""
    volume = np.random.default_rng(0).standard_normal(COMPARED_SHAPE, dtype=np.float32)
    for encoder, group in product(SMALL_NETWORKS, ("none", "d2h")):
        torch.manual_seed(0)
        network = inference.make_network(encoder)
        views = inference.view_flags(group)
        flags = ["--inference_window", *map(str, COMPARED_SHAPE), *views]
        expected = inference.default_predictor(network, [*flags, "--device", "cpu", "--precision", "fp32"])(volume)
        for precision in PRECISIONS if device.type == "cuda" else ("fp32",):
            there = ["--device", device.type, "--precision", precision]
            found = inference.default_predictor(network, [*flags, *there])(volume)
            difference = (found.probability.cpu() - expected.probability).abs().max()
            yield {"network": encoder, "views": group, "precision": precision, "difference": float(difference)}


def picks(args: argparse.Namespace, device: torch.device) -> Iterator[dict]:
    """Of the same map: how many the CPU finds, and how many of them the device finds in the same place."""
    centres = postprocessing.particle_centres(COMPARED_SHAPE)
    probability = postprocessing.make_map(COMPARED_SHAPE, centres)
    for method in METHODS:
        on_cpu, here = (postprocessing.SIDES[method](probability, one)[0]() for one in (torch.device("cpu"), device))
        distances = np.linalg.norm(on_cpu[:, None] - here[None], axis=-1)
        same = int((distances.min(axis=1, initial=np.inf) < SAME_PICK).sum())
        yield {"method": method, "on the CPU": len(on_cpu), "on the device": len(here), "the same": same}


# --- Speed --------------------------------------------------------------------------------------------
def inference_times(args: argparse.Namespace, device: torch.device) -> Iterator[dict]:
    graphs = (False, True) if device.type == "cuda" else (False,)
    for encoder, views in product(args.encoders, inference.GROUPS):
        sides = [(inference.OURS, with_graphs) for with_graphs in graphs]
        # One view of MONAI's is enough: it takes them one after the other.
        sides += [(side, False) for side in inference.MONAI_SIDES] if views == 1 else []
        for side, with_graphs in sides:
            words = ["--shape", *map(str, args.shape), "--device", device.type, "--precision", "bf16"]
            flags = inference.build_parser().parse_args([*words, *["--compile"] * with_graphs])
            turns = [inference.measure(flags, encoder, side, views, device) for _ in range(args.repeats)]
            seconds = [turn.seconds for turn in turns]
            yield {
                **{"network": encoder, "views": views, "side": side + " as CUDA graphs" * with_graphs},
                **{"seconds": statistics.median(seconds), "lowest": min(seconds), "highest": max(seconds)},
                "peak memory, GB": max(turn.gigabytes for turn in turns),
                "TFLOP/s": statistics.median(turn.flop / turn.seconds for turn in turns) / 1e12,
            }


def detection_times(args: argparse.Namespace, device: torch.device) -> Iterator[dict]:
    shape = tuple(args.shape)
    probability = postprocessing.make_map(shape, postprocessing.particle_centres(shape))
    for method, sides in postprocessing.SIDES.items():
        [ours] = postprocessing.take_turns(sides(probability, device)[:1], args.repeats)
        yield {"method": method, **{key: value for key, value in asdict(ours).items() if key != "result"}}


def training_times(args: argparse.Namespace, device: torch.device) -> Iterator[dict]:
    volume = input_pipeline.make_volume()
    step = input_pipeline.make_step(device)
    workers = args.num_workers if device.type == "cuda" else 0
    for level in LEVELS[1:]:
        batches = input_pipeline.our_batches(
            volume, level, device, workers, patch_size_zyx=tuple(args.patch_size), batch_size=args.batch_size
        )
        fixed = next(iter(batches(1)))
        with_pipeline = [input_pipeline.rate(batches(args.steps + 1), step) for _ in range(args.repeats)]
        without = [input_pipeline.rate([fixed] * (args.steps + 1), step) for _ in range(args.repeats)]
        yield {
            **{"augmentation": level, "patches a step": args.batch_size},
            "steps a second": statistics.median(with_pipeline),
            "without the pipeline": statistics.median(without),
            "peak memory, GB": inference.peak_memory_gb(device),
        }


PARTS: dict[str, Callable[[argparse.Namespace, torch.device], Iterator[dict]]] = {
    "probabilities": probabilities,
    "picks": picks,
    "inference": inference_times,
    "detection": detection_times,
    "training": training_times,
}


if __name__ == "__main__":
    run_script(main)
