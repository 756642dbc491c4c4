"""The kinds of tomogram that follow from one tilt series: raw, CTF-corrected, denoised.

``isonetcorrected`` is not among them: a network's guess at the missing wedge cannot be derived.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from data.phantom.tilt_series import Microscope

ImageFilter = Callable[[torch.Tensor], torch.Tensor]

# Spectral signal-to-noise ratio of protein in these tomograms at noise 1, as strength * exp(-k * length):
# optimistic where detail is wanted, as deconvolution tools are by default, sober where calm is.
DECONVOLUTION_STRENGTH, DECONVOLUTION_LENGTH_ANGSTROM = 20.0, 100.0
DENOISING_STRENGTH = 50.0
# Slower than this, grey values follow the ice and the filter's own ringing, not molecules.
SLOWEST_WAVE_ANGSTROM = 1000.0
# Without noise the plain inverse of the CTF would divide by its zeros.
SMALLEST_NOISE = 0.2


@dataclass(frozen=True)
class Denoising:
    """How much detail a denoised tomogram keeps.

    Attributes
    ----------
    length_angstrom : of the signal-to-noise ratio, see above
    resolution_angstrom : detail finer than this is noise everywhere in these tomograms
    """

    length_angstrom: float = 200.0
    resolution_angstrom: float = 32.0


def _wbp(microscope: Microscope, noise: float, denoising: Denoising) -> ImageFilter | None:
    return None


def _ctf_deconvolved(microscope: Microscope, noise: float, denoising: Denoising) -> ImageFilter:
    return _wiener(microscope, noise, DECONVOLUTION_STRENGTH, DECONVOLUTION_LENGTH_ANGSTROM)


def _denoised(microscope: Microscope, noise: float, denoising: Denoising) -> ImageFilter:
    """A linear stand-in for a denoising network: the Wiener filter, and a low-pass that leaves molecules."""
    wiener = _wiener(microscope, noise, DENOISING_STRENGTH, denoising.length_angstrom)
    # Gaussian with half its height at the resolution.
    rate = math.log(2.0) * denoising.resolution_angstrom**2
    return lambda frequency: wiener(frequency) * torch.exp(-rate * frequency**2)


def _wiener(microscope: Microscope, noise: float, strength: float, length_angstrom: float) -> ImageFilter:
    """CTF / (CTF^2 + 1/SNR), protein kept dark, with a soft high-pass."""

    def image_filter(frequency: torch.Tensor) -> torch.Tensor:
        transfer = microscope.contrast_transfer(frequency)
        noise_to_signal = max(noise, SMALLEST_NOISE) ** 2 / strength * torch.exp(frequency * length_angstrom)
        high_pass = 1 - torch.exp(-((frequency * SLOWEST_WAVE_ANGSTROM) ** 2) / 2)
        return -high_pass * transfer / (transfer**2 + noise_to_signal)

    return image_filter


TOMO_TYPES: dict[str, Callable[[Microscope, float, Denoising], ImageFilter | None]] = {
    "denoised": _denoised,
    "ctfdeconvolved": _ctf_deconvolved,
    "wbp": _wbp,
}
