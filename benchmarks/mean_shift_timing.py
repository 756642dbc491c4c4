"""Mean shift on a full-size probability map beside scikit-learn's with bin_seeding: time, and whether they agree.

    python -m benchmarks.mean_shift_timing
    python -m benchmarks.mean_shift_timing --target_radius 4.5 --device cuda

The map holds soft-edged noisy spheres, 180 at full size, a third of them touching another one. Both sides cluster the
voxels above --threshold; ours also scans the map for them, which scikit-learn gets for nothing. CPU seconds count the
work of all threads, so that their ratio holds on a busy machine too. Agreement is on clusters of at least the default
size: centres of scikit-learn with one of ours within a tenth of the bandwidth.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.spatial import KDTree
from sklearn.cluster import MeanShift
from torch import Tensor

import config
from errors import run_script
from inference.device import DEVICES, choose_device
from postprocessing.mean_shift import detect

PARTICLES_AT_FULL_SIZE = 180
TOUCHING_SHARE = 1 / 6  # of the particles that get a partner at their side
NOISE = 0.1

# One turn: the centres of the clusters above the smallest size.
Side = Callable[[], np.ndarray]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mean_shift_timing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--shape", type=int, nargs=3, metavar=("D", "H", "W"), default=config.PHANTOM_SHAPE)
    parser.add_argument("--target_radius", type=float, default=7.5, help="voxels; a ribosome's by default")
    parser.add_argument("--threshold", type=float, default=config.CONF_THRESHOLD)
    parser.add_argument("--repeats", type=int, default=3, help="turns of ours; scikit-learn gets one")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    device = choose_device(args.device, "fp32")
    probability = make_map(tuple(args.shape), args.target_radius)
    ours, others = mean_shift_sides(probability, device, args.target_radius, args.threshold)
    ours()  # warms up
    turns = [timed(ours) for _ in range(args.repeats)]
    centres, seconds, cpu_seconds = turns[0][0], *(statistics.median(turn[k] for turn in turns) for k in (1, 2))
    expected, other_seconds, other_cpu_seconds = timed(others)
    bandwidth = config.CLUSTER_RADIUS_FRACTION * args.target_radius
    agreed = (KDTree(centres).query(expected)[0] <= 0.1 * bandwidth).sum()
    print(f"target radius {args.target_radius} voxels, bandwidth {bandwidth:.3g}, ours on {device.type}")
    print(f"clusters: ours {len(centres)}, scikit-learn {len(expected)}, agreed {agreed}")
    print(f"seconds: ours {seconds:.3f}, scikit-learn {other_seconds:.2f}, ratio {other_seconds / seconds:.0f}")
    print(
        f"CPU seconds: ours {cpu_seconds:.3f}, scikit-learn {other_cpu_seconds:.2f}, "
        f"ratio {other_cpu_seconds / cpu_seconds:.0f}"
    )


def timed(side: Side) -> tuple[np.ndarray, float, float]:
    start, cpu_start = time.perf_counter(), time.process_time()
    return side(), time.perf_counter() - start, time.process_time() - cpu_start


def mean_shift_sides(
    probability: Tensor, device: torch.device, target_radius: float, threshold: float
) -> tuple[Side, Side]:
    """Ours from the map, and scikit-learn's from the list of the same voxels."""
    on_device = probability.to(device)
    voxels = (probability > threshold).nonzero().numpy()
    smallest = config.MIN_CLUSTER_VOL_FRAC * 4 / 3 * math.pi * target_radius**3

    def ours() -> np.ndarray:
        return detect(
            on_device,
            radius_voxels=2 * target_radius,
            trained_radius_voxels=target_radius,
            conf_threshold=threshold,
            cluster_radius_fraction=config.CLUSTER_RADIUS_FRACTION,
            min_cluster_vol_frac=config.MIN_CLUSTER_VOL_FRAC,
            nms_radius_fraction=0.0,
        ).coordinates_zyx

    def others() -> np.ndarray:
        found = MeanShift(bandwidth=config.CLUSTER_RADIUS_FRACTION * target_radius, bin_seeding=True).fit(voxels)
        sizes = np.bincount(found.labels_, minlength=len(found.cluster_centers_))
        return found.cluster_centers_[sizes >= smallest]

    return ours, others


def make_map(shape_zyx: tuple[int, int, int], radius: float) -> Tensor:
    """(Z, Y, X) float32 in 0..1: a logistic edge about each sphere, noise in and about it."""
    rng, reach = np.random.default_rng(0), math.ceil(1.6 * radius)
    wanted = max(2, round(PARTICLES_AT_FULL_SIZE * math.prod(shape_zyx) / math.prod(config.PHANTOM_SHAPE)))
    pairs = round(wanted * TOUCHING_SHARE)
    centres = rng.uniform(0, np.subtract(shape_zyx, 1), (wanted - pairs, 3))
    steps = rng.standard_normal((pairs, 3))
    partners = centres[:pairs] + 2 * radius * steps / np.linalg.norm(steps, axis=1, keepdims=True)
    probability = np.zeros(shape_zyx, dtype=np.float32)
    for centre in np.concatenate([centres, partners.clip(0, np.subtract(shape_zyx, 1))]):
        low = np.maximum(np.rint(centre).astype(int) - reach, 0)
        box = tuple(slice(a, a + 2 * reach + 1) for a in low)
        axes = (np.arange(side)[part] for side, part in zip(shape_zyx, box, strict=True))
        distance = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(np.ix_(*axes), centre, strict=True)))
        sphere = 1 / (1 + np.exp((distance - radius) / (0.15 * radius)))
        noisy = (sphere + NOISE * rng.standard_normal(sphere.shape)).clip(0, 1)
        probability[box] = np.maximum(probability[box], noisy)
    return torch.from_numpy(probability)


if __name__ == "__main__":
    run_script(main)
