"""Augmentation of a whole batch on its device, drawn on the CPU: the draw does not depend on the device.

Order of a training step: :func:`augment`, :func:`filter_frequencies`, then the z-score of each patch, then
:func:`shift_statistics`, then :func:`mixup`. The z-score would undo a shift of mean and standard deviation made before
it.
"""

import math
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

from data.spatial_transforms import allowed_orientations, small_affine, transform_patches
from data.spectrum import LOWEST, radial_frequencies

ValueT = TypeVar("ValueT")

# none; base: flips, quarter turns, small affine; advanced: base, gamma, noise, shifted mean and deviation.
LEVELS = ("none", "base", "advanced")

INTENSITY_PROBABILITY = 0.3  # of a patch, for each of the three
# Exponents of the grey values scaled to 0..1: halves of the range become a third or two thirds of it at most.
GAMMA_RANGE = (0.7, 1.5)
# Share of the patch's standard deviation: what differs between tomograms, and below the noise they have already.
MAX_NOISE = 0.3
# In standard deviations of the z-scored patch: what a larger window with other surroundings makes of it.
MAX_SHIFT = 0.2
MAX_SPREAD = 0.2
# Of the amplitude at 0.5 cycles per voxel, in factors of ten: between reconstructions that are denoised or filtered and
# those that are not lies a factor of twenty. How the way there is bent, in factors of two.
MAX_FALL, MAX_RISE, MAX_BEND = 1.3, 0.6, 1.0
# Half of the filters also cut high frequencies off: from here on, cycles per voxel, and as steeply as Butterworth
# filters of these orders.
CUT_OFF, ORDERS = (0.12, 0.5), (2.0, 8.0)


def augment(
    image: Tensor,
    label: Tensor,
    *,
    level: str,
    mode: str,
    generator: torch.Generator,
    single_voxels: bool = False,
    tilt_axis: str = "y",
) -> tuple[Tensor, Tensor]:
    """Transform patches with their labels, and with level ``advanced`` change their grey values.

    Parameters
    ----------
    image : (B, 1, Z, Y, X) float of any range; left as it is
    label : (B, Z, Y, X) integer, 0 for background; left as it is
    level : none (both are returned unchanged), base or advanced
    mode : anisotropic (the beam is never mixed with the other axes), wedge (and no quarter turns) or isotropic
    generator : CPU generator of everything drawn. The values of noise come from a generator of the image's device
        that is seeded by it: repeatable on one device, not equal between a CPU and a GPU.
    single_voxels : labels are single voxels, to be moved as points
    tilt_axis : of the data; y and x: the beam is z, z: the beam is y

    Returns
    -------
    (image, label) of the same shapes and types. ``base`` and ``advanced`` transform alike from the same generator.
    """
    if level == "none":
        return image, label
    count = len(image)
    allowed = allowed_orientations(mode, tuple(image.shape[-3:]), tilt_axis)
    drawn = [allowed[number] for number in torch.randint(len(allowed), (count,), generator=generator).tolist()]
    affine = small_affine(count, mode, generator, tilt_axis)
    image, label = transform_patches(image, label, drawn, affine, single_voxels=single_voxels)
    if level == "advanced":
        change_gamma(image, generator)
        add_noise(image, generator)
    return image, label


def change_gamma(image: Tensor, generator: torch.Generator) -> None:
    """Raise the grey values of some patches, scaled to 0..1, to a power; in place, minimum and maximum stay.

    By logarithms, which take less time than powers.
    """
    exponents = _uniform(len(image), *GAMMA_RANGE, generator)
    for patch, exponent in _drawn(image, exponents, generator):
        low, high = patch.aminmax()
        log_extent = (high - low).clamp(min=torch.finfo(patch.dtype).tiny).log()
        patch.sub_(low).log_().mul_(exponent).add_((1 - exponent) * log_extent).exp_().add_(low)


def add_noise(image: Tensor, generator: torch.Generator) -> None:
    """Add white noise to some patches, in place; its deviation is a share of the patch's own."""
    shares = _uniform(len(image), 0.0, MAX_NOISE, generator)
    seed = int(torch.randint(2**62, (1,), generator=generator))
    on_device = torch.Generator(image.device).manual_seed(seed)
    for patch, share in _drawn(image, shares, generator):
        noise = torch.empty_like(patch).normal_(generator=on_device)
        # torch.std takes three times as long.
        deviation = (patch - patch.mean()).square_().mean().sqrt()
        patch.add_(noise.mul_(deviation * share))


