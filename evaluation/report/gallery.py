"""The gallery of picks: one HTML file that needs no network, by which a person judges thousands of picks at a glance.

For each particle cut-outs from the best to the worst, their mean, and their radial density profile; then how many
picks each tomogram has, and pictures of some tomograms.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data.files import atomic_path
from data.picks import table_coordinates_zyx
from evaluation.progress import ProgressBars
from evaluation.report import gallery_figures as figures
from evaluation.report.cutouts import SIDE_RADII, central_slice
from evaluation.report.grey_pictures import grey_picture, grey_range, small_overlay
from evaluation.report.particle_sheets import (
    GalleryTomogram,
    ParticleSheet,
    cut_sheets,
    evenly_spaced,
)
from evaluation.report.templates import rendered
from particle_config import Particle

MOST_OVERLAYS = 12
# A longer table of tomograms scrolls in a window of its own.
LONG_TABLE = 30
# Lengths that a scale bar may have, nm.
BARS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


def write_gallery(
    path: Path,
    tomograms: Iterable[GalleryTomogram],
    picks: pd.DataFrame,
    particles: Sequence[Particle],
    *,
    title: str,
    comment: str = "",
    hits: Sequence[bool | None] | None = None,
    overlays: Mapping[str, Path] | None = None,
    command: str = "",
) -> Path:
    """Write the page, at once or not at all; the same inputs give the same bytes.

    Parameters
    ----------
    path : an HTML file
    tomograms : all that were searched, also those without picks; each is read once at most, one after the other
    picks : picks table of all of them: experiment, particle_type, x, y, z in angstrom, and where known confidence
        or score, by which picks are sorted
    particles : in the order in which they are shown
    title, comment : head of the page, and a sentence below it
    hits : for each row of ``picks`` whether it is a hit, None where that is not known; see evaluation.truth.hits_of
    overlays : tomogram -> picture file; of more than MOST_OVERLAYS some are shown, and the page says which
    command : by which the picks were made

    Raises
    ------
    ValueError : a pick of a tomogram or particle that is not given, or ``hits`` of another length than ``picks``.
    InputError : a tomogram cannot be read.
    """
    tomograms = list(tomograms)
    table = _checked(picks, hits, tomograms, particles)
    spacings = {one.name: one.voxel_spacing_zyx_angstrom for one in tomograms}
    finest = min(map(min, spacings.values()), default=np.inf)
    in_turn = ProgressBars().each(tomograms, "gallery", total=len(tomograms))
    sheets = cut_sheets(in_turn, table, particles, finest_spacing_angstrom=finest)
    counts = _counts(table, list(spacings), particles)
    page = rendered(
        "gallery.html.jinja",
        title=title,
        comment=comment,
        command=command,
        sections=[{"id": f"particle-{n}", **_section(sheet, spacings)} for n, sheet in enumerate(sheets, 1)],
        total=len(table),
        hits=_hit_counts(table["hit"]),
        counts=counts,
        totals=counts.sum(axis=1),
        is_long=len(counts) > LONG_TABLE,
        overlays=_overlays(overlays or {}, counts.sum(axis=1)),
        left_out=max(0, len(overlays or {}) - MOST_OVERLAYS),
        side_radii=SIDE_RADII,
        colours=figures.COLOURS_OF,
        most=counts.max().tolist(),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _checked(
    picks: pd.DataFrame,
    hits: Sequence[bool | None] | None,
    tomograms: Sequence[GalleryTomogram],
    particles: Sequence[Particle],
) -> pd.DataFrame:
    """The picks with a column ``hit``."""
    known = {"experiment": {one.name for one in tomograms}, "particle_type": {one.name for one in particles}}
    for column, names in known.items():
        if unknown := sorted(set(picks[column]) - names):
            raise ValueError(f"picks have the {column} {unknown[0]!r}, which was not given")
    if hits is not None and len(hits) != len(picks):
        raise ValueError(f"{len(hits)} hits for {len(picks)} picks")
    plain = [None if pd.isna(hit) else bool(hit) for hit in hits] if hits is not None else [None] * len(picks)
    return picks.assign(hit=pd.Series(plain, index=picks.index, dtype=object))


def _counts(table: pd.DataFrame, names: Sequence[str], particles: Sequence[Particle]) -> pd.DataFrame:
    """Picks of each tomogram (rows) and particle (columns)."""
    counts = pd.crosstab(table["experiment"], table["particle_type"]) if len(table) else pd.DataFrame()
    return counts.reindex(index=names, columns=[one.name for one in particles], fill_value=0).astype(int)


def _hit_counts(hits: pd.Series) -> dict[str, int] | None:
    """How many are hits, false and not known; None where nothing is known."""
    values = hits.tolist()
    kinds = {"hit": values.count(True), "false": values.count(False), "open": values.count(None)}
    return None if kinds["open"] == len(values) else kinds


def _section(sheet: ParticleSheet, spacings: Mapping[str, tuple[float, float, float]]) -> dict:
    """What the page shows of one particle."""
    radius, side = sheet.particle.radius_angstrom, SIDE_RADII * sheet.particle.radius_angstrom
    values = sheet.picks[sheet.value_name].to_numpy(dtype=float) if sheet.value_name else None
    bar = max((length for length in BARS if 10 * length <= side / 3), default=BARS[0])
    return {
        "particle": sheet.particle,
        "count": len(sheet.picks),
        "tomograms": sheet.picks["experiment"].nunique(),
        "hits": _hit_counts(sheet.picks["hit"]),
        "value_name": sheet.value_name,
        "median": None if values is None else _text_of(values)(np.median(values)),
        "groups": _groups(sheet, values, spacings),
        "mean": _mean_pictures(sheet),
        "averaged": len(sheet.profiles),
        "cut_off": sheet.cut_off,
        "side": side,
        "slab": sheet.box.slab_angstrom,
        "circle": 200 * radius / side,  # percent of the side
        "bar": {"length": bar, "width": 1000 * bar / side},
        "profile": _profile(sheet),
        "histogram": None
        if values is None
        else figures.value_histogram(values, sheet.picks["hit"].tolist(), sheet.value_name),
    }


def _profile(sheet: ParticleSheet) -> str | None:
    if not len(sheet.profiles):
        return None
    return figures.radial_profile(sheet.box.shell_radii_angstrom, sheet.profiles, sheet.particle.radius_angstrom)


def _mean_pictures(sheet: ParticleSheet) -> dict[str, str] | None:
    """The three central slices of the mean, in a grey range of their own."""
    if sheet.mean is None:
        return None
    names = ("xy", "xz", "yz")
    planes = {name: central_slice(sheet.mean, sheet.box, axis) for axis, name in enumerate(names)}
    low, high = grey_range(planes.values())
    return {name: grey_picture([plane], low, high) for name, plane in planes.items()}


def _groups(
    sheet: ParticleSheet, values: np.ndarray | None, spacings: Mapping[str, tuple[float, float, float]]
) -> list[dict]:
    """The cut-outs of a sheet, all in one range of grey values."""
    low, high = grey_range(plane for one in sheet.cutouts.values() for plane in (one.xy, one.xz))
    texts = [""] * len(sheet.picks) if values is None else list(map(_text_of(values), values))
    names, hits = sheet.picks["experiment"].tolist(), sheet.picks["hit"].tolist()
    positions = table_coordinates_zyx(sheet.picks)

    def tile(row: int) -> dict:
        one = sheet.cutouts[row]
        return {
            "picture": grey_picture([one.xy, one.xz], low, high),
            "value": texts[row],
            "kind": {True: "hit", False: "false", None: ""}[hits[row]],
            "tomogram": names[row],
            "xyz_angstrom": positions[row][::-1],
            "xyz_voxels": (positions[row] / spacings[names[row]])[::-1],
        }

    groups = [group for group in sheet.groups if len(group)]
    titles = _group_titles(groups, sheet.value_name)
    return [
        {
            "title": title,
            "size": len(group),
            "best": texts[group[0]],
            "worst": texts[group[-1]],
            "tiles": [tile(row) for row in group],
        }
        for title, group in zip(titles, groups, strict=True)
    ]


def _group_titles(groups: Sequence[np.ndarray], value_name: str | None) -> list[str]:
    first = len(groups[0]) if groups else 0
    if len(groups) < 2:
        order = f", the highest {value_name} first" if value_name and first > 1 else ""
        return [f"All {first} picks{order}" if first > 1 else "The only pick"][: len(groups)]
    last, between = len(groups[2]), f"{len(groups[1])} evenly spaced in between"
    if value_name is None:
        return [f"The first {first} of the table", between, f"The last {last} of the table"]
    return [f"The {first} of highest {value_name}", between, f"The {last} of lowest {value_name} that were accepted"]


def _text_of(values: np.ndarray):
    """How values are written: those from 0 to 1 with two decimals, all others with three digits."""
    return "{:.2f}".format if values.min() >= 0 and values.max() <= 1 else "{:.3g}".format


def _overlays(overlays: Mapping[str, Path], totals: pd.Series) -> list[dict]:
    """Pictures of tomograms with many, some and few picks, many first."""
    ordered = sorted(overlays, key=lambda name: -totals.get(name, 0))
    shown = evenly_spaced(0, len(ordered), MOST_OVERLAYS) if ordered else []
    return [
        {"tomogram": name, "picks": int(totals.get(name, 0)), "picture": small_overlay(overlays[name])}
        for name in (ordered[place] for place in shown)
    ]
