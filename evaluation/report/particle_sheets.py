"""The picks of each particle cut out of their tomograms: slices of some, mean and radial profiles of more.

Each tomogram is read once, and none is in memory with another; what is kept does not grow with their number.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from data.picks import table_coordinates_zyx
from data.tomogram import Tomogram
from evaluation.report.cutouts import Box, central_slice, cut_out, grey_scale
from particle_config import Particle

# Of a particle with more picks: so many of the best, of the worst, and evenly spaced in between.
GROUP = 32
# Picks in the mean and the profile, evenly spaced from the best to the worst.
MOST_AVERAGED = 1000
# What picks are sorted by: the first that all of a particle have.
VALUES = ("confidence", "score")


@dataclass(frozen=True)
class GalleryTomogram:
    """A tomogram that picks lie in.

    Attributes
    ----------
    name : as in the column ``experiment`` of the picks
    read : gives its voxels, (Z, Y, X), in which protein may be dark or bright
    voxel_spacing_zyx_angstrom : along z, y, x
    """

    name: str
    read: Callable[[], np.ndarray]
    voxel_spacing_zyx_angstrom: tuple[float, float, float]

    @classmethod
    def of(cls, name: str, tomogram: Tomogram) -> "GalleryTomogram":
        return cls(name, tomogram.read, (tomogram.voxel_spacing_angstrom,) * 3)


@dataclass(frozen=True)
class Cutout:
    """Slices (samples, samples) of a pick, NaN outside of the tomogram; grey values in its standard deviations."""

    xy: np.ndarray
    xz: np.ndarray


@dataclass(frozen=True)
class ParticleSheet:
    """What is shown of one particle.

    Attributes
    ----------
    picks : its rows of the picks table, the best first; ``hit`` is True, False or None (not known)
    value_name : what they are sorted by, one of VALUES; None where they have neither
    groups : rows of ``picks`` by number that are shown, in one group or in three
    cutouts : number of a row -> its slices
    mean : (samples, samples, samples) mean of the cut-outs whose particle lies whole in its tomogram, of what is inside
        of it, NaN where nothing is; None where there are none
    profiles : (picks in the mean, shells) radial profile of each
    cut_off : how many were left out of the mean, since the border cuts through the particle
    """

    particle: Particle
    box: Box
    picks: pd.DataFrame
    value_name: str | None
    groups: tuple[np.ndarray, ...]
    cutouts: Mapping[int, Cutout]
    mean: np.ndarray | None
    profiles: np.ndarray
    cut_off: int


def cut_sheets(
    tomograms: Iterable[GalleryTomogram],
    picks: pd.DataFrame,
    particles: Sequence[Particle],
    *,
    finest_spacing_angstrom: float,
) -> list[ParticleSheet]:
    """A sheet for each particle, also for one without picks.

    Parameters
    ----------
    tomograms : gone through once; those without picks to be cut are not read
    picks : a picks table with a column ``hit``, in angstrom
    finest_spacing_angstrom : smallest voxel size of all tomograms
    """
    makers = [_SheetMaker(one, finest_spacing_angstrom, picks[picks["particle_type"] == one.name]) for one in particles]
    for tomogram in tomograms:
        if any(tomogram.name in maker.wanted for maker in makers):
            voxels = tomogram.read()
            scale = grey_scale(voxels)
            for maker in makers:
                maker.cut(tomogram, voxels, *scale)
            del voxels  # before the next is read
    return [maker.sheet() for maker in makers]


def sorted_by_value(picks: pd.DataFrame) -> tuple[pd.DataFrame, str | None]:
    """The best first, equal ones in their order; and what they are sorted by."""
    known = [name for name in VALUES if len(picks) and name in picks and picks[name].notna().all()]
    if not known:
        return picks.reset_index(drop=True), None
    return picks.sort_values(known[0], ascending=False, kind="stable", ignore_index=True), known[0]


def shown_groups(count: int) -> tuple[np.ndarray, ...]:
    """Which of ``count`` sorted picks are shown: all in one group, or best, in between and worst, GROUP of each."""
    if count <= 3 * GROUP:
        return (np.arange(count),)
    return np.arange(GROUP), evenly_spaced(GROUP, count - GROUP, GROUP), np.arange(count - GROUP, count)


def evenly_spaced(first: int, end: int, most: int) -> np.ndarray:
    """At most ``most`` whole numbers from ``first`` to ``end - 1``, rising; both ends are among them."""
    return np.unique(np.linspace(first, end - 1, min(most, end - first)).round().astype(int))


class _SheetMaker:
    """Collects what is shown of one particle, tomogram after tomogram."""

    def __init__(self, particle: Particle, finest_spacing_angstrom: float, picks: pd.DataFrame) -> None:
        self.particle = particle
        self.box = Box.of(particle.radius_angstrom, finest_spacing_angstrom)
        self.picks, self.value_name = sorted_by_value(picks)
        self.groups = shown_groups(len(picks))
        self._shown = set(np.concatenate(self.groups).tolist())
        self._averaged = set(evenly_spaced(0, len(picks), MOST_AVERAGED).tolist()) if len(picks) else set()
        self._positions = table_coordinates_zyx(self.picks)
        self.wanted: dict[str, list[int]] = defaultdict(list)
        names = self.picks["experiment"].tolist()
        for row in sorted(self._shown | self._averaged):
            self.wanted[names[row]].append(row)
        self._cutouts: dict[int, Cutout] = {}
        self._sum = np.zeros((self.box.samples,) * 3)
        self._known = np.zeros((self.box.samples,) * 3, dtype=int)
        self._profiles: list[np.ndarray] = []
        self._cut_off = 0

    def cut(self, tomogram: GalleryTomogram, voxels: np.ndarray, middle: float, deviation: float) -> None:
        for row in self.wanted.get(tomogram.name, ()):
            cube = cut_out(voxels, tomogram.voxel_spacing_zyx_angstrom, self._positions[row], self.box)
            cube = (cube - middle) / deviation
            if row in self._shown:
                self._cutouts[row] = Cutout(*(central_slice(cube, self.box, axis) for axis in (0, 1)))
            if row in self._averaged:
                self._add_to_mean(cube)

    def _add_to_mean(self, cube: np.ndarray) -> None:
        if not self.box.holds_particle(cube):
            self._cut_off += 1
            return
        known = np.isfinite(cube)
        self._sum += np.where(known, cube, 0)
        self._known += known
        self._profiles.append(self.box.radial_profile(cube))

    def sheet(self) -> ParticleSheet:
        count = len(self._profiles)
        mean = np.where(self._known, self._sum / np.maximum(self._known, 1), np.nan)
        return ParticleSheet(
            self.particle,
            self.box,
            self.picks,
            self.value_name,
            self.groups,
            self._cutouts,
            mean if count else None,
            np.array(self._profiles).reshape(count, len(self.box.shell_radii_angstrom)),
            self._cut_off,
        )
