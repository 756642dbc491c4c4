"""Geometry and optics of the tilt series: centring, handedness, missing wedge, CTF."""

import math

import numpy as np
import pytest
import torch

from data.phantom.dataset import PhantomSettings, noise_per_pixel, reconstruct
from data.phantom.scene import Scene, add_points, render_scene
from data.phantom.tilt_series import Geometry, Microscope, project, tilt_angles, weighted_back_projection
from data.phantom.tomo_types import TOMO_TYPES

SPACING = 10.0
SHAPE = (32, 48, 44)
CPU = torch.device("cpu")
# Distinct in every axis, so that a swapped or mirrored axis cannot go unseen.
POINTS_ZYX_VOXELS = np.array([[10.3, 12.6, 30.2], [20.7, 34.1, 11.4], [15.5, 22.25, 21.8]])


def settings(**changes):
    usual = {
        "shape_zyx": SHAPE,
        "voxel_spacing_angstrom": SPACING,
        "noise": 0.0,
        "defocus_angstrom": 30000.0,
        "tilt_range_degrees": 60.0,
        "tilt_step_degrees": 3.0,
    }
    return PhantomSettings(**{**usual, **changes})


def points(shape=SHAPE):
    volume = np.zeros(shape, dtype=np.float32)
    add_points(volume, POINTS_ZYX_VOXELS, np.ones(len(POINTS_ZYX_VOXELS)))
    return volume


def darkest_near(volume, near):
    """Sub-voxel position of the darkest point within 3 voxels, by a parabola through each axis."""
    start = np.round(near).astype(int) - 3
    box = volume[tuple(slice(s, s + 7) for s in start)]
    peak = start + np.unravel_index(box.argmin(), box.shape)
    position = peak.astype(float)
    for axis in range(3):
        step = np.eye(3, dtype=int)[axis]
        left, middle, right = (float(volume[tuple(peak + k * step)]) for k in (-1, 0, 1))
        position[axis] += 0.5 * (left - right) / (left - 2 * middle + right)
    return position


@pytest.mark.parametrize("tomo_type", list(TOMO_TYPES))
@pytest.mark.parametrize("shape", [SHAPE, (33, 47, 45)], ids=["even", "odd"])
def test_a_point_appears_dark_where_it_was_put(tomo_type, shape):
    volume = points(shape)
    # Nearer to focus than usual: the CTF's first zero lies past Nyquist, so that a raw image of a point has one peak.
    rng, how = np.random.default_rng(0), settings(shape_zyx=shape, defocus_angstrom=10000.0)
    result = reconstruct(volume, rng, how, [tomo_type], CPU)[tomo_type]
    assert result.dtype == np.float32 and result.shape == shape
    for point in POINTS_ZYX_VOXELS:
        assert np.abs(darkest_near(result, point) - point).max() < 0.3
        assert result[tuple(np.round(point).astype(int))] < -3e-5


def test_untilted_projection_is_the_sum_along_the_beam():
    volume = torch.rand(5, 6, 8, generator=torch.Generator().manual_seed(0))
    geometry = Geometry((5, 6, 8), SPACING, (0.0,))
    image = project(volume, geometry)[0]
    assert geometry.detector_width == 8 + 16
    torch.testing.assert_close(image[8:16], volume.sum(dim=0).T)
    assert image[:8].abs().sum() == 0


def test_a_quarter_turn_looks_along_x():
    volume = torch.rand(5, 6, 8, generator=torch.Generator().manual_seed(0))
    geometry = Geometry((5, 6, 8), SPACING, (90.0,))
    image = project(volume, geometry)[0]
    margin = (geometry.detector_width - 5) // 2
    torch.testing.assert_close(image[margin : margin + 5], volume.sum(dim=2), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("angle", [-60.0, -45.0, 20.0, 60.0])
def test_every_projection_keeps_the_mass_and_moves_it_by_the_law(angle):
    beads = Scene({}, {}, [], POINTS_ZYX_VOXELS * SPACING)
    volume = torch.from_numpy(render_scene(beads, {}, SHAPE, SPACING))
    geometry = Geometry(SHAPE, SPACING, (angle,))
    image = project(volume, geometry)[0].double()
    assert image.sum().item() == pytest.approx(volume.sum().item(), rel=0.01)
    z, _, x = (POINTS_ZYX_VOXELS - (np.array(SHAPE) - 1) / 2).mean(axis=0)
    expected = x * math.cos(math.radians(angle)) + z * math.sin(math.radians(angle))
    u = torch.arange(len(image)) - (len(image) - 1) / 2
    assert (image.sum(dim=1) * u).sum().item() / image.sum().item() == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("tilt_range", [60.0, 45.0])
def test_the_missing_wedge_is_empty(tilt_range):
    shape = (48, 32, 48)
    geometry = Geometry(shape, SPACING, tilt_angles(tilt_range, 3.0))
    noise = torch.randn(geometry.image_shape, generator=torch.Generator().manual_seed(0))
    volume = weighted_back_projection(noise, geometry).numpy()
    # A taper: the box's own edges would smear power over the wedge.
    taper = [np.hanning(size) for size in shape]
    power = np.abs(np.fft.fftn(volume * np.einsum("i,j,k->ijk", *taper))) ** 2
    kz, _, kx = (np.abs(k) for k in np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij"))
    boundary = math.tan(math.radians(tilt_range)) * kx
    missing, measured = kz > boundary + 0.1, (kz < boundary - 0.1) & (kx < 0.45) & (kz < 0.45)
    assert missing.any() and measured.any()
    assert power[missing].mean() < 0.02 * power[measured].mean()


def test_noise_is_that_of_one_dose():
    assert noise_per_pixel(settings(noise=2.0)) == pytest.approx(2 * noise_per_pixel(settings(noise=1.0)))
    finer = settings(noise=1.0, voxel_spacing_angstrom=5.0)
    assert noise_per_pixel(finer) == pytest.approx(2 * noise_per_pixel(settings(noise=1.0)))
    assert noise_per_pixel(settings()) == 0


def test_tilt_angles_are_symmetric_and_hold_zero():
    assert len(tilt_angles(60, 3)) == 41
    assert tilt_angles(7, 3) == (-6.0, -3.0, 0.0, 3.0, 6.0)
    assert tilt_angles(0.3, 0.1) == pytest.approx((-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3))


# --- CTF ----------------------------------------------------------------------------------------------
def test_ctf_starts_at_minus_the_amplitude_contrast():
    assert Microscope(30000.0).contrast_transfer(torch.zeros(1)).item() == pytest.approx(-0.07)


def test_wavelength_at_300_kilovolt():
    assert Microscope(30000.0).wavelength_angstrom == pytest.approx(0.019687, abs=1e-5)


def test_first_zero_of_the_ctf_is_where_theory_puts_it():
    microscope = Microscope(30000.0)
    # Cs shifts it by less than a thousandth here: chi = pi lambda df k^2 reaches pi - arcsin(A).
    expected = math.sqrt((1 - math.asin(0.07) / math.pi) / (microscope.wavelength_angstrom * 30000.0))
    frequency = torch.linspace(0, 0.06, 60001, dtype=torch.float64)
    values = microscope.contrast_transfer(frequency)
    first = frequency[torch.nonzero(values > 0)[0]].item()
    assert first == pytest.approx(expected, rel=2e-3)
    assert (values[frequency < 0.9 * expected] < 0).all()
