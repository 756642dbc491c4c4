"""The training input: patches per second beside MONAI's transforms, and what it costs a training step.

    python -m benchmarks.input_pipeline
    python -m benchmarks.input_pipeline --device cuda --num_workers 8 --batch_size 4 --batches 50 --steps 50

Both sides cut patches around particles of the same volume in memory, flip them, turn them about z, rotate and scale
three of ten, and z-score them; at level advanced they change gamma, add noise and shift mean and deviation with equal
chances. Ours works on --device (on a GPU --num_workers processes cut the patches, on a CPU none); MONAI's dictionary
transforms work sample by sample on the CPU in --num_workers processes, with everything it can compute beforehand.
The two take turns; the clock of each turn starts when its first batch is there. Figures are medians over the turns.
"""

from command_line import run_script

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count

import monai.data
import monai.transforms as mt
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import config
from data.augmentation import (
    GAMMA_RANGE,
    INTENSITY_PROBABILITY,
    MAX_NOISE,
    MAX_SHIFT,
    MAX_SPREAD,
    augment,
    shift_statistics,
)
from data.masks import paint_spheres, pool_labels
from data.normalization import standardize
from data.patches import PatchBatches, check_patch_fits
from data.spatial_transforms import AFFINE_PROBABILITY, MAX_ROTATION_DEGREES, MAX_SCALE
from data.training_volume import TrainingVolume
from inference.device import DEVICES, choose_device
from losses import build_loss, term_weights
from models import build_model
from particle_config import PARTICLES

LEVELS = ("base", "advanced")
VOLUME_SHAPE = (184, 320, 320)  # voxels; as thick as a CZI tomogram
PARTICLES_PER_TYPE = 20
RADIUS_VOXELS = 5.0

Batch = tuple[Tensor, Tensor]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.input_pipeline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--patch_size", type=int, nargs=3, metavar=("D", "H", "W"), default=(128, 128, 128))
    parser.add_argument("--batch_size", type=int, default=2, help="patches per batch")
    parser.add_argument("--batches", type=int, default=8, help="timed per turn")
    parser.add_argument("--steps", type=int, default=2, help="training steps timed per turn; 0 leaves them out")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each side")
    parser.add_argument("--num_workers", type=int, default=2, help="processes of MONAI's loader")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    device = choose_device(args.device, "bf16")
    volume = make_volume()
    check_patch_fits([volume], args.patch_size)
    shape = {"patch_size_zyx": tuple(args.patch_size), "batch_size": args.batch_size}
    workers = args.num_workers if device.type == "cuda" else 0
    print("| level | ours, patches/s | MONAI, patches/s | ratio (lowest to highest) |\n|---|---|---|---|")
    for level in LEVELS:
        ours = our_batches(volume, level, device, workers, **shape)
        monais = monai_batches(volume, level, args.num_workers, **shape)
        sides = (lambda ours=ours: rate(ours(args.batches + 1)), lambda monais=monais: rate(monais(args.batches + 1)))
        report(level, *turns(args.repeats, *sides), scale=args.batch_size)
    if args.steps == 0:
        return
    step = make_step(device)
    print("\n| level | with the pipeline, steps/s | one fixed batch, steps/s | share (lowest to highest) |")
    print("|---|---|---|---|")
    for level in LEVELS:
        ours = our_batches(volume, level, device, workers, **shape)
        fixed = next(iter(ours(1)))
        sides = (
            lambda ours=ours: rate(ours(args.steps + 1), step),
            lambda fixed=fixed: rate([fixed] * (args.steps + 1), step),
        )
        report(level, *turns(args.repeats, *sides), scale=1)


# --- Measuring ----------------------------------------------------------------------------------------
def rate(batches: Iterable[Batch], step: Callable[[Batch], object] = lambda batch: None) -> float:
    """Batches per second, from the end of the first to the end of the last."""
    start, number = 0.0, 0
    for number, batch in enumerate(batches):
        step(batch)
        if number == 0:
            wait(batch)
            start = time.perf_counter()
    wait(batch)
    return number / (time.perf_counter() - start)


def wait(batch: Batch) -> None:
    if batch[0].is_cuda:
        torch.cuda.synchronize(batch[0].device)


def turns(repeats: int, first: Callable[[], float], second: Callable[[], float]) -> tuple[list[float], list[float]]:
    """Both sides in turn; the first pair warms up and does not count."""
    pairs = [(first(), second()) for _ in range(repeats + 1)][1:]
    return [a for a, _ in pairs], [b for _, b in pairs]


def report(level: str, ours: list[float], theirs: list[float], scale: int) -> None:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    rates = " | ".join(f"{scale * statistics.median(values):.2f}" for values in (ours, theirs))
    print(
        f"| {level} | {rates} | {statistics.median(ratios):.3g} ({min(ratios):.3g} to {max(ratios):.3g}) |", flush=True
    )


