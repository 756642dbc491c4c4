"""Sizes of patches and batches where none are given: what the tomograms and the device have room for."""

from collections.abc import Collection, Iterator, Sequence

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from inference.memory import ALLOWANCE, FIXED_BYTES, LiveBytes
from losses import build_loss
from models import ENCODERS, build_model, nearest_patch_size
from training.settings import TrainingSettings

# AdamW keeps two numbers for each weight.
OPTIMIZER_BYTES = 8
# Shares of the default patch's sides that are tried one after the other.
SHARES = (1, 3 / 4, 1 / 2, 3 / 8, 1 / 4)
# Of a GPU's memory; validation and other programs have the rest.
MEMORY_SHARE = 0.8


def fitting_sizes(
    settings: TrainingSettings,
    shapes_zyx: Collection[Sequence[int]],
    *,
    memory_bytes: int | None,
    patch_given: bool,
    batch_given: bool,
) -> tuple[tuple[int, int, int], int]:
    """The patch size Z Y X and batch size of the settings; where not given, the largest of a few that fit.

    Parameters
    ----------
    shapes_zyx : of the tomograms, of which no patch is larger in any axis
    memory_bytes : of the device; None: not looked at

    Returns
    -------
    Where nothing fits, the smallest of those that are tried.
    """
    smallest = [min(sides) for sides in zip(*shapes_zyx, strict=True)]
    sizes = settings.patch_size_zyx
    patches = [sizes] if patch_given else list(_cut(settings.encoder_name, sizes, smallest))
    batches = [settings.batch_size] if batch_given else [settings.batch_size, max(1, settings.batch_size // 2)]
    candidates = [(patch, batch) for patch in patches for batch in batches]
    if memory_bytes is None or (patch_given and batch_given):
        return candidates[0]
    room = MEMORY_SHARE * memory_bytes
    return next((one for one in candidates if training_bytes(settings, *one) <= room), candidates[-1])


def _cut(encoder_name: str, patch_size_zyx: Sequence[int], smallest_zyx: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Ever smaller patches that a network takes and that lie within the tomograms, where such there are."""
    divisor = ENCODERS[encoder_name].divisor
    for share in SHARES:
        sides = [min(int(side * share), most) for side, most in zip(patch_size_zyx, smallest_zyx, strict=True)]
        yield nearest_patch_size(encoder_name, [side // divisor * divisor for side in sides])


def training_bytes(settings: TrainingSettings, patch_size_zyx: Sequence[int], batch_size: int) -> int:
    """Memory of a training step on a GPU at its peak: a step on tensors that have a shape but no voxels, counted."""
    half = settings.precision != "fp32"
    with FakeTensorMode(), LiveBytes() as live:
        classes = len(settings.class_loss_weights)
        network = build_model(
            settings.encoder_name,
            num_classes=classes,
            norm_type=settings.norm_type,
            output_stride=settings.output_stride,
            dropout=settings.dropout,
        )
        loss = build_loss(settings.loss_type, settings.class_loss_weights, settings.label_smoothing)
        image = torch.empty(batch_size, 1, *patch_size_zyx)
        target = torch.empty(
            batch_size, *(side // settings.output_stride for side in patch_size_zyx), dtype=torch.uint8
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            terms = loss(network(image), target)
        sum(terms.values()).backward()
        weights = sum(weight.numel() for weight in network.parameters())
    return int(ALLOWANCE["cuda"] * live.peak) + OPTIMIZER_BYTES * weights + FIXED_BYTES


def total_memory_bytes(device: torch.device) -> int | None:
    """Of a GPU; None for a CPU, whose default sizes are small."""
    return torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else None
