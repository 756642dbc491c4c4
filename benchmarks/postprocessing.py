"""Detection on a full-size probability map, side by side with what people use: time, and what is found.

    python -m benchmarks.postprocessing
    python -m benchmarks.postprocessing --methods watershed --shape 92 315 315 --repeats 3
    python -m benchmarks.postprocessing --device cuda

The map holds spheres of a ribosome's target (7.5 voxels) with soft edges and noise, about 180 at full size; a third of
them touch another one. The two sides take turns in one process; figures are medians over the turns. Ours works on
--device, where the map already is; the others work on the CPU. CPU seconds count the work of all threads, so that
their ratio holds on a busy machine too.
"""

from command_line import run_script

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
import torch
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.segmentation import watershed as skimage_watershed
from sklearn.cluster import MeanShift
from torch import Tensor

import config
from inference.device import DEVICES, choose_device
from particle_config import Particle
from postprocessing import detect
from postprocessing.peak_local_max import SMOOTHING_FRACTION

RADIUS_VOXELS = 15.0
TRAINED_RADIUS_VOXELS = 7.5
PARTICLES_AT_FULL_SIZE = 180
TOUCHING_SHARE = 1 / 6  # of the particles that get a partner placed at their side
EDGE_VOXELS = 0.8
NOISE = 0.05

