"""Inference beside MONAI's sliding window: the same network and tomogram, side by side, per view and for all views.

    python -m benchmarks.inference
    python -m benchmarks.inference --encoders deepfinder2 --views 8 --monai_views 1 --repeats 3
    python -m benchmarks.inference --device cuda --repeats 5

Ours is what eval_public_czi.py does at its defaults; MONAI's sliding_window_inference runs with windows of 128^3 and
overlap 0.5 (the published way), of 96^3 and 0.21 (as TopCUP), and tuned by hand: windows of 184 x 336 x 336, overlap
0.12, channels last. Views run in a loop. All z-score every window and start and end alike: a normalised tomogram in
host memory, probabilities on the device. Every measurement is a process of its own, the sides take turns, figures are
medians over the turns. Peak memory is the largest resident set of that process on a CPU, what torch allocated at the
most on a GPU. CPU seconds count the work of all threads, so that their ratio holds on a busy machine too. FLOP are
counted in the convolutions and matrix products that a side really ran; the peak is that of a large matrix product in
the same precision in the same run.
"""

from command_line import run_script

import argparse
import copy
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import monai.inferers
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

import config
from data.normalization import standardize
from errors import InputError
from inference.arguments import add_inference_arguments, inference_settings
from inference.checkpoints import load_checkpoint
from inference.device import DEVICES, choose_device
from inference.predictor import Predictor
from inference.settings import PRECISIONS
from models import ENCODERS, build_model
from particle_config import PARTICLES
from tta.orientations import ORIENTATIONS, apply
from tta.views import undo

ROOT = Path(__file__).parents[1]
OURS = "ours"


@dataclass(frozen=True)
class MonaiSettings:
    """Window in voxels Z Y X, the share of its sides that neighbours have in common, layout of the network."""

    window_zyx: tuple[int, int, int]
    overlap: float
    memory_format: torch.memory_format = torch.contiguous_format


