"""Pictures of a campaign's report."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.campaign.results import Curve, ExperimentResult
from evaluation.report.style import INK, QUIET, WIDTH, picture
from metrics.fbeta import BETA
from metrics.statistics import Interval
from particle_config import Particle

LABEL_LENGTH = 56  # characters beside a row


@dataclass(frozen=True)
class Drawn:
    """A configuration as it is drawn: its rank and label, its colour, and its confidence interval."""

    label: str
    colour: str
    result: ExperimentResult
    interval: Interval


@picture
def ranking(drawn: Sequence[Drawn]) -> Figure:
    """Pooled F4 with its interval, the mean over tomograms, and each fold's own score."""
    figure = Figure(figsize=(WIDTH, 0.9 + 0.36 * len(drawn)), layout="constrained")
    axes = figure.subplots()
    for row, one in enumerate(drawn):
        score = one.result.score
        axes.plot([one.interval.low, one.interval.high], [row, row], color=one.colour, lw=2.2, solid_capstyle="butt")
        axes.plot(score.weighted, row, "o", ms=8, color=one.colour, zorder=3)
        axes.plot(score.mean_over_runs, row, "D", ms=6, mfc="white", mec=one.colour, mew=1.4, zorder=3)
        folds = list(one.result.fold_scores.values())
        axes.plot(folds, [row] * len(folds), "|", ms=11, mew=1.3, color=QUIET, zorder=2)
    _label_rows(axes, drawn)
    axes.set_xlabel("weighted F4")
    pooled = (
        {"lw": 2.2, "label": "pooled over tomograms, 95 % interval"}
        if drawn[0].interval.known
        else {"lw": 0, "label": "pooled over tomograms"}
    )
    handles = [
        Line2D([], [], color=INK, marker="o", ms=7, **pooled),
        Line2D([], [], color=INK, marker="D", mfc="white", ms=6, lw=0, label="mean over tomograms"),
    ]
    if any(one.result.fold_scores for one in drawn):
        handles.append(Line2D([], [], color=QUIET, marker="|", ms=11, mew=1.3, lw=0, label="each fold"))
    figure.legend(handles=handles, loc="outside upper right", ncols=3)
    return figure


@picture
def particle_bars(drawn: Sequence[Drawn], particles: Sequence[Particle]) -> Figure:
    """F4 of every particle, a bar per configuration."""
    figure, panels = _panels(particles, height=1.9)
    for panel, particle in zip(panels, particles, strict=True):
        values = [one.result.score.per_particle.loc[particle.name, "f4"] for one in drawn]
        bars = panel.bar(range(len(drawn)), values, width=0.72, color=[one.colour for one in drawn])
        panel.bar_label(bars, [f"{value:.2f}" for value in values], padding=2, fontsize=9, color=INK)
        panel.set(xticks=[], xlim=(-0.7, len(drawn) - 0.3), ylim=(0, 1.1), yticks=(0, 0.5, 1))
        panel.grid(axis="x", visible=False)
    _label_left(panels, "F4")
    return figure


@picture
def threshold_curves(drawn: Sequence[Drawn], particles: Sequence[Particle], threshold_name: str) -> Figure:
    """F4 of every particle over the threshold, with the threshold that was used."""
    figure, panels = _panels(particles, height=2.1)
    for panel, particle in zip(panels, particles, strict=True):
        for one, curve in _curves(drawn, particle):
            panel.plot(curve.thresholds, curve.f4, color=one.colour, lw=1.6)
            _mark_chosen(panel, curve, curve.thresholds, curve.f4, one.colour, guide=True)
        panel.set(ylim=(0, 1.03), yticks=(0, 0.5, 1))
        panel.set_xlim(left=0)
    _label_left(panels, "F4")
    _label_bottom(panels, threshold_name.replace("_", " "))
    return figure