# --- The two sides ------------------------------------------------------------------------------------
def make_volume() -> TrainingVolume:
    """Noise, with spheres of every label where it is darker."""
    rng = np.random.default_rng(0)
    centres = {p.label: rng.uniform(0, VOLUME_SHAPE, (PARTICLES_PER_TYPE, 3)) for p in PARTICLES}
    mask = paint_spheres(VOLUME_SHAPE, centres, dict.fromkeys(centres, RADIUS_VOXELS))
    image = rng.standard_normal(VOLUME_SHAPE, dtype=np.float32) - (mask > 0)
    return TrainingVolume("random", (image,), mask, centres, 10.0)


def our_batches(
    volume: TrainingVolume, level: str, device: torch.device, num_workers: int, **shape
) -> Callable[[int], Iterator[Batch]]:
    """n -> n batches as a training run sees them; never the same twice."""
    patches = PatchBatches([volume], background_fraction=config.BACKGROUND_FRACTION, seed=0, **shape)
    start = count(0, 1000)

    def batches(number: int) -> Iterator[Batch]:
        first = next(start)
        loader = DataLoader(
            patches,
            sampler=range(first, first + number),
            batch_size=None,
            num_workers=num_workers,
            pin_memory=device.type == "cuda",
        )
        for batch in loader:
            generator = torch.Generator().manual_seed(batch["index"])
            image, label = (batch[key].to(device, non_blocking=True) for key in ("image", "label"))
            image, label = augment(image, label, level=level, mode="anisotropic", generator=generator)
            yield shift_statistics(standardize(image), level=level, generator=generator), label

    return batches


def monai_batches(
    volume: TrainingVolume, level: str, num_workers: int, *, patch_size_zyx: tuple[int, int, int], batch_size: int
) -> Callable[[int], Iterator[Batch]]:
    """The same by MONAI: one volume gives the patches of one batch."""
    monai.data.set_track_meta(False)  # plain tensors are faster
    rng = np.random.default_rng(0)
    sample = {
        "image": torch.from_numpy(volume.images[0])[None],
        "label": torch.from_numpy(volume.mask)[None],
        # Few of each: they are copied for every patch.
        "foreground": rng.choice(np.flatnonzero(volume.mask), 1000),
        "background": rng.choice(volume.mask.size, 1000),
    }
    crop = mt.RandCropByPosNegLabeld(
        ("image", "label"),
        label_key="label",
        spatial_size=patch_size_zyx,
        pos=1 - config.BACKGROUND_FRACTION,
        neg=config.BACKGROUND_FRACTION,
        num_samples=batch_size,
        fg_indices_key="foreground",
        bg_indices_key="background",
    )
    transform = mt.Compose(
        [crop, mt.DeleteItemsd(("foreground", "background")), *monai_transforms(level, patch_size_zyx)]
    )

    def batches(number: int) -> Iterator[Batch]:
        dataset = monai.data.Dataset([sample] * number, transform)
        for batch in monai.data.DataLoader(dataset, batch_size=1, num_workers=num_workers):
            yield batch["image"], batch["label"]

    return batches


def monai_transforms(level: str, patch_size_zyx: tuple[int, int, int]) -> list[mt.Transform]:
    """What augment, standardize and shift_statistics do, with the same probabilities."""
    keys, chance = ("image", "label"), INTENSITY_PROBABILITY
    moves = [
        # One flip in the plane and four turns give all eight moves of the square alike.
        mt.RandFlipd(keys, prob=0.5, spatial_axis=0),
        mt.RandFlipd(keys, prob=0.5, spatial_axis=1),
        mt.RandRotate90d(keys, prob=0.75, max_k=3, spatial_axes=(1, 2)),
        mt.RandAffined(
            keys,
            spatial_size=patch_size_zyx,
            prob=AFFINE_PROBABILITY,
            rotate_range=(np.deg2rad(MAX_ROTATION_DEGREES), 0.0, 0.0),
            scale_range=(MAX_SCALE,) * 3,
            mode=("bilinear", "nearest"),
            padding_mode="reflection",
            cache_grid=True,
        ),
    ]
    if level == "base":
        return [*moves, mt.NormalizeIntensityd("image")]
    return [
        *moves,
        mt.RandAdjustContrastd("image", prob=chance, gamma=GAMMA_RANGE),
        mt.RandGaussianNoised("image", prob=chance, std=MAX_NOISE, sample_std=True),
        mt.NormalizeIntensityd("image"),
        mt.RandScaleIntensityd("image", factors=MAX_SPREAD, prob=chance),
        mt.RandShiftIntensityd("image", offsets=MAX_SHIFT, prob=chance),
    ]


def make_step(device: torch.device) -> Callable[[Batch], None]:
    """One optimizer step of the default network and loss in bf16."""
    torch.manual_seed(0)
    network = build_model(config.ENCODER_NAME, num_classes=len(PARTICLES) + 1, output_stride=config.OUTPUT_STRIDE)
    network = network.to(device, memory_format=torch.channels_last_3d)
    loss = build_loss(config.LOSS_TYPE, (1.0, *(particle.loss_weight for particle in PARTICLES))).to(device)
    weights = term_weights(config.LOSS_TYPE)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.LEARNING_RATE)

    def step(batch: Batch) -> None:
        image, label = batch
        with torch.autocast(device.type, torch.bfloat16):
            terms = loss(network(image), pool_labels(label, network.output_stride))
        sum(weights.get(name, 1.0) * term for name, term in terms.items()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    run_script(main)
