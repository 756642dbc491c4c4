"""Charts of the gallery: radial density profile, and how confident picks are."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.overlays import FALSE, HIT, KIND_COLOURS
from evaluation.report.style import COLOURS, INK, QUIET, picture

SIZE = (3.75, 2.35)  # inches
SPREAD_PERCENTILES = (10, 90)
BINS = 25
KINDS = {"hit": True, "false": False, "open": None}
COLOURS_OF = {"hit": KIND_COLOURS[HIT], "false": KIND_COLOURS[FALSE], "open": "#8fa3b7"}


@picture
def radial_profile(radii_angstrom: np.ndarray, profiles: np.ndarray, radius_angstrom: float) -> Figure:
    """Mean of the picks' profiles (picks, shells), where 80 % of them lie, and the particle's radius."""
    figure, axes = _chart("Density around the pick")
    known = np.isfinite(profiles).any(axis=0)
    radii_angstrom, profiles = radii_angstrom[known], profiles[:, known]
    low, high = np.nanpercentile(profiles, SPREAD_PERCENTILES, axis=0)
    axes.axhline(0, color=QUIET, lw=0.7)
    axes.axvline(radius_angstrom, color=QUIET, lw=1, ls=(0, (3, 2)))
    axes.fill_between(radii_angstrom, low, high, color=COLOURS[0], alpha=0.16, lw=0)
    axes.plot(radii_angstrom, np.nanmean(profiles, axis=0), color=COLOURS[0], lw=2)
    place = {"xytext": (4, -2), "textcoords": "offset points", "va": "top", "fontsize": 9, "color": QUIET}
    axes.annotate("radius", (radius_angstrom, 1), xycoords=("data", "axes fraction"), **place)
    axes.set(xlim=(0, radii_angstrom[-1]), xlabel="distance from the pick (Å)", ylabel="grey value (s.d.)")
    return figure


@picture
def value_histogram(values: np.ndarray, hits: Sequence[bool | None], name: str) -> Figure:
    """How many picks have which confidence or score; hits and false picks apart where they are known."""
    figure, axes = _chart(f"{name} of the picks".capitalize())
    is_share = values.min() >= 0 and values.max() <= 1
    edges = np.linspace(0, 1, BINS + 1) if is_share else np.histogram_bin_edges(values, BINS)
    groups = {kind: values[[hit is truth for hit in hits]] for kind, truth in KINDS.items()}
    groups = {kind: of for kind, of in groups.items() if len(of)}
    axes.hist(list(groups.values()), edges, stacked=True, color=[COLOURS_OF[kind] for kind in groups])
    axes.set(xlabel=name, ylabel="picks", xlim=(edges[0], edges[-1]))
    axes.grid(axis="x", visible=False)
    axes.yaxis.get_major_locator().set_params(integer=True)
    return figure


def _chart(title: str) -> tuple[Figure, Axes]:
    # Room for labels of four digits: to have it measured takes as long as to draw.
    figure = Figure(figsize=SIZE)
    axes = figure.add_axes((0.17, 0.21, 0.79, 0.67))
    axes.set_title(title, color=INK, fontsize=10)
    return figure, axes