def filter_frequencies(image: Tensor, *, probability: float, generator: torch.Generator) -> Tensor:
    """Change how strong the frequencies of some patches are, as other programs that reconstruct or denoise would.

    Parameters
    ----------
    image : (B, 1, Z, Y, X) float; left as it is
    probability : of each patch to be filtered, by a smooth curve of its own that leaves frequencies below LOWEST alone
    generator : CPU generator of everything drawn

    Returns
    -------
    (B, 1, Z, Y, X) float of the same device.
    """
    if probability == 0:
        return image
    drawn = torch.rand(len(image), generator=generator) < probability
    curves = [_drawn_curve(generator) for _ in drawn]
    result = image.clone()
    for patch, curve, wanted in zip(result[:, 0], curves, drawn.tolist(), strict=True):
        if wanted:
            frequencies = _frequencies(tuple(patch.shape), patch.device)
            transformed = torch.fft.rfftn(patch.float()).mul_(_gain(frequencies, *curve))
            patch.copy_(torch.fft.irfftn(transformed, s=tuple(patch.shape)))
    return result


def _drawn_curve(generator: torch.Generator) -> tuple[float, float, float, float]:
    """Logarithm of the gain at 0.5 cycles per voxel, the power of the way there, cut-off (inf: none) and its order."""
    rise, bend, cuts, where, order = torch.rand(5, generator=generator).tolist()
    cut_off = CUT_OFF[0] + (CUT_OFF[1] - CUT_OFF[0]) * where if cuts < 0.5 else math.inf
    power = 2 ** (MAX_BEND * (2 * bend - 1))
    return (
        math.log(10) * (rise * (MAX_FALL + MAX_RISE) - MAX_FALL),
        power,
        cut_off,
        ORDERS[0] + order * (ORDERS[1] - ORDERS[0]),
    )


def _gain(frequencies: Tensor, logarithm: float, power: float, cut_off: float, order: float) -> Tensor:
    way = ((frequencies - LOWEST) / (0.5 - LOWEST)).clamp(0, 1).pow_(power)
    gain = way.mul_(logarithm).exp_()
    return gain if math.isinf(cut_off) else gain / (1 + (frequencies / cut_off).pow(2 * order))


@lru_cache(maxsize=2)
def _frequencies(shape_zyx: tuple[int, int, int], device: torch.device) -> Tensor:
    return radial_frequencies(shape_zyx, device)


def shift_statistics(image: Tensor, *, level: str, generator: torch.Generator) -> Tensor:
    """Shift mean and standard deviation of some z-scored patches, with level ``advanced``.

    Parameters
    ----------
    image : (B, 1, Z, Y, X) z-scored patches; changed in place
    level : none and base leave the image as it is
    generator : CPU generator of everything drawn

    Returns
    -------
    The image: patch * s + m with s within 1 +- 0.2 and m within +- 0.2 where a patch is drawn.
    """
    if level == "advanced":
        spreads = _uniform(len(image), 1 - MAX_SPREAD, 1 + MAX_SPREAD, generator)
        shifts = _uniform(len(image), -MAX_SHIFT, MAX_SHIFT, generator)
        for patch, (spread, shift) in _drawn(image, list(zip(spreads, shifts, strict=True)), generator):
            patch.mul_(spread).add_(shift)
    return image


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> list[float]:
    return (low + (high - low) * torch.rand(count, generator=generator)).tolist()


def _drawn(image: Tensor, values: list[ValueT], generator: torch.Generator) -> list[tuple[Tensor, ValueT]]:
    """The patches (views of the image) that are drawn, each with its value."""
    drawn = (torch.rand(len(image), generator=generator) < INTENSITY_PROBABILITY).tolist()
    return [pair for pair, wanted in zip(zip(image, values, strict=True), drawn, strict=True) if wanted]


def mixup(image: Tensor, target: Tensor, *, probability: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blend patches with others of the batch, and their targets alike (arXiv 1710.09412).

    Parameters
    ----------
    image : (B, 1, Z, Y, X)
    target : (B, C, Z, Y, X) class probabilities
    probability : of each patch to be blended; its share is drawn from Beta(1, 1), the uniform distribution
    generator : CPU generator of everything drawn

    Returns
    -------
    (image, target) of the same shapes; targets still sum to 1 over the classes.
    """
    count = len(image)
    drawn = torch.rand(count, generator=generator) < probability
    share = torch.where(drawn, torch.rand(count, generator=generator), torch.ones(count))
    share = share.to(image.device, non_blocking=True).view(-1, 1, 1, 1, 1)
    # Never itself: some number of patches further on in the batch.
    steps = torch.randint(1, max(count, 2), (count,), generator=generator)
    partner = ((torch.arange(count) + steps) % count).to(image.device, non_blocking=True)
    return tuple(share * values + (1 - share) * values[partner] for values in (image, target))
