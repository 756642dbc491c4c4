"""Boxes around picks, cut out of tomograms: their central slices, their mean, their radial density profile.

Everything is sampled on cubes of one size in angstrom, whatever the voxels of a tomogram are, with the filter of
data.resampling. Voxel i of a tomogram lies at i times its voxel size.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from data.resampling import interpolation_weights

# Side of a box, in radii of the particle: the particle, and as much of what is around it as tells it from that.
SIDE_RADII = 3.0
# Samples along a side. Fewer are coarse squares on a screen, more are not told apart there.
FEWEST_SAMPLES, MOST_SAMPLES = 33, 65
# Slices are averaged over this share of the radius, so that the particle rises above the noise.
SLAB_RADII = 2 / 3
# The grey values of a tomogram are compared by its median, and by half the distance of the percentiles that lie one
# standard deviation from it in a normal distribution: gold does not count. About so many voxels are looked at.
GREY_PERCENTILES, LOOKED_AT = (15.87, 50, 84.13), 1_000_000


@dataclass(frozen=True)
class Box:
    """The samples of a cut-out: ``samples`` of them along each axis, an odd number, the central one at the pick.

    Attributes
    ----------
    radius_angstrom : of the particle
    samples : along each axis
    """

    radius_angstrom: float
    samples: int

    @classmethod
    def of(cls, radius_angstrom: float, finest_spacing_angstrom: float) -> "Box":
        """As fine as the finest voxels, within FEWEST_SAMPLES and MOST_SAMPLES."""
        wanted = int(np.ceil(SIDE_RADII * radius_angstrom / finest_spacing_angstrom)) // 2 * 2 + 1
        return cls(radius_angstrom, min(max(wanted, FEWEST_SAMPLES), MOST_SAMPLES))

    @property
    def step_angstrom(self) -> float:
        """From sample to sample; the samples stand for cubes of that size, which fill the side of the box."""
        return SIDE_RADII * self.radius_angstrom / self.samples

    @cached_property
    def offsets_angstrom(self) -> np.ndarray:
        """(samples,) from the pick, along each axis."""
        return (np.arange(self.samples) - self.samples // 2) * self.step_angstrom

    @cached_property
    def slab(self) -> range:
        """The planes that are averaged for a slice."""
        half = int(SLAB_RADII * self.radius_angstrom / 2 / self.step_angstrom)
        return range(self.samples // 2 - half, self.samples // 2 + half + 1)

    @property
    def slab_angstrom(self) -> float:
        """Their thickness together."""
        return len(self.slab) * self.step_angstrom

    @property
    def particle(self) -> slice:
        """The samples along an axis that are within the particle's radius."""
        half = int(self.radius_angstrom / self.step_angstrom)
        return slice(self.samples // 2 - half, self.samples // 2 + half + 1)

    def holds_particle(self, cube: np.ndarray) -> bool:
        """Whether the particle itself lies inside of the tomogram, whatever the rest of the box does."""
        return not np.isnan(cube[self.particle, self.particle, self.particle]).any()

    @cached_property
    def _distances(self) -> np.ndarray:
        squares = self.offsets_angstrom**2
        return np.sqrt(squares[:, None, None] + squares[:, None] + squares).ravel()

    @cached_property
    def _shells(self) -> np.ndarray:
        """Which shell each sample belongs to, of the thickness of a step, as far as whole shells reach."""
        shells = np.rint(self._distances / self.step_angstrom).astype(int)
        return np.minimum(shells, self.samples // 2 + 1)

    @cached_property
    def shell_radii_angstrom(self) -> np.ndarray:
        """(samples // 2 + 1,) mean distance of each shell's samples from the pick."""
        return self._shell_means(self._distances)

    def radial_profile(self, cube: np.ndarray) -> np.ndarray:
        """Mean over each shell around the pick.

        Parameters
        ----------
        cube : (samples, samples, samples) array
            As of :func:`cut_out`; blank samples (NaN) do not count.

        Returns
        -------
        (samples // 2 + 1,) float64, at ``shell_radii_angstrom``; NaN where all samples of a shell are blank.
        """
        return self._shell_means(cube.ravel())

    def _shell_means(self, values: np.ndarray) -> np.ndarray:
        known, shells = np.isfinite(values), self.samples // 2 + 1
        sums = np.bincount(self._shells, np.where(known, values, 0))[:shells]
        counts = np.bincount(self._shells, known)[:shells]
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def grey_scale(voxels: np.ndarray) -> tuple[float, float]:
    """Median and standard deviation of a tomogram's voxels, whatever a few of them are; see GREY_PERCENTILES.

    Parameters
    ----------
    voxels : (Z, Y, X) array
        Of large ones every n-th voxel along each axis is taken, about LOOKED_AT of them.

    Returns
    -------
    (median, deviation); where most voxels are equal, as in wide padding, the deviation is that of all of them, and 1
    where all are equal.
    """
    step = max(1, round((voxels.size / LOOKED_AT) ** (1 / 3)))
    sample = voxels[::step, ::step, ::step].astype(np.float64)
    low, median, high = np.percentile(sample, GREY_PERCENTILES)
    return float(median), float((high - low) / 2 or sample.std() or 1.0)


def cut_out(
    voxels: np.ndarray, spacing_zyx: tuple[float, float, float], centre_zyx_angstrom: np.ndarray, box: Box
) -> np.ndarray:
    """The box around a position.

    Parameters
    ----------
    voxels : (Z, Y, X) array
    spacing_zyx : voxel size along z, y, x, angstrom
    centre_zyx_angstrom : (3,) position from the centre of the first voxel; it may lie outside

    Returns
    -------
    (samples, samples, samples) float32, z, y, x; NaN where the box reaches out of the tomogram.
    """
    cube = np.full((box.samples,) * 3, np.nan, dtype=np.float32)
    inside, boxes, weights = [], [], []
    for centre, spacing, count in zip(centre_zyx_angstrom, spacing_zyx, voxels.shape, strict=True):
        places = (centre + box.offsets_angstrom) / spacing
        within = np.flatnonzero((places >= -0.5) & (places <= count - 0.5))
        if len(within) == 0:
            return cube
        here, of_axis = interpolation_weights(places[within], count, box.step_angstrom / spacing)
        inside.append(slice(within[0], within[-1] + 1))
        boxes.append(here)
        weights.append(of_axis)
    z, y, x = weights
    region = voxels[tuple(boxes)].astype(np.float32, copy=False)
    cube[tuple(inside)] = np.tensordot(z, y @ (region @ x.T), axes=1)
    return cube


def central_slice(cube: np.ndarray, box: Box, axis: int) -> np.ndarray:
    """The slice through the pick, a mean over the box's slab along an axis.

    Parameters
    ----------
    cube : (samples, samples, samples) array, z, y, x
        NaN outside of the tomogram.
    axis : 0 for xy, 1 for xz, 2 for yz

    Returns
    -------
    (samples, samples) array, the axes that are left in their order; NaN where no plane of the slab is inside.
    """
    planes = cube.take(box.slab, axis)
    known = np.isfinite(planes)
    counts = known.sum(axis)
    return np.where(counts > 0, np.where(known, planes, 0).sum(axis) / np.maximum(counts, 1), np.nan)