@picture
def precision_recall(drawn: Sequence[Drawn], particles: Sequence[Particle]) -> Figure:
    """Precision over recall, on lines of equal F4."""
    figure, panels = _panels(particles, height=2.3)
    recall, precision = np.meshgrid(np.linspace(0.002, 1, 120), np.linspace(0.002, 1, 120))
    f4 = (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)
    for panel, particle in zip(panels, particles, strict=True):
        lines = panel.contour(
            recall, precision, f4, levels=[level / 10 for level in range(1, 10)], colors="#cfd6de", linewidths=0.7
        )
        # Where the lines of F4 0.5, 0.7 and 0.9 cross a precision of a half.
        panel.clabel(lines, fontsize=8, colors=QUIET, manual=[(0.5, 0.5), (0.72, 0.5), (0.947, 0.5)])
        panel.grid(visible=False)
        for one, curve in _curves(drawn, particle):
            panel.plot(curve.recall, curve.precision, color=one.colour, lw=1.6)
            _mark_chosen(panel, curve, curve.recall, curve.precision, one.colour, guide=False)
        panel.set(xlim=(0, 1.02), ylim=(0, 1.03), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    _label_left(panels, "precision")
    _label_bottom(panels, "recall")
    return figure


@picture
def position_errors(drawn: Sequence[Drawn], particles: Sequence[Particle]) -> Figure:
    """Root mean squared offset of picks from their references along z and in the plane."""
    figure = Figure(figsize=(WIDTH, 0.9 + 0.42 * len(particles)), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    spread = np.linspace(-0.25, 0.25, len(drawn)) if len(drawn) > 1 else [0.0]
    for panel, column, title in zip(panels, ("rms_z", "rms_xy"), ("along z", "in x and y, per axis"), strict=True):
        for one, shift in zip(drawn, spread, strict=True):
            errors = one.result.position_errors.reindex([particle.name for particle in particles])[column]
            panel.plot(errors, np.arange(len(particles)) + shift, "o", ms=6.5, color=one.colour)
        panel.set(title=title, xlabel="root mean squared error (angstrom)")
        panel.set(yticks=range(len(particles)), yticklabels=[particle.name for particle in particles])
        panel.set(ylim=(len(particles) - 0.5, -0.5))
        panel.grid(axis="y", visible=False)
    panels[0].set_xlim(left=0)
    return figure


@picture
def timings(drawn: Sequence[Drawn]) -> Figure:
    """Seconds per tomogram, stage after stage."""
    stages = list(dict.fromkeys(stage for one in drawn for stage in one.result.seconds_per_tomogram))
    greys = ("#34495e", "#7f9bb5", "#b9c8d6", "#dfe6ec", "#f0c987", "#c98b4a")
    figure = Figure(figsize=(WIDTH, 0.9 + 0.36 * len(drawn)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(drawn))
    for number, stage in enumerate(stages):
        seconds = np.array([one.result.seconds_per_tomogram.get(stage, 0.0) for one in drawn])
        axes.barh(range(len(drawn)), seconds, 0.62, left=left, color=greys[number % len(greys)], label=stage)
        left += seconds
    for row, total in enumerate(left):
        axes.annotate(f"{total:.3g} s", (total, row), (4, 0), textcoords="offset points", va="center", fontsize=9)
    _label_rows(axes, drawn)
    axes.set(xlabel="seconds per tomogram", xlim=(0, 1.08 * left.max()))
    figure.legend(loc="outside upper right", ncols=len(stages))
    return figure


def _label_rows(axes: Axes, drawn: Sequence[Drawn]) -> None:
    # What tells two rows apart often stands at the end of the label.
    labels = [textwrap.fill(one.label, LABEL_LENGTH, max_lines=2, placeholder=" ...") for one in drawn]
    axes.set(yticks=range(len(drawn)), ylim=(len(drawn) - 0.4, -0.6))
    axes.set_yticklabels(labels, fontsize=8, linespacing=1.05)
    axes.grid(axis="y", visible=False)


def _panels(particles: Sequence[Particle], height: float) -> tuple[Figure, list[Axes]]:
    """A panel per particle, three in a row."""
    columns = min(3, len(particles))
    rows = -(-len(particles) // columns)
    figure = Figure(figsize=(WIDTH, 0.2 + height * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for panel, particle in zip(panels, particles, strict=False):
        weight = f"weight {particle.score_weight:g}" if particle.score_weight else "not scored"
        panel.set_title(particle.name)
        panel.set_title(weight, loc="right", fontsize=9, fontweight="normal", color=QUIET)
    for panel in panels[len(particles) :]:
        panel.remove()
    return figure, panels[: len(particles)]


def _curves(drawn: Sequence[Drawn], particle: Particle) -> list[tuple[Drawn, Curve]]:
    found = [(one, one.result.curves.get(particle.name)) for one in drawn]
    return [(one, curve) for one, curve in found if curve is not None and len(curve.thresholds)]


def _mark_chosen(panel: Axes, curve: Curve, x: np.ndarray, y: np.ndarray, colour: str, guide: bool) -> None:
    """At the chosen threshold; nothing is kept above the highest one."""
    rising = slice(None, None, -1)
    at_x, at_y = (np.interp(curve.chosen, curve.thresholds[rising], value[rising], right=0.0) for value in (x, y))
    if guide:
        at_x = curve.chosen
        panel.vlines(at_x, 0, at_y, color=colour, lw=0.8, ls=(0, (2, 2)))
    panel.plot(at_x, at_y, "o", ms=6, mfc=colour, mec="white", mew=1.0, zorder=3)


def _label_left(panels: Sequence[Axes], text: str) -> None:
    for panel in panels:
        if panel.get_subplotspec().is_first_col():
            panel.set_ylabel(text)


def _label_bottom(panels: Sequence[Axes], text: str) -> None:
    for panel in panels:
        if panel.get_subplotspec().is_last_row():
            panel.set_xlabel(text)
