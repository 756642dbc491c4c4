"""Picture of a search: F4 against the threshold for every particle, the chosen point marked."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from data.drawing import names_as_written
from data.files import atomic_path
from detection.grid import GLOBAL, SUPPRESSION, Grid
from detection.search_result import ALL, SearchResult
from postprocessing import METHODS

COLUMNS = 3
MOST_TICKS = 7
# Values of the first keyword are told apart by shade, those of the second by dashes.
SHADES = colormaps["viridis"]
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1)))
SMOOTHED = {"color": "0.15", "lw": 1.2, "ls": (0, (1, 1))}
OUTLINE = [patheffects.Stroke(linewidth=4, foreground="0.15"), patheffects.Normal()]


@names_as_written
def save_search_curves(path: Path, result: SearchResult) -> Path:
    """One panel for each particle, and one for all together where one set of values serves all; the path.

    Lines are the structural settings at the chosen suppression radius; for methods without any, the suppression radii.
    """
    names = [*result.counts, *([ALL] if result.settings.strategy == GLOBAL else [])]
    rows = math.ceil(len(names) / COLUMNS)
    figure = Figure(figsize=(13, 3.5 * rows + 1.0), layout="constrained")
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    colours = {particle.name: particle.colour for particle in result.particles}
    for panel, name in zip(panels, names, strict=False):
        _draw(panel, result, name, colours.get(name, "white"))
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    runs = ", ".join(result.run_names) if len(result.run_names) <= 4 else f"{len(result.run_names)} tomograms"
    figure.suptitle(f"{result.settings.grid.method}, {result.settings.strategy}: searched on {runs}", fontsize=13)
    figure.legend(handles=_handles(result), loc="outside lower center", ncols=9, frameon=False, fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    return path


def _draw(panel: Axes, result: SearchResult, name: str, colour: str) -> None:
    grid, values = result.settings.grid, result.pooled_f4(name)
    thresholds = np.array(grid.values[grid.threshold_keyword])
    chosen = next(iter(result.chosen.values())) if name == ALL else result.chosen[name]
    point = chosen or (0,) * values.ndim
    axes = [grid.keywords.index(keyword) for keyword in _line_keywords(result)]
    marker = "o" if len(thresholds) == 1 else None
    for numbers in np.ndindex(*(grid.shape[axis] for axis in axes)):
        line = list(point[:-1])
        for axis, number in zip(axes, numbers, strict=True):
            line[axis] = number
        panel.plot(thresholds, values[tuple(line)], lw=1, marker=marker, ms=4, **_look(result, numbers))
    title = "all, weighted" if name == ALL else name
    if chosen is None:
        panel.set_title(f"{title}: no hit, the default stays", fontsize=10, loc="left")
    else:
        panel.plot(thresholds, values[point[:-1]], color=colour, lw=2.6, path_effects=OUTLINE, zorder=3)
        panel.plot(thresholds, result.smoothed_f4[name][point[:-1]], zorder=4, **SMOOTHED)
        x, y = thresholds[point[-1]], values[point]
        panel.plot([x], [y], marker="o", ms=10, mfc=colour, mec="0.15", mew=1.8, ls="", zorder=5)
        panel.set_title(f"{title}: F4 {y:.3f}\nat {x:g} with {_setting(grid, point)}", fontsize=10, loc="left")
    panel.set(ylim=(-0.02, 1.04), xlabel=grid.threshold_keyword, ylabel="pooled F4")
    panel.grid(alpha=0.25)
    _set_ticks(panel, thresholds)


def _line_keywords(result: SearchResult) -> tuple[str, ...]:
    return METHODS[result.settings.grid.method].structural or (SUPPRESSION,)


def _setting(grid: Grid, point: Sequence[int]) -> str:
    """The structural values and the suppression radius."""
    pairs = zip(grid.keywords[:-1], point, strict=False)
    return ", ".join(f"{_short(keyword)} {grid.values[keyword][i]:g}" for keyword, i in pairs)


def _short(keyword: str) -> str:
    return keyword.split("_")[0]


def _look(result: SearchResult, numbers: Sequence[int]) -> dict:
    """Colour and dashes of the line with these numbers of the line keywords' values."""
    first = len(result.settings.grid.values[_line_keywords(result)[0]])
    dashes = DASHES[numbers[1] % len(DASHES)] if len(numbers) > 1 else "-"
    return {"color": SHADES(0.9 * numbers[0] / max(first - 1, 1)), "ls": dashes}


def _handles(result: SearchResult) -> list[Line2D]:
    keywords, grid = _line_keywords(result), result.settings.grid
    handles = [
        Line2D([], [], label=f"{_short(keywords[0])} {value:g}", **_look(result, (number,)))
        for number, value in enumerate(grid.values[keywords[0]])
    ]
    for keyword in keywords[1:]:
        handles += [
            Line2D([], [], label=f"{_short(keyword)} {value:g}", **{**_look(result, (0, number)), "color": "0.4"})
            for number, value in enumerate(grid.values[keyword])
        ]
    chosen = Line2D([], [], color="0.8", lw=2.6, path_effects=OUTLINE, marker="o", ms=9, mec="0.15", mew=1.5)
    chosen.set_label("chosen")
    return [*handles, chosen, Line2D([], [], label="chosen, smoothed", **SMOOTHED)]


def _set_ticks(panel: Axes, thresholds: np.ndarray) -> None:
    """Logarithmic where it can be, with some of the grid's own values named."""
    if thresholds[0] > 0 and len(thresholds) > 1:
        panel.set_xscale("log")
    positions = np.log(thresholds) if panel.get_xscale() == "log" else thresholds
    ticks = [0]
    for number in range(1, len(positions)):
        if positions[number] - positions[ticks[-1]] >= (positions[-1] - positions[0]) / MOST_TICKS:
            ticks.append(number)
    panel.set_xticks(thresholds[ticks], [f"{value:g}" for value in thresholds[ticks]])
    panel.xaxis.set_minor_locator(NullLocator())
