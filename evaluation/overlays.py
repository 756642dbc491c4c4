"""Pictures of a tomogram with its picks: hits, false picks and misses told apart, and counted as the score counts.

Of several picks near one reference that of the highest score is drawn as the hit, the others as false picks.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from data.drawing import names_as_written
from data.files import atomic_path
from data.picks import table_coordinates_zyx
from metrics.fbeta import MATCH_RADIUS_FRACTION, best_candidates, match_counts
from particle_config import Particle

# Averaged over this thickness, a slice shows what the eye would not see in one voxel.
SLAB_ANGSTROM = 70.0
HIT, FALSE, MISSED, PICK = "hit", "false", "missed", "pick"
LINE_STYLES = {HIT: "-", PICK: "-", FALSE: (0, (3, 1.2)), MISSED: "-"}
LINE_WIDTHS = {HIT: 1.8, PICK: 1.5, FALSE: 1.5, MISSED: 1.3}
# Told apart on grey by every eye, also by one that does not tell red from green.
KIND_COLOURS = {HIT: "#56b4e9", FALSE: "#ff6a3d", MISSED: "#f0e442"}
KIND_NAMES = {HIT: "hit", FALSE: "false pick", MISSED: "missed"}


@names_as_written
def save_overlay(
    path: Path,
    volume: np.ndarray,
    *,
    picks: pd.DataFrame,
    truth: pd.DataFrame | None,
    voxel_spacing_angstrom: float,
    particles: Sequence[Particle],
    title: str,
    colour_by_kind: bool = False,
) -> Path:
    """Picture of the slices with most picks: xy and xz, bare and with the picks; the title has the score's counts.

    Parameters
    ----------
    path : its suffix names the format, such as .png or .jpg
    volume : (Z, Y, X) tomogram
    picks, truth : tables with particle_type, x, y, z (angstrom), the picks with their score; without truth every pick
        is drawn alike
    colour_by_kind : hits, false picks and misses in three colours, rather than each particle in its own

    Returns
    -------
    The path, written at once or not at all.
    """
    marks, counts = _marks(picks, truth, particles)
    depth, height, width = volume.shape
    figure, axes = plt.subplots(
        2,
        2,
        figsize=(13, 13 * (0.5 * (height + depth) / width) + 1.3),
        height_ratios=[height, depth],
        layout="constrained",
    )
    for row, axis in ((axes[0], 0), (axes[1], 1)):
        centre = _busiest_slice(marks, axis, volume.shape[axis], voxel_spacing_angstrom)
        image = _slab(volume, axis, centre, voxel_spacing_angstrom)
        names = ("x", "y") if axis == 0 else ("x", "z")
        for panel in row:
            _show(panel, image, voxel_spacing_angstrom, names)
        where = centre * voxel_spacing_angstrom
        row[0].set_title(f"{'z' if axis == 0 else 'y'} = {where / 10:.0f} nm", fontsize=10, loc="left")
        _draw(row[1], marks, axis, where, particles, colour_by_kind)
    figure.suptitle(_headline(title, marks, counts), fontsize=13)
    handles = _kind_handles(counts) if colour_by_kind else _particle_handles(counts, particles)
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
    return path


def _marks(
    picks: pd.DataFrame, truth: pd.DataFrame | None, particles: Sequence[Particle]
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """One row per thing to draw: particle, kind, z, y, x in angstrom; and the number of each kind for each particle.

    The numbers are the score's, with a row for each particle and a column for each kind; None without truth. A pick
    that reaches two references is drawn as one hit and counted as two, see metrics.fbeta.match_counts.
    """
    rows, counts = [], []
    for particle in particles:
        of_particle = picks[picks["particle_type"] == particle.name]
        found = table_coordinates_zyx(of_particle)
        if truth is None:
            rows += [(particle.name, PICK, *point) for point in found]
            continue
        true = table_coordinates_zyx(truth[truth["particle_type"] == particle.name])
        radius = MATCH_RADIUS_FRACTION * particle.radius_angstrom
        best = best_candidates(found, of_particle["score"].to_numpy(), true, radius)
        rows += [(particle.name, HIT if index in best else FALSE, *point) for index, point in enumerate(found)]
        rows += [(particle.name, MISSED, *point) for point in true[best < 0]]
        counts.append(match_counts(found, true, radius))
    marks = pd.DataFrame(rows, columns=["particle", "kind", "z", "y", "x"])
    names = [particle.name for particle in particles]
    return marks, None if truth is None else pd.DataFrame(counts, index=names, columns=[HIT, FALSE, MISSED])


def _busiest_slice(marks: pd.DataFrame, axis: int, length: int, spacing: float) -> int:
    """The slice of that axis with most marks near it, of equals the nearest to them; the middle one without marks."""
    if marks.empty:
        return length // 2
    positions = marks["zyx"[axis]].to_numpy() / spacing
    reach = SLAB_ANGSTROM / spacing
    distances = np.abs(np.arange(length)[:, None] - positions[None, :])
    inside = distances <= reach
    closeness = np.where(inside, 1 - distances / reach, 0).mean(axis=1)  # below 1: it decides among equals alone
    return int(np.argmax(inside.sum(axis=1) + closeness / 2))


def _slab(volume: np.ndarray, axis: int, centre: int, spacing: float) -> np.ndarray:
    half = max(0, round(SLAB_ANGSTROM / spacing / 2))
    return np.take(volume, range(max(0, centre - half), min(volume.shape[axis], centre + half + 1)), axis).mean(axis)


def _show(panel, image: np.ndarray, spacing: float, names: tuple[str, str]) -> None:
    low, high = np.percentile(image, (1, 99))
    height, width = image.shape
    extent = (
        -0.5 * spacing / 10,
        (width - 0.5) * spacing / 10,
        -0.5 * spacing / 10,
        (height - 0.5) * spacing / 10,
    )
    panel.imshow(image, cmap="gray", vmin=low, vmax=high, origin="lower", extent=extent)
    panel.autoscale(False)  # circles that reach beyond the border do not shrink the picture
    panel.set_xlabel(f"{names[0]} (nm)")
    panel.set_ylabel(f"{names[1]} (nm)")


def _draw(panel, marks: pd.DataFrame, axis: int, where_angstrom: float, particles, colour_by_kind: bool) -> None:
    """Circles where the slice cuts the particles' spheres; a cross as well where one was missed."""
    across, up = ("x", "y") if axis == 0 else ("x", "z")
    for particle in particles:
        rows = marks[marks["particle"] == particle.name]
        offsets = rows["zyx"[axis]].to_numpy() - where_angstrom
        cut = np.sqrt(np.clip(particle.radius_angstrom**2 - offsets**2, 0, None))
        for (_, row), radius in zip(rows.iterrows(), cut, strict=True):
            if radius < 0.3 * particle.radius_angstrom:
                continue
            kind, centre = row["kind"], (row[across] / 10, row[up] / 10)
            colour = KIND_COLOURS.get(kind, particle.colour) if colour_by_kind else particle.colour
            edge = "white" if kind == MISSED and not colour_by_kind else colour
            style = {"lw": LINE_WIDTHS[kind], "ls": LINE_STYLES[kind], "edgecolor": edge}
            panel.add_patch(Circle(centre, radius / 10, fill=False, **style))
            if kind == MISSED:
                panel.plot(*centre, marker="x", ms=6, mew=1.6, color=colour)


