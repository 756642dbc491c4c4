"""What the pictures of all pages have in common: colours, fonts, and SVG in data URIs.

Nothing is loaded from outside, the same input gives the same bytes.
"""

import functools
import io
import re
from collections.abc import Callable

import matplotlib
from matplotlib.figure import Figure

from data.drawing import AS_WRITTEN
from evaluation.report.templates import embedded

# Okabe and Ito's colours, which every eye tells apart on white; more configurations than these are not drawn together.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
INK, QUIET, GRID = "#1d2733", "#6b7785", "#e4e8ed"
WIDTH = 11.25  # inches: 1080 pixels on a screen
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"
STYLE = {
    "svg.hashsalt": "etfinder",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # to lay out by; it is wider than the fonts that are shown
    "font.size": 10,
    "text.color": INK,
    **AS_WRITTEN,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 10,
}


def picture(draw: Callable[..., Figure]) -> Callable[..., str]:
    """The figure that ``draw`` returns, as a data URI."""

    @functools.wraps(draw)
    def drawn(*arguments) -> str:
        with matplotlib.rc_context(STYLE):
            content = io.BytesIO()
            # Without a date and the name of the drawing program.
            draw(*arguments).savefig(content, format="svg", metadata={"Date": None, "Creator": None})
        svg = re.sub(r"'DejaVu Sans'", FONTS, content.getvalue().decode())
        return embedded(svg.encode(), ".svg")

    return drawn
