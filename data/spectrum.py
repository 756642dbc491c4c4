"""How strong each frequency is in a tomogram, and filters that change it.

In this, tomograms of different programs differ most. Frequencies are in cycles per voxel, 0 to 0.5; amplitudes are
means over all directions. Filters depend on the frequency alone: they turn and shift nothing.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional

# Shells of equal width from 0 to 0.5.
SHELLS = 32
# Blocks on which the spectrum of a tomogram is measured: of that side, so many along each axis.
BLOCK_VOXELS, BLOCKS = 64, (2, 3, 3)
# Below it, filters leave the tomogram alone: thickness and contrast of the whole, which every tomogram has its own.
LOWEST = 0.03
# The unit of spectra is the mean up to here: particles, which all tomograms have.
REFERENCE = 0.11
# Width of the band in which particles stand out.
PARTICLES = 0.06
# Planes that are filtered at once, and how far a filter reaches.
SLAB_VOXELS, REACH_VOXELS = 64, 16


def amplitude_spectrum(volume: np.ndarray) -> np.ndarray:
    """Mean amplitude of each shell of frequencies.

    Parameters
    ----------
    volume : (Z, Y, X) array of finite values, or what can be cut like one; only some blocks are read

    Returns
    -------
    (SHELLS,) float64, shell i being the frequencies around (i + 0.5) / SHELLS / 2 cycles per voxel, in a unit in which
    the mean from LOWEST to REFERENCE is 1; all 1 for a constant volume.
    """
    power, count = np.zeros(SHELLS), np.zeros(SHELLS)
    for transformed, frequencies, _ in _transformed_blocks(volume):
        shell = (frequencies * 2 * SHELLS).long().flatten()
        inside = shell < SHELLS
        values = transformed.abs().square().flatten()[inside].double()
        power += torch.bincount(shell[inside], values, minlength=SHELLS).numpy()
        count += torch.bincount(shell[inside], minlength=SHELLS).numpy()
    amplitude = np.sqrt(power / np.maximum(count, 1))
    unit = amplitude[_shells_below(LOWEST) : _shells_below(REFERENCE)].mean()
    return amplitude / unit if unit > 0 else np.ones(SHELLS)


def particle_skewness(volume: np.ndarray) -> float:
    """Skewness of the grey values at the size of particles: below 0 where these are dark, above 0 where bright.

    Parameters
    ----------
    volume : as of :func:`amplitude_spectrum`
    """
    moments = np.zeros(2)
    for transformed, frequencies, shape in _transformed_blocks(volume):
        band = (-0.5 * (frequencies / PARTICLES).square()).exp() * (frequencies > LOWEST)
        values = torch.fft.irfftn(transformed * band, s=shape).double()
        moments += float(values.square().mean()), float(values.pow(3).mean())
    number = len(_blocks(volume.shape))
    variance, third = moments / number
    return float(third / variance**1.5) if variance > 0 else 0.0


def _transformed_blocks(volume: np.ndarray) -> Iterator[tuple[Tensor, Tensor, tuple[int, ...]]]:
    """Of each block: what torch.fft.rfftn gives, the frequencies of that, and the shape of the block."""
    for region in _blocks(volume.shape):
        block = torch.from_numpy(np.array(volume[region], dtype=np.float32))
        block = (block - block.mean()) * _taper(block.shape)
        yield torch.fft.rfftn(block), radial_frequencies(block.shape), tuple(block.shape)


def _blocks(shape_zyx: Sequence[int]) -> list[tuple[slice, ...]]:
    """Evenly spread over the tomogram; the outermost planes belong to none where there are more than enough."""
    along = []
    for size, most in zip(shape_zyx, BLOCKS, strict=True):
        side = min(size, BLOCK_VOXELS)
        number = min(most, max(1, size // side))
        starts = {int((size - side) * (index + 0.5) / number) for index in range(number)}
        along.append([slice(start, start + side) for start in sorted(starts)])
    return list(product(*along))


def _taper(shape: Sequence[int]) -> Tensor:
    """Falls to 0 at the faces of a block: else what differs between opposite faces is taken for frequencies."""
    window = torch.ones(())
    for axis, size in enumerate(shape):
        sides = [1] * len(shape)
        sides[axis] = size
        window = window * torch.hann_window(size + 1)[1:].reshape(sides) if size > 1 else window
    return window.expand(tuple(shape))


def radial_frequencies(shape_zyx: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """(Z, Y, X // 2 + 1) cycles per voxel of what torch.fft.rfftn gives for a volume of that shape."""
    z, y, x = shape_zyx
    axes = [torch.fft.fftfreq(z), torch.fft.fftfreq(y), torch.fft.rfftfreq(x)]
    squares = [axis.to(device).square() for axis in axes]
    return (squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :]).sqrt()


def _shells_below(frequency: float) -> int:
    return max(1, round(frequency * 2 * SHELLS))