def _headline(title: str, marks: pd.DataFrame, counts: pd.DataFrame | None) -> str:
    if counts is None:
        return f"{title}: {len(marks)} picks"
    total = counts.sum()
    return f"{title}: {total[HIT]} hits, {total[FALSE]} false picks, {total[MISSED]} missed"


def _particle_handles(counts: pd.DataFrame | None, particles: Sequence[Particle]) -> list[Line2D]:
    texts = {particle.name: particle.name for particle in particles}
    if counts is not None:
        texts = {row.Index: f"{row.Index} ({row.hit}/{row.hit + row.missed})" for row in counts.itertuples()}
    handles = [Line2D([], [], color=particle.colour, lw=2.5, label=texts[particle.name]) for particle in particles]
    if counts is not None:
        handles += [_kind_handle(kind, "0.35", KIND_NAMES[kind]) for kind in KIND_NAMES]
    return handles


def _kind_handles(counts: pd.DataFrame | None) -> list[Line2D]:
    return [
        _kind_handle(kind, colour, f"{KIND_NAMES[kind]} ({0 if counts is None else counts[kind].sum()})")
        for kind, colour in KIND_COLOURS.items()
    ]


def _kind_handle(kind: str, colour: str, text: str) -> Line2D:
    if kind == MISSED:
        return Line2D([], [], color=colour, lw=0, marker="x", mew=1.8, label=text)
    return Line2D([], [], color=colour, lw=1.8, ls=LINE_STYLES[kind], label=text)
