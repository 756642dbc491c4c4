"""What the writers of all formats are given: tomograms with their picks, the particles, and their tilt series."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from data.names import check_name
from data.picks import Picks, picks_table
from data.tomogram import Tomogram
from errors import InputError
from formats.tomogram_names import match_run, series_name
from particle_config import Particle

# A box must hold the particle and what the defocus spreads around it: 1.5 times its diameter.
BOX_PER_RADIUS = 3.0
EXTENT_TOLERANCE = 0.05  # beyond what the rounding of binned sizes explains
BOX_MULTIPLE = 8  # voxels; sizes that all programs transform fast


@dataclass(frozen=True)
class PickedTomogram:
    """A tomogram as it is in its file, and the picks in it.

    Attributes
    ----------
    name : of the run.
    path : the file.
    shape_zyx : voxels.
    voxel_size_zyx_angstrom : voxel i lies at i times this size.
    picks : one for each particle; coordinates (N, 3) zyx in angstrom from the centre of the first voxel.
    """

    name: str
    path: Path
    shape_zyx: tuple[int, int, int]
    voxel_size_zyx_angstrom: tuple[float, float, float]
    picks: tuple[Picks, ...]

    @classmethod
    def of(cls, name: str, tomogram: Tomogram, picks: Sequence[Picks]) -> "PickedTomogram":
        """Picks found in a tomogram, which may have been resampled in reading: formats count voxels of the file."""
        shape, voxel_size = tomogram.file_grid
        return cls(name, tomogram.path.absolute(), shape, voxel_size, tuple(picks))

    @property
    def is_zarr(self) -> bool:
        return self.path.suffix == ".zarr"

    @property
    def size_xyz(self) -> tuple[int, int, int]:
        return self.shape_zyx[::-1]

    @property
    def voxel_size_angstrom(self) -> float:
        """Along x, for formats and programs that know cubes alone."""
        return self.voxel_size_zyx_angstrom[2]

    @property
    def extent_xyz_angstrom(self) -> np.ndarray:
        return np.array(self.size_xyz) * self.voxel_size_zyx_angstrom[::-1]

    def voxels_xyz(self, picks: Picks) -> np.ndarray:
        """(N, 3) xyz in voxels, 0 at the centre of the first one."""
        return picks.coordinates_zyx_angstrom[:, ::-1] / self.voxel_size_zyx_angstrom[::-1]


@dataclass(frozen=True)
class TiltSeries:
    """What RELION, Warp and EMAN2 know of the tilt series that a tomogram is made of.

    Attributes
    ----------
    name : by which the programs know it.
    pixel_size_angstrom : of the unbinned images; None where it is not known.
    size_xyz_pixels : of the unbinned volume.
    optics : columns of RELION's optics table, as in tomograms.star.
    binning : of RELION's tomogram; None where it is not known.
    """

    name: str
    pixel_size_angstrom: float | None = None
    size_xyz_pixels: tuple[float, float, float] | None = None
    optics: Mapping[str, object] = field(default_factory=dict)
    binning: float | None = None

    @property
    def tomogram_spacing_angstrom(self) -> float | None:
        return self.pixel_size_angstrom * self.binning if self.pixel_size_angstrom and self.binning else None

    @property
    def size_xyz_angstrom(self) -> tuple[float, float, float] | None:
        if self.size_xyz_pixels is None or self.pixel_size_angstrom is None:
            return None
        return tuple(size * self.pixel_size_angstrom for size in self.size_xyz_pixels)


@dataclass(frozen=True)
class Export:
    """All picks to be written.

    Attributes
    ----------
    tomograms : their order numbers them in formats that have numbers only.
    particles : name, radius, label and colour of every particle that was looked for.
    series : tilt series by the name of the tomogram, see :func:`tilt_series_of`.
    tomograms_star : of the RELION project, where it is known.
    """

    tomograms: tuple[PickedTomogram, ...]
    particles: tuple[Particle, ...]
    series: Mapping[str, TiltSeries]
    tomograms_star: Path | None = None

    def of_tomogram(self, tomogram: PickedTomogram) -> list[tuple[Particle, Picks]]:
        """The particles that were found in a tomogram."""
        by_name = {picks.particle_name: picks for picks in tomogram.picks}
        found = [(p, by_name[p.name]) for p in self.particles if p.name in by_name]
        return [(p, picks) for p, picks in found if len(picks.coordinates_zyx_angstrom)]

    def of_particle(self, particle: Particle) -> list[tuple[PickedTomogram, Picks]]:
        """The tomograms that a particle was found in."""
        return [(t, picks) for t in self.tomograms for p, picks in self.of_tomogram(t) if p == particle]

    def found(self) -> Iterator[tuple[Particle, list[tuple[PickedTomogram, Picks]]]]:
        """The particles that were found at all, with their tomograms."""
        for particle in self.particles:
            if there := self.of_particle(particle):
                yield particle, there

    def example_tomogram(self) -> PickedTomogram | None:
        """The one with most picks, which commands are shown for; None without tomograms."""
        return max(self.tomograms, key=lambda t: sum(_count(p) for _, p in self.of_tomogram(t)), default=None)

    def example_particle(self) -> Particle | None:
        """The one with most picks, None where nothing was found."""
        counts = {particle: sum(_count(picks) for _, picks in there) for particle, there in self.found()}
        return max(counts, key=counts.get, default=None)

    def table(self, tomogram: PickedTomogram) -> pd.DataFrame:
        """The picks of a tomogram as rows, see data.picks.picks_table."""
        tables = [
            picks_table(
                tomogram.name,
                particle.name,
                picks.coordinates_zyx_angstrom,
                picks.scores,
                picks.uncertainties,
                picks.sizes_voxels,
                picks.confidences,
            )
            for particle, picks in self.of_tomogram(tomogram)
        ]
        return pd.concat(tables, ignore_index=True) if tables else picks_table(tomogram.name, "", np.empty((0, 3)))


def _count(picks: Picks) -> int:
    return len(picks.coordinates_zyx_angstrom)


def scores_of(picks: Picks) -> np.ndarray:
    """(N,) scores; 0 where there are none, for formats whose column must be filled."""
    return np.zeros(_count(picks)) if picks.scores is None else np.asarray(picks.scores, dtype=np.float64)


def box_size(radius_angstrom: float, pixel_size_angstrom: float) -> int:
    """Side of a box for a particle in pixels: 1.5 times its diameter, rounded up to a multiple of 8."""
    return math.ceil(BOX_PER_RADIUS * radius_angstrom / pixel_size_angstrom / BOX_MULTIPLE) * BOX_MULTIPLE


def colour_fractions(particle: Particle) -> tuple[float, float, float]:
    """Red, green and blue from 0 to 1."""
    return tuple(int(particle.colour[start : start + 2], 16) / 255 for start in (1, 3, 5))


# --- Tilt series --------------------------------------------------------------------------------------
def tilt_series_of(
    tomograms: Sequence[PickedTomogram],
    *,
    known: Mapping[str, TiltSeries] | None = None,
    unbinned_pixel_size_angstrom: float | None = None,
    binning: float | None = None,
    name_template: str | None = None,
) -> dict[str, TiltSeries]:
    """Tilt series by the names of their tomograms.

    Parameters
    ----------
    known : those of a tomograms.star (formats.star.read_tilt_series), one of which each tomogram must be.
    unbinned_pixel_size_angstrom, binning : of the tilt series; how much the tomograms are binned against them.
    name_template : name of the tilt series, with ``{name}`` for that of the tomogram; default: that without what
        reconstruction programs add (``TS_01`` of ``rec_TS_01_10.00Apx``).

    Raises
    ------
    InputError : options that contradict each other, a template that has no {name}, a tomogram that is not known, or
        two tomograms of one tilt series.
    """
    if sum(given is not None for given in (known, unbinned_pixel_size_angstrom, binning)) > 1:
        raise InputError("--tomograms_star, --unbinned_pixel_size and --binning say the same thing; give one")
    series: dict[str, TiltSeries] = {}
    for tomogram in tomograms:
        name = series_name(tomogram.name) if name_template is None else _filled_in(name_template, tomogram.name)
        pixel_size = tomogram.voxel_size_angstrom / binning if binning else unbinned_pixel_size_angstrom
        one = TiltSeries(name, pixel_size) if known is None else _known_series(name, tomogram, known)
        if other := next((key for key, value in series.items() if value.name == one.name), None):
            raise InputError(
                f"tomograms {other} and {tomogram.name} are both of tilt series {one.name!r}; "
                "leave one out, or tell their names apart with --tomo_name_template"
            )
        series[tomogram.name] = one
        _compare_extents(tomogram, one)
    return series


def _compare_extents(tomogram: PickedTomogram, series: TiltSeries) -> None:
    """Warn of a tomogram that is not the whole volume: coordinates count from the middle of that."""
    if series.size_xyz_angstrom is None:
        return
    ratio = tomogram.extent_xyz_angstrom / series.size_xyz_angstrom
    if np.abs(ratio - 1).max() > EXTENT_TOLERANCE:
        here, there = (
            " x ".join(f"{n:.0f}" for n in s) for s in (tomogram.extent_xyz_angstrom, series.size_xyz_angstrom)
        )
        warnings.warn(
            f"{tomogram.name} is {here} angstrom (x, y, z), in tomograms.star {there}; if it was cut out or turned, "
            "its picks will lie elsewhere in RELION",
            stacklevel=3,
        )


def _filled_in(template: str, name: str) -> str:
    if "{name}" not in template:
        raise InputError(f"--tomo_name_template {template!r} has no {{name}}; write for instance 'TS_{{name}}'")
    filled = template.replace("{name}", name)
    check_name(filled, "--tomo_name_template: the name of tilt series", "give another template")
    return filled


def _known_series(name: str, tomogram: PickedTomogram, known: Mapping[str, TiltSeries]) -> TiltSeries:
    found = match_run(name, tomogram.path, list(known))
    if found is None:
        names = ", ".join(sorted(known)[:5]) + (" ..." if len(known) > 5 else "")
        raise InputError(
            f"tomogram {tomogram.name} is not in tomograms.star, whose names are {names}; "
            "say how they are made with --tomo_name_template"
        )
    return known[found]