# --- Filters ------------------------------------------------------------------------------------------
def gain_at(frequencies: Tensor, gain: Sequence[float]) -> Tensor:
    """The gain of each shell, interpolated between the middles of shells; beyond 0.5 that of the last.

    Parameters
    ----------
    frequencies : cycles per voxel, any shape
    gain : SHELLS factors
    """
    values = torch.as_tensor(np.asarray(gain), dtype=torch.float32, device=frequencies.device)
    place = (frequencies * 2 * SHELLS - 0.5).clamp(0, SHELLS - 1)
    below = place.long().clamp(max=SHELLS - 2)
    share = place - below
    return values[below] * (1 - share) + values[below + 1] * share


def filtered(volume: np.ndarray, gain: Sequence[float], *, in_place: bool = False) -> np.ndarray:
    """A tomogram whose amplitudes are multiplied by the gain of their shell, slab by slab: it takes little memory.

    Parameters
    ----------
    volume : (Z, Y, X) float32. Beyond its faces it is taken as mirrored.
    gain : SHELLS factors, a smooth curve: the filter reaches REACH_VOXELS
    in_place : change the volume itself, which spares the memory of a second one

    Returns
    -------
    (Z, Y, X) float32.
    """
    result = volume if in_place else np.empty(volume.shape, dtype=np.float32)
    depth, *sides = volume.shape
    margin = min(REACH_VOXELS, depth - 1)
    before = volume[:0]  # planes before a slab, as they were
    for start in range(0, depth, SLAB_VOXELS):
        stop = min(start + SLAB_VOXELS, depth)
        low, high = start - len(before), min(depth, stop + REACH_VOXELS)
        # Inside, neighbouring planes take the place of the mirror.
        margins = [(margin * (low == 0), margin * (high == depth)), *map(_margins, sides)]
        planes = np.concatenate((before, volume[start:high]), dtype=np.float32)
        before = planes[: stop - low][-REACH_VOXELS:].copy()
        slab = torch.from_numpy(planes)
        beyond = [one for pair in reversed(margins) for one in pair]
        slab = functional.pad(slab[None, None], beyond, mode="reflect")[0, 0]
        slab = torch.fft.irfftn(_multiplied(torch.fft.rfftn(slab), slab.shape, gain), s=tuple(slab.shape))
        firsts = (start - low + margins[0][0], *(before for before, _ in margins[1:]))
        sizes = (stop - start, *sides)
        inside = tuple(slice(first, first + size) for first, size in zip(firsts, sizes, strict=True))
        result[start:stop] = slab[inside].numpy()
    return result


def _multiplied(transformed: Tensor, shape_zyx: Sequence[int], gain: Sequence[float]) -> Tensor:
    """What torch.fft.rfftn gave for a volume of that shape, times the gain; plane by plane, which takes no memory."""
    in_plane = radial_frequencies((1, *shape_zyx[1:]))[0].square()
    for plane, frequency in zip(transformed, torch.fft.fftfreq(shape_zyx[0]), strict=True):
        plane.mul_(gain_at((in_plane + frequency.square()).sqrt(), gain))
    return transformed


def _margins(size: int) -> tuple[int, int]:
    """Voxels before and behind a side, so that the filter does not reach round and the transform is a fast one."""
    least = min(REACH_VOXELS, size - 1)
    return least, min(next_fast_len(size + 2 * least, real=True) - size - least, size - 1)


def matching_gain(own: Sequence[float], wanted: Sequence[float], *, largest: float, smallest: float) -> np.ndarray:
    """The filter that gives a tomogram the spectrum of others, as far as the bounds let it.

    Parameters
    ----------
    own, wanted : amplitude spectra
    largest, smallest : bounds of the gain; frequencies that a filter has all but removed cannot be had back

    Returns
    -------
    (SHELLS,) factors; 1 below LOWEST.
    """
    tiny = np.finfo(np.float32).tiny
    ratio = np.log(np.maximum(wanted, tiny)) - np.log(np.maximum(own, tiny))
    ratio = np.clip(ratio, math.log(smallest), math.log(largest))
    lowest = _shells_below(LOWEST)
    ratio[:lowest] = 0
    # Smooth, else the filter would ring.
    weights = np.array([0.25, 0.5, 0.25])
    smooth = np.convolve(np.pad(ratio, 1, mode="edge"), weights, mode="valid")
    smooth[:lowest] = 0
    return np.clip(np.exp(smooth), smallest, largest)


def mean_spectrum(spectra: Sequence[Sequence[float]]) -> np.ndarray:
    """Geometric mean of spectra."""
    return np.exp(np.mean(np.log(np.maximum(spectra, np.finfo(np.float32).tiny)), axis=0))


def largest_difference(own: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """How far two spectra differ at most above LOWEST, in factors of ten of amplitude, and at which frequency."""
    tiny = np.finfo(np.float32).tiny
    logarithms = np.abs(np.log10(np.maximum(own, tiny)) - np.log10(np.maximum(other, tiny)))
    logarithms[: _shells_below(LOWEST)] = 0
    shell = int(logarithms.argmax())
    return float(logarithms[shell]), (shell + 0.5) / SHELLS / 2