MONAI_SIDES = {
    "MONAI 128^3, 0.5": MonaiSettings((128, 128, 128), 0.5),
    "MONAI 96^3, 0.21": MonaiSettings((96, 96, 96), 0.21),
    "MONAI tuned": MonaiSettings((184, 336, 336), 0.12, torch.channels_last_3d),
}
SIDES = (OURS, *MONAI_SIDES)
GROUPS = {1: "none", 8: "d2h"}  # number of views -> views
MATRIX_SIDES = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True)
class Measurement:
    """One tomogram through one side; ``views`` is how many of them really ran."""

    views: int
    seconds: float
    cpu_seconds: float
    flop: float
    gigabytes: float

    def times(self, factor: int) -> "Measurement":
        """As if the same were done that often, one after the other."""
        seconds, cpu_seconds, flop = (factor * value for value in (self.seconds, self.cpu_seconds, self.flop))
        return replace(self, seconds=seconds, cpu_seconds=cpu_seconds, flop=flop)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.inference",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--encoders",
        nargs="+",
        metavar="NAME",
        default=["deepfinder2", "resnet34"],
        help="U-Nets of random weights; a checkpoint's path in the place of a name takes that network",
    )
    parser.add_argument("--views", type=int, nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument(
        "--monai_views", type=int, choices=(1, 8), default=8, help="1: time one view and print 8 times that for all 8"
    )
    parser.add_argument("--shape", type=int, nargs=3, metavar=("D", "H", "W"), default=config.PHANTOM_SHAPE)
    parser.add_argument("--repeats", type=int, default=3, help="turns of each side")
    parser.add_argument("--precision", choices=PRECISIONS, default=config.INFERENCE_PRECISION)
    parser.add_argument("--monai_batch_size", type=int, help="windows per call (default: 1 on a CPU, 4 on a GPU)")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--compile", action="store_true", help="our side as CUDA graphs")
    parser.add_argument("--side", choices=SIDES, help="measure this one once in this process and print it as JSON")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    device = choose_device(args.device, args.precision)
    for encoder in args.encoders:
        if encoder not in ENCODERS and not Path(encoder).is_file():
            raise InputError(f"--encoders {encoder} is neither an encoder ({', '.join(ENCODERS)}) nor a checkpoint")
    if args.side is not None:
        print(json.dumps(asdict(measure(args, args.encoders[0], args.side, args.views[0], device))))
        return
    peak = matmul_peak(device, PRECISIONS[args.precision])
    shape = " x ".join(map(str, args.shape))
    print(f"{shape} voxels, {args.precision}, {device.type}; matrix product {peak / 1e12:.3g} TFLOP/s\n")
    print("| network | views | side | s | times ours | CPU s, times ours | Mvoxel/s | peak memory, GB ", end="")
    print("| TFLOP | TFLOP/s | of the peak |\n|---|---|---|---|---|---|---|---|---|---|---|")
    for encoder in args.encoders:
        for line in table_rows(encoder, take_turns(args, encoder), args.views, math.prod(args.shape), peak):
            print(line, flush=True)


def take_turns(args: argparse.Namespace, encoder: str) -> dict[tuple[str, int], list[Measurement]]:
    """(side, views) -> one measurement a turn, each in a process of its own."""
    wanted = [(side, views) for views in args.views for side in SIDES]
    ran = {(side, views): (side, views if side == OURS else min(views, args.monai_views)) for side, views in wanted}
    results: dict[tuple[str, int], list[Measurement]] = {key: [] for key in wanted}
    with tqdm(total=args.repeats * len(set(ran.values())), desc=encoder, leave=False, disable=None) as bar:
        for _ in range(args.repeats):
            turn = {}
            for key in dict.fromkeys(ran.values()):
                turn[key] = in_own_process(args, encoder, *key)
                bar.update()
            for side, views in wanted:
                result = turn[ran[side, views]]
                results[side, views].append(result.times(views // result.views))
    return results


def in_own_process(args: argparse.Namespace, encoder: str, side: str, views: int) -> Measurement:
    command = [sys.executable, "-m", "benchmarks.inference", "--side", side, "--encoders", encoder, "--views", views]
    command += ["--shape", *args.shape, "--precision", args.precision, "--device", args.device]
    if args.compile:
        command.append("--compile")
    if args.monai_batch_size is not None:
        command += ["--monai_batch_size", args.monai_batch_size]
    done = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{side}, {encoder}, {views} views failed:\n{done.stderr[-2000:]}")
    return Measurement(**json.loads(done.stdout.splitlines()[-1]))


def table_rows(
    encoder: str,
    results: dict[tuple[str, int], list[Measurement]],
    views: Sequence[int],
    voxels: int,
    peak: float,
) -> Iterator[str]:
    """One line a side: medians over the turns, the largest memory, ratios to ours turn by turn."""
    for number in views:
        for side in SIDES:
            turns, ours = results[side, number], results[OURS, number]
            shown = number if turns[0].views == number else f"{number} ({number} x one view)"
            seconds = statistics.median(turn.seconds for turn in turns)
            work = statistics.median(turn.flop for turn in turns)
            rate = statistics.median(turn.flop / turn.seconds for turn in turns)
            yield (
                f"| {Path(encoder).stem} | {shown} | {side} | {seconds:.3g} "
                f"| {ratio([t.seconds for t in turns], [t.seconds for t in ours])} "
                f"| {ratio([t.cpu_seconds for t in turns], [t.cpu_seconds for t in ours])} "
                f"| {voxels / seconds / 1e6:.3g} | {max(turn.gigabytes for turn in turns):.3g} "
                f"| {work / 1e12:.3g} | {rate / 1e12:.3g} | {100 * rate / peak:.3g} % |"
            )


def ratio(values: Sequence[float], ours: Sequence[float]) -> str:
    """Median of the ratios of each turn, and the lowest and highest."""
    ratios = [value / our for value, our in zip(values, ours, strict=True)]
    spread = f" ({min(ratios):.3g} to {max(ratios):.3g})" if min(ratios) < max(ratios) else ""
    return f"{statistics.median(ratios):.3g}{spread}"


# --- One measurement ----------------------------------------------------------------------------------
def measure(args: argparse.Namespace, encoder: str, side: str, views: int, device: torch.device) -> Measurement:
    """One tomogram, alone in this process; on a GPU another one before it, which warms up and does not count."""
    torch.manual_seed(0)
    network = make_network(encoder)
    volume = np.random.default_rng(0).standard_normal(args.shape, dtype=np.float32)
    with counted_calls(network) as calls:
        if side == OURS:
            predict = our_side(network, views, args)
            predict.plan_for(args.shape)  # once for all tomograms of a shape
        else:
            predict = monai_side(network, side, views, args, device)
        if device.type == "cuda":
            predict(volume)
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        calls.clear()
        start, cpu_start = time.perf_counter(), time.process_time()
        predict(volume)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    work = sum(number * flop(network, shape) for shape, number in calls.items())
    return Measurement(views, seconds, cpu_seconds, work, peak_memory_gb(device))


def make_network(encoder: str) -> nn.Module:
    if encoder in ENCODERS:
        return build_model(encoder, num_classes=len(PARTICLES) + 1).eval()
    return load_checkpoint(Path(encoder))[0]


def our_side(network: nn.Module, views: int, args: argparse.Namespace) -> Predictor:
    flags = ["--precision", args.precision, "--device", args.device, *["--compile"] * args.compile]
    return default_predictor(network, [*flags, *view_flags(GROUPS[views])])


def default_predictor(network: nn.Module, flags: Sequence[str]) -> Predictor:
    """What eval_public_czi.py builds from these flags, all others at their defaults."""
    parser = argparse.ArgumentParser()
    add_inference_arguments(parser)
    args = parser.parse_args(flags)
    trained = SimpleNamespace(
        patch_size_zyx=config.PATCH_SIZE, augmentation_mode=config.AUGMENTATION_MODE, tilt_axis=config.TILT_AXIS
    )
    return Predictor([network], inference_settings(args, [trained]), choose_device(args.device, args.precision))


def view_flags(group: str) -> list[str]:
    return ["--use_tta", "--tta_group", group] if group != "none" else []


def monai_window(settings: MonaiSettings, shape_zyx: Sequence[int], divisor: int) -> list[int]:
    """No wider than the tomogram, as ours, and of widths that the network can take."""
    widths = zip(settings.window_zyx, shape_zyx, strict=True)
    return [divisor * math.ceil(min(width, side) / divisor) for width, side in widths]


def monai_side(network: nn.Module, side: str, views: int, args: argparse.Namespace, device: torch.device):
    """(Z, Y, X) array -> (C, Z, Y, X) mean probability: the views one by one, each through MONAI's sliding window."""
    settings = MONAI_SIDES[side]
    network = network.to(device, memory_format=settings.memory_format)
    window = monai_window(settings, args.shape, network.divisor)
    batch_size = args.monai_batch_size or (4 if device.type == "cuda" else 1)
    dtype = PRECISIONS[args.precision]

    def probability(windows: Tensor) -> Tensor:
        return torch.softmax(network(standardize(windows)).float(), dim=1)

    @torch.inference_mode()
    def predict(array: np.ndarray) -> Tensor:
        volume, total = torch.as_tensor(array, device=device)[None, None], None
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            for view in ORIENTATIONS[GROUPS[views]]:
                answer = monai.inferers.sliding_window_inference(
                    apply(volume, view), window, batch_size, probability, overlap=settings.overlap, mode="gaussian"
                )
                turned_back = undo(answer[0], view)
                total = turned_back if total is None else total + turned_back
        return total / views

    return predict


@contextmanager
def counted_calls(network: nn.Module) -> Iterator[Counter[torch.Size]]:
    """How often the network, or a copy made of it meanwhile, is called with a batch of each shape."""
    calls: Counter[torch.Size] = Counter()
    hook = network.register_forward_pre_hook(lambda _, inputs: calls.update([inputs[0].shape]))
    try:
        yield calls
    finally:
        hook.remove()


def flop(network: nn.Module, shape: Sequence[int]) -> int:
    """Floating-point operations of one call, counted on tensors without data."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        copy.deepcopy(network).to("meta")(torch.empty(shape, device="meta"))
    return counter.get_total_flops()


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP per second of a large matrix product, the best of several tries."""
    side, number = MATRIX_SIDES[device.type], 10
    matrix = torch.randn(side, side, device=device).to(dtype)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        for _ in range(number):
            product = matrix @ matrix
        product[0, 0].item()  # waits for the device
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 * number / min(seconds)


def peak_memory_gb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    run_script(main)
