"""From a volume to a tilt series and back: projection, CTF, noise, weighted back-projection.

Beam along z, tilt axis along y: a tilt by theta sees detector coordinate u = x cos(theta) + z sin(theta),
both measured from the volume's centre, so every y-slice is a problem of its own in (z, x). Images are
``(tilt, U, Y)`` with y last, because then one (u, x or z) step moves a whole contiguous row of y values:
projection and back-projection become sums of weighted rows, which run alike on CPU and GPU, in a fixed order.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch.nn.functional import embedding_bag, pad

DETECTOR_MARGIN_PIXELS = 8
# The spectrum is padded by this much in y, mirrored, so that nothing wraps around.
MIRRORED_BORDER_PIXELS = 32
# Linear interpolation between pixels blurs and aliases; on a twice finer detector it hardly does.
UPSAMPLING = 2
RESOLUTION_ANGSTROM = 10.0  # full width at half maximum of the point that stands for an atom cluster
SMALLEST_SPLINE_TRANSFER = 0.05
PIXELS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Microscope:
    """The contrast transfer function: lengths in angstrom, ``defocus_angstrom`` positive for underfocus."""

    defocus_angstrom: float
    voltage_kilovolt: float = 300.0
    spherical_aberration_angstrom: float = 2.7e7
    amplitude_contrast: float = 0.07

    @property
    def wavelength_angstrom(self) -> float:
        """Relativistic electron wavelength, 0.0197 at 300 kV."""
        volt = self.voltage_kilovolt * 1e3
        return 12.2643 / math.sqrt(volt + 0.978466e-6 * volt**2)

    def contrast_transfer(self, frequency: torch.Tensor) -> torch.Tensor:
        """CTF at a spatial frequency in 1/angstrom; protein is dark, so it starts at -amplitude contrast.

        -(sqrt(1 - A^2) sin(chi) + A cos(chi)), chi = pi lambda df k^2 - pi/2 Cs lambda^3 k^4
        (Rohou and Grigorieff, doi 10.1016/j.jsb.2015.08.008, without astigmatism).
        """
        k2 = frequency**2
        wavelength, amplitude = self.wavelength_angstrom, self.amplitude_contrast
        chi = math.pi * wavelength * self.defocus_angstrom * k2
        chi = chi - math.pi / 2 * self.spherical_aberration_angstrom * wavelength**3 * k2**2
        return -(math.sqrt(1 - amplitude**2) * torch.sin(chi) + amplitude * torch.cos(chi))


@dataclass(frozen=True)
class Geometry:
    """Volume, tilts and detector of one series."""

    shape_zyx: tuple[int, int, int]
    voxel_spacing_angstrom: float
    angles_degrees: tuple[float, ...]

    @property
    def detector_width(self) -> int:
        """Pixels across the tilt axis: enough for the volume's corners at every tilt, and a margin."""
        depth, _, width = self.shape_zyx
        shadow = max(
            width * math.cos(math.radians(a)) + depth * abs(math.sin(math.radians(a))) for a in self.angles_degrees
        )
        return math.ceil(shadow - 1e-9) + 2 * DETECTOR_MARGIN_PIXELS

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(tilt, U, Y)."""
        return len(self.angles_degrees), self.detector_width, self.shape_zyx[1]


def tilt_angles(tilt_range_degrees: float, tilt_step_degrees: float) -> tuple[float, ...]:
    """Angles symmetric about 0, 0 included, within +- the range."""
    steps = math.floor(tilt_range_degrees / tilt_step_degrees + 1e-9)
    return tuple(float(i * tilt_step_degrees) for i in range(-steps, steps + 1))


# --- Projection ---------------------------------------------------------------------------------------
def project(volume: torch.Tensor, geometry: Geometry, progress: Callable[[Iterable], Iterable] = iter) -> torch.Tensor:
    """Line integrals in voxel lengths through a (Z, Y, X) volume, as (tilt, U, Y).

    Joseph's method: step along the axis that the beam is closer to, interpolate linearly in the other
    (doi 10.1109/TMI.1982.4307572). Outside the volume is nothing.
    """
    depth, _, width = geometry.shape_zyx
    rows = volume.permute(0, 2, 1).reshape(depth * width, -1)  # one row of y values per (z, x)
    images = torch.empty(geometry.image_shape, dtype=torch.float32, device=volume.device)
    z = _centred(depth, volume.device)
    x = _centred(width, volume.device)
    u = _centred(geometry.detector_width, volume.device)[:, None]
    for i, angle in enumerate(progress(geometry.angles_degrees)):
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        if abs(sin) <= cos:
            low, share = _neighbours((u - z * sin) / cos, width)  # (U, Z, 2)
            index, step = torch.arange(depth, device=u.device)[None, :, None] * width + low, 1 / cos
        else:
            low, share = _neighbours((u - x * cos) / sin, depth)  # (U, X, 2)
            index, step = low * width + torch.arange(width, device=u.device)[None, :, None], 1 / abs(sin)
        images[i] = _sum_rows(rows, index, share * step)
    return images


def back_project(
    images: torch.Tensor, geometry: Geometry, progress: Callable[[Iterable], Iterable] = iter
) -> torch.Tensor:
    """Sum over the images at each voxel's shadow, (Z, Y, X); images (tilt, 2 U, Y), twice as fine in u."""
    depth, height, width = geometry.shape_zyx
    volume = torch.empty(geometry.shape_zyx, dtype=torch.float32, device=images.device)
    count, fine_width = images.shape[:2]
    rows = images.reshape(count * fine_width, height)
    radians = torch.deg2rad(torch.tensor(geometry.angles_degrees, dtype=torch.float32, device=images.device))
    first_row = (torch.arange(count, device=images.device) * fine_width)[None, :, None]
    x = _centred(width, images.device)[:, None]
    centre = (geometry.detector_width - 1) / 2
    for k, z in enumerate(progress(_centred(depth, images.device))):
        u = UPSAMPLING * (x * torch.cos(radians) + z * torch.sin(radians) + centre)
        low, share = _neighbours(u - (fine_width - 1) / 2, fine_width)  # (X, tilt, 2)
        volume[k] = _sum_rows(rows, first_row + low, share).T
    return volume


