"""The picture of benchmarks/tta.py: what each group of views gains, and what it costs."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from data.files import atomic_path

# Groups from left to right; the first ones leave the missing wedge in its place.
WEDGE_STAYS, WEDGE_TURNS = ("d2", "d2h"), ("etfinder7", "d4h", "oh")
COLOURS = ("#0072b2", "#d55e00")
SHADE = "0.94"
APART = 0.17  # of the two trainings beside each other
BEST = "the same at the best thresholds"


def save_picture(path: Path, scores: pd.DataFrame) -> Path:
    """One panel per data set: the gain over no views, mean and range over the seeds, for both trainings.

    ``scores`` has the columns data, training, group, views, cost, gain, best_gain.
    """
    names = list(dict.fromkeys(scores["data"]))
    width = max(6.0, 1.2 + 3.9 * len(names))  # of the legend, of the panels
    figure, panels = plt.subplots(
        1, len(names), figsize=(width, 3.7), sharey=True, squeeze=False, layout="constrained", dpi=200
    )
    for panel, name in zip(panels[0], names, strict=True):
        draw_panel(panel, scores[scores["data"] == name])
        panel.set_title(name, fontsize=10)
    panels[0, 0].set_ylabel("F4 gained over no views")
    handles = [
        *panels[0, 0].get_legend_handles_labels()[0],
        Line2D([], [], color="0.3", marker="o", markersize=5, markerfacecolor="white", linestyle="", label=BEST),
        Line2D([], [], color="0.3", linewidth=5, alpha=0.3, label="lowest to highest seed"),
        Patch(color=SHADE, label="views leave the missing wedge in its place"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(3, 1 + len(names)), frameon=False, fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
    plt.close(figure)
    return path


def draw_panel(panel: Axes, scores: pd.DataFrame) -> None:
    groups = [group for group in (*WEDGE_STAYS, *WEDGE_TURNS) if group in set(scores["group"])]
    trainings = list(dict.fromkeys(scores["training"]))
    for index, (training, colour) in enumerate(zip(trainings, COLOURS, strict=False)):
        shift = APART * (2 * index - len(trainings) + 1)
        for place, group in enumerate(groups):
            rows = scores[(scores["training"] == training) & (scores["group"] == group)]
            label = f"trained {training}" if place == 0 else None
            draw_gain(panel, place + shift, rows, colour, label)
    panel.axhline(0, color="black", linewidth=0.8, zorder=1)
    stays = sum(group in WEDGE_STAYS for group in groups)
    if 0 < stays < len(groups):
        panel.axvspan(-0.5, stays - 0.5, color=SHADE, zorder=0)
    panel.set_xlim(-0.5, len(groups) - 0.5)
    panel.set_xticks(range(len(groups)), [tick(scores[scores["group"] == group]) for group in groups], fontsize=9)
    panel.tick_params(length=0)
    panel.grid(axis="y", color="0.85", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right", "bottom"]].set_visible(False)


def draw_gain(panel: Axes, place: float, rows: pd.DataFrame, colour: str, label: str | None) -> None:
    """A bar from the lowest to the highest seed, its mean, and beside it the mean at the best thresholds."""
    panel.plot([place] * 2, [rows["gain"].min(), rows["gain"].max()], color=colour, linewidth=5, alpha=0.3)
    panel.plot(place, rows["gain"].mean(), "o", color=colour, markersize=6, label=label)
    panel.plot(place + APART / 2, rows["best_gain"].mean(), "o", color=colour, markersize=5, markerfacecolor="white")


def tick(rows: pd.DataFrame) -> str:
    return f"{rows['group'].iloc[0]}\n{rows['views'].iloc[0]} views\ntime × {rows['cost'].mean():.2g}"