# One turn: the coordinates of what is found.
Side = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Measured:
    """What a side gave last, and the medians over its turns."""

    result: Any
    seconds: float
    cpu_seconds: float


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.postprocessing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--shape", type=int, nargs=3, metavar=("D", "H", "W"), default=config.PHANTOM_SHAPE)
    parser.add_argument("--repeats", type=int, default=3, help="turns of each side")
    parser.add_argument("--methods", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--device", choices=DEVICES, default="auto")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    device = choose_device(args.device, "fp32")
    centres = particle_centres(tuple(args.shape))
    probability = make_map(tuple(args.shape), centres)
    print(f"{len(centres)} particles in {' x '.join(map(str, args.shape))} voxels; ours on {device.type}\n")
    print("| method | found | by the others | ours, s | others, s | ratio | ours, CPU s | others, CPU s | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in args.methods:
        report(name, *take_turns(SIDES[name](probability, device), args.repeats))


# --- Measuring ----------------------------------------------------------------------------------------
def take_turns(sides: Sequence[Callable], repeats: int) -> list[Measured]:
    """Every side in turn, ``repeats`` times; a turn before them warms up and does not count."""
    results, seconds, cpu_seconds = [None] * len(sides), [[] for _ in sides], [[] for _ in sides]
    for turn in range(repeats + 1):
        for number, side in enumerate(sides):
            start, cpu_start = time.perf_counter(), time.process_time()
            results[number] = side()
            if turn:
                seconds[number].append(time.perf_counter() - start)
                cpu_seconds[number].append(time.process_time() - cpu_start)
    medians = (list(map(statistics.median, times)) for times in (seconds, cpu_seconds))
    return [Measured(*one) for one in zip(results, *medians, strict=True)]


def report(name: str, ours: Measured, others: Measured) -> None:
    pairs = ((ours.seconds, others.seconds), (ours.cpu_seconds, others.cpu_seconds))
    times = [f"{a:.3g} | {b:.3g} | {b / a:.3g}" for a, b in pairs]
    print(f"| {name} | {len(ours.result)} | {len(others.result)} | {' | '.join(times)} |", flush=True)


# --- The map ------------------------------------------------------------------------------------------
def particle_centres(shape_zyx: tuple[int, int, int]) -> np.ndarray:
    """(N, 3) anywhere in the volume; N goes with its size."""
    rng = np.random.default_rng(0)
    wanted = max(2, round(PARTICLES_AT_FULL_SIZE * np.prod(shape_zyx) / np.prod(config.PHANTOM_SHAPE)))
    pairs = round(wanted * TOUCHING_SHARE)
    centres = rng.uniform(0, np.subtract(shape_zyx, 1), (wanted - pairs, 3))
    directions = rng.standard_normal((pairs, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    partners = centres[:pairs] + directions * 2 * TRAINED_RADIUS_VOXELS * 0.95
    return np.concatenate([centres, partners.clip(0, np.subtract(shape_zyx, 1))])


def make_map(shape_zyx: tuple[int, int, int], centres_zyx: np.ndarray) -> Tensor:
    """(Z, Y, X) float32 in 0..1: a logistic edge about each sphere, noise in and about it."""
    rng, reach = np.random.default_rng(1), int(TRAINED_RADIUS_VOXELS + 10 * EDGE_VOXELS)
    probability = np.zeros(shape_zyx, dtype=np.float32)
    for centre in centres_zyx:
        low = np.maximum(np.rint(centre).astype(int) - reach, 0)
        box = tuple(slice(a, a + 2 * reach + 1) for a in low)
        z, y, x = (np.arange(side)[part] for side, part in zip(shape_zyx, box, strict=True))
        distance = np.sqrt(sum((g - c) ** 2 for g, c in zip(np.ix_(z, y, x), centre, strict=True)))
        sphere = 1 / (1 + np.exp((distance - TRAINED_RADIUS_VOXELS) / EDGE_VOXELS))
        noisy = (sphere + NOISE * rng.standard_normal(sphere.shape)).clip(0, 1)
        probability[box] = np.maximum(probability[box], noisy)
    return torch.from_numpy(probability)


# --- The two sides of each method ---------------------------------------------------------------------
def find(probability: Tensor, method: str, **hyperparameters: float) -> np.ndarray:
    """Ours: what eval_public_czi.py calls, for a single class."""
    particle = Particle("sphere", RADIUS_VOXELS, 1.0, 0, "#000000")
    found = detect(
        probability[None],
        method=method,
        particles=[particle],
        voxel_spacing_angstrom=1.0,
        trained_radius_fraction=TRAINED_RADIUS_VOXELS / RADIUS_VOXELS,
        hyperparameters={particle.name: hyperparameters},
    )
    return found[particle.name].coordinates_zyx


def peak_sides(probability: Tensor, device: torch.device) -> tuple[Side, Side]:
    """Both smooth the same way and take the maxima of the same cubes; ours refines them and counts voxels as well."""
    on_device = probability.to(device)
    options = {"min_distance": int(TRAINED_RADIUS_VOXELS / 3**0.5), "threshold_abs": config.PLM_GPU_PEAK_THRESH}

    def ours() -> np.ndarray:
        return find(on_device, "peak_local_max_gpu", peak_threshold=config.PLM_GPU_PEAK_THRESH, nms_radius_fraction=0.0)

    def others() -> np.ndarray:
        sigma = SMOOTHING_FRACTION * TRAINED_RADIUS_VOXELS
        smoothed = ndimage.gaussian_filter(probability.numpy(), sigma, mode="constant", truncate=3.0)
        return peak_local_max(smoothed, exclude_border=False, **options)

    return ours, others


def component_sides(probability: Tensor, device: torch.device) -> tuple[Side, Side]:
    """Ours, and cc3d with its own statistics, which know nothing of the probability."""
    on_device = probability.to(device)
    smallest = config.VOL_FRAC_THRESHOLD * 4 / 3 * np.pi * TRAINED_RADIUS_VOXELS**3

    def ours() -> np.ndarray:
        return find(
            on_device,
            "cc3d",
            conf_threshold=config.CONF_THRESHOLD,
            vol_frac_threshold=config.VOL_FRAC_THRESHOLD,
            nms_radius_fraction=0.0,
        )

    def others() -> np.ndarray:
        labels = cc3d.connected_components(probability.numpy() > config.CONF_THRESHOLD, connectivity=26)
        found = cc3d.statistics(labels)
        return found["centroids"][1:][found["voxel_counts"][1:] >= smallest]

    return ours, others


def watershed_sides(probability: Tensor, device: torch.device) -> tuple[Side, Side]:
    """Both are scipy's distance transform and scikit-image's peaks and watershed; ours component by component."""
    on_device = probability.to(device)
    distance_voxels = 2 * config.WS_CLUSTER_RADIUS_FRACTION * TRAINED_RADIUS_VOXELS
    smallest = config.VOL_FRAC_THRESHOLD * 4 / 3 * np.pi * TRAINED_RADIUS_VOXELS**3

    def ours() -> np.ndarray:
        return find(
            on_device,
            "watershed",
            conf_threshold=config.CONF_THRESHOLD,
            vol_frac_threshold=config.VOL_FRAC_THRESHOLD,
            cluster_radius_fraction=config.WS_CLUSTER_RADIUS_FRACTION,
            nms_radius_fraction=0.0,
        )

    def others() -> np.ndarray:
        mask = probability.numpy() > config.CONF_THRESHOLD
        depth = ndimage.distance_transform_edt(mask)
        peaks = peak_local_max(depth, min_distance=round(distance_voxels), threshold_abs=0.5, exclude_border=False)
        markers = np.zeros(mask.shape, dtype=np.int32)
        markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
        parts = skimage_watershed(-depth, markers, mask=mask, connectivity=np.ones((3, 3, 3)))
        numbers, voxels = parts[mask], np.argwhere(mask)
        sizes = np.bincount(numbers)
        sums = np.stack([np.bincount(numbers, weights=axis) for axis in voxels.T], axis=1)
        kept = (sizes > 0) & (sizes >= smallest)
        return sums[kept] / sizes[kept, None]

    return ours, others


def mean_shift_sides(probability: Tensor, device: torch.device) -> tuple[Side, Side]:
    """Ours, and scikit-learn's with bin seeding in every connected component."""
    on_device = probability.to(device)
    bandwidth = config.MS_CLUSTER_RADIUS_FRACTION * TRAINED_RADIUS_VOXELS
    smallest = config.MIN_CLUSTER_VOL_FRAC * 4 / 3 * np.pi * TRAINED_RADIUS_VOXELS**3

    def ours() -> np.ndarray:
        return find(
            on_device,
            "meanshift",
            conf_threshold=config.CONF_THRESHOLD,
            cluster_radius_fraction=config.MS_CLUSTER_RADIUS_FRACTION,
            min_cluster_vol_frac=config.MIN_CLUSTER_VOL_FRAC,
            nms_radius_fraction=0.0,
        )

    def others() -> np.ndarray:
        labels = cc3d.connected_components(probability.numpy() > config.CONF_THRESHOLD, connectivity=26)
        kept = []
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            voxels = np.argwhere(labels[box] == number) + [side.start for side in box]
            found = MeanShift(bandwidth=bandwidth, bin_seeding=True).fit(voxels)
            sizes = np.bincount(found.labels_, minlength=len(found.cluster_centers_))
            kept.append(found.cluster_centers_[sizes >= smallest])
        return np.concatenate(kept)

    return ours, others


SIDES: dict[str, Callable[[Tensor, torch.device], tuple[Side, Side]]] = {
    "peak_local_max_gpu": peak_sides,
    "cc3d": component_sides,
    "watershed": watershed_sides,
    "meanshift": mean_shift_sides,
}


if __name__ == "__main__":
    run_script(main)