def _centred(size: int, device: torch.device) -> torch.Tensor:
    return torch.arange(size, dtype=torch.float32, device=device) - (size - 1) / 2


def _neighbours(position: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of the two samples around a centred position and their linear weights, 0 outside."""
    position = position + (size - 1) / 2
    low = position.floor()
    fraction = position - low
    index = torch.stack([low, low + 1], dim=-1)
    share = torch.stack([1 - fraction, fraction], dim=-1)
    share = share * ((index >= 0) & (index < size))
    return index.clamp_(0, size - 1).long(), share


def _sum_rows(rows: torch.Tensor, index: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Weighted sum of rows for each leading position of ``index``, in fixed order: bit for bit the same."""
    return embedding_bag(index.flatten(1), rows, mode="sum", per_sample_weights=share.flatten(1))


# --- Images -------------------------------------------------------------------------------------------
def expose(images: torch.Tensor, geometry: Geometry, microscope: Microscope, dose_per_tilt: float) -> torch.Tensor:
    """What the microscope makes of line integrals: CTF, envelope, and the loss of detail with dose.

    Tilts are taken dose-symmetrically, from 0 outwards; each electron per square angstrom adds 4 square
    angstrom to the B-factor (Scheres, doi 10.7554/eLife.03665). The B-spline of the voxels is divided out,
    which the central slice theorem allows here: a tilt's Fourier plane lies at (k cos, k sin) in (x, z).
    """
    ku, ky = _frequencies(images)
    k2 = (ku**2 + ky**2) / geometry.voxel_spacing_angstrom**2
    sigma = RESOLUTION_ANGSTROM / 2.3548
    optics = microscope.contrast_transfer(torch.sqrt(k2)) * torch.exp(-2 * math.pi**2 * sigma**2 * k2)
    order = np.argsort(np.argsort(np.abs(geometry.angles_degrees), kind="stable"), kind="stable")
    b_factors = torch.from_numpy(4.0 * dose_per_tilt * (order + 0.5)).float().to(images.device)
    radians = torch.deg2rad(torch.tensor(geometry.angles_degrees, device=images.device))[:, None, None]
    across = (torch.sinc(ku * torch.cos(radians)) * torch.sinc(ku * torch.sin(radians))) ** 4  # (tilt, n, 1)
    along = torch.sinc(ky) ** 4
    exposed = torch.empty_like(images)
    for chunk in _chunks(images):
        spline = (across[chunk] * along).clamp(min=SMALLEST_SPLINE_TRANSFER)
        envelope = torch.exp(-b_factors[chunk, None, None] / 4 * k2)
        exposed[chunk] = _filtered(images[chunk], optics * envelope / spline, upsampling=1)
    return exposed


def weighted_back_projection(
    images: torch.Tensor,
    geometry: Geometry,
    image_filter: Callable[[torch.Tensor], torch.Tensor] | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> torch.Tensor:
    """Reconstruct (Z, Y, X) from (tilt, U, Y): ramp filter, optional isotropic filter, back-projection.

    ``image_filter`` maps frequency in 1/angstrom to a factor. Applied to the images it is the same as the
    isotropic filter in three dimensions applied to the tomogram (central slice theorem), and far cheaper.
    """
    ku, ky = _frequencies(images)
    transfer = ku.abs()
    if image_filter is not None:
        transfer = transfer * image_filter(torch.sqrt(ku**2 + ky**2) / geometry.voxel_spacing_angstrom)
    count, width, height = images.shape
    fine = torch.empty((count, UPSAMPLING * width, height), dtype=torch.float32, device=images.device)
    for chunk in _chunks(images):
        fine[chunk] = _filtered(images[chunk], transfer, UPSAMPLING)
    return back_project(fine, geometry, progress) * (math.pi / count)


def _padded_shape(width: int, height: int) -> tuple[int, int]:
    """Of an image in Fourier space: zeros after u, where the object ends on the detector; a mirrored y."""
    return 2 * next_fast_len(math.ceil(0.75 * width)), height + 2 * min(MIRRORED_BORDER_PIXELS, height - 1)


def _frequencies(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """ku (n, 1) and ky (1, m) in cycles per pixel of the padded images' half spectrum."""
    padded_width, padded_height = _padded_shape(*images.shape[1:])
    ku = torch.fft.fftfreq(padded_width, device=images.device)[:, None]
    return ku, torch.fft.rfftfreq(padded_height, device=images.device)[None, :]


def _chunks(images: torch.Tensor) -> list[slice]:
    """Runs of tilts that are filtered together: few calls, little memory."""
    size = max(1, PIXELS_AT_ONCE // images[0].numel())
    return [slice(i, i + size) for i in range(0, len(images), size)]


def _filtered(images: torch.Tensor, transfer: torch.Tensor, upsampling: int) -> torch.Tensor:
    """(n, U, Y) images times a transfer function on their padded half spectra; u comes out finer."""
    width, height = images.shape[1:]
    padded_width, padded_height = _padded_shape(width, height)
    border = (padded_height - height) // 2
    mirrored = pad(images, (border, border), mode="reflect")
    spectrum = torch.fft.rfft2(mirrored, s=(padded_width, padded_height)) * transfer
    if upsampling > 1:
        half = padded_width // 2
        fine = spectrum.new_zeros((len(spectrum), upsampling * padded_width, spectrum.shape[2]))
        fine[:, :half] = spectrum[:, :half]
        fine[:, -half + 1 :] = spectrum[:, -half + 1 :]
        spectrum = fine * upsampling
    result = torch.fft.irfft2(spectrum, s=(upsampling * padded_width, padded_height))
    return result[:, : upsampling * width, border : border + height]
