"""A picture of a mask: two slices of the tomogram with contours and annotations."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from skimage.measure import find_contours

from data.drawing import names_as_written
from data.files import atomic_path
from particle_config import PARTICLES, Particle

# Summed over a few slices the particles rise above the noise; about the radius of the smallest.
SLAB_ANGSTROM = 60.0
INK, PAPER = "#1b1f24", "#ffffff"


@names_as_written
def save_mask_preview(
    path: str | Path,
    *,
    run_name: str,
    tomogram: np.ndarray,
    mask: np.ndarray,
    picks: Mapping[str, np.ndarray],
    voxel_spacing_angstrom: float,
    particles: Iterable[Particle] = PARTICLES,
) -> None:
    """Write a PNG: the xy slice and the xz slice that cut most particles, with contours of the mask.

    Parameters
    ----------
    tomogram, mask : (Z, Y, X), float and uint8 labels.
    picks : particle name -> (N, 3) zyx in angstrom; a cross marks each whose centre is near the slice.
    """
    present = [p for p in particles if len(picks.get(p.name, ()))]
    centres = {p.name: np.asarray(picks[p.name]) / voxel_spacing_angstrom for p in present}
    # Counted as cut by a slice: particles cut well inside even the smaller masks.
    reach = {p.name: 0.3 * p.radius_angstrom / voxel_spacing_angstrom for p in present}
    half_slab = round(SLAB_ANGSTROM / voxel_spacing_angstrom / 2)
    figure, axes_of = _layout(tomogram.shape)
    for axis, axes in axes_of.items():
        index = _richest_slice(centres, reach, axis, tomogram.shape[axis])
        slab = range(max(0, index - half_slab), min(tomogram.shape[axis], index + half_slab + 1))
        _draw_slice(axes, np.take(tomogram, slab, axis=axis).mean(axis=axis))
        for particle in present:
            _draw_contours(axes, np.take(mask, index, axis=axis) == particle.label, particle.colour)
            points = centres[particle.name]
            near = points[np.abs(points[:, axis] - index) <= reach[particle.name]]
            vertical = near[:, 1 - axis]  # y in the xy slice, z in the xz slice
            axes.scatter(near[:, 2], vertical, marker="+", s=26, linewidths=1.1, color=particle.colour)
        _draw_frame(axes, axis, index, voxel_spacing_angstrom)
    _draw_scale_bar(axes_of[0], *tomogram.shape[1:], voxel_spacing_angstrom)
    axes_of[0].annotate(run_name, (0, 1), (0, 34), "axes fraction", "offset points", size=17, weight="bold", color=INK)
    _draw_legend(axes_of[0], [_legend_entry(p, len(centres[p.name])) for p in present])
    with atomic_path(path) as temporary:
        figure.savefig(temporary)


def _layout(shape_zyx: tuple[int, ...]) -> tuple[Figure, dict[int, Axes]]:
    """The xy panel (key 0, the axis cut) over the xz panel (key 1) at one scale, a legend's width beside."""
    depth, height, width = shape_zyx
    longest = max(width, height)
    scale = min(max(longest / 50, 7.0), 12.0) / longest  # inches per voxel
    left, right, bottom, gap, top = 0.55, 2.1, 0.5, 0.5, 0.85  # inches
    size = (left + width * scale + right, bottom + (depth + height) * scale + gap + top)
    figure = Figure(figsize=size, facecolor=PAPER, dpi=130)
    frames = {0: (bottom + depth * scale + gap, height * scale), 1: (bottom, depth * scale)}
    return figure, {
        axis: figure.add_axes((left / size[0], low / size[1], width * scale / size[0], high / size[1]))
        for axis, (low, high) in frames.items()
    }


def _richest_slice(centres: Mapping[str, np.ndarray], reach: Mapping[str, float], axis: int, n: int) -> int:
    """The slice that the most particles reach, the one nearest to the middle when several do."""
    slices = np.arange(n)
    counts = np.zeros(n, dtype=int)
    for name, points in centres.items():
        counts += (np.abs(points[:, axis, None] - slices) <= reach[name]).sum(axis=0)
    best = np.flatnonzero(counts == counts.max())
    return int(best[np.argmin(np.abs(best - (n - 1) / 2))])


def _draw_slice(axes: Axes, image: np.ndarray) -> None:
    low, high = np.percentile(image, (0.5, 99.5))
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="bilinear")
    axes.autoscale(False)  # nothing drawn on top widens the panel


def _draw_contours(axes: Axes, inside: np.ndarray, colour: str) -> None:
    # A rim of background closes contours at the border; the index goes back by that one voxel.
    for contour in find_contours(np.pad(inside, 1).astype(float), 0.5):
        axes.plot(contour[:, 1] - 1, contour[:, 0] - 1, color=colour, linewidth=1.4)


def _draw_frame(axes: Axes, axis: int, index: int, voxel_spacing_angstrom: float) -> None:
    plane, name = (("xy", "z"), ("xz", "y"))[axis]
    place = f"{name} = {index} ({index * voxel_spacing_angstrom / 10:.0f} nm)"
    axes.set_title(f"{plane} slice at {place}", loc="left", size=11, color=INK, pad=6)
    axes.set_ylabel(f"{plane[1]} (voxels)", size=9, color=INK)
    if axis == 1:
        axes.set_xlabel("x (voxels)", size=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK, length=3)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_scale_bar(axes: Axes, width: int, height: int, voxel_spacing_angstrom: float) -> None:
    """Above the picture at the right, where it hides nothing."""
    voxels_per_nanometre = 10 / voxel_spacing_angstrom
    fitting = [n for n in (1, 2, 5, 10, 20, 50, 100, 200) if n * voxels_per_nanometre < width / 4]
    nanometres = max(fitting, default=1)
    right, above = width - 0.5, 1.012 * height
    bar = ([right - nanometres * voxels_per_nanometre, right], [above, above])
    axes.plot(*bar, color=INK, linewidth=3, solid_capstyle="butt", clip_on=False)
    axes.text(right, 1.022 * height, f"{nanometres} nm", size=9, color=INK, ha="right", va="bottom")


def _draw_legend(axes: Axes, entries: list[Line2D]) -> None:
    axes.legend(
        handles=entries,
        title="outline: mask\ncross: annotated centre",
        title_fontproperties={"size": 9},
        loc="upper left",
        bbox_to_anchor=(1.0, 1.01),
        alignment="left",
        frameon=False,
        labelcolor=INK,
        labelspacing=0.9,
        fontsize=10,
    )


def _legend_entry(particle: Particle, count: int) -> Line2D:
    label = f"{particle.name}\n{count} annotated"
    return Line2D([], [], color=particle.colour, linewidth=2, marker="+", markersize=8, label=label)
