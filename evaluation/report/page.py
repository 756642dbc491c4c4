"""The report of a campaign: one HTML file that needs no network, for a screen and for paper."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data.files import atomic_path
from evaluation.campaign.results import NO_TTA, CampaignResults, ExperimentResult
from evaluation.report import figures
from evaluation.report.figures import Drawn
from evaluation.report.style import COLOURS, QUIET
from evaluation.report.templates import embedded, rendered
from metrics.statistics import MIN_RUNS, SIGNIFICANCE, compare

# Rows of the matrix of differences, and of the tomograms' table: more do not fit on paper.
MATRIX_ROWS = 8
RUN_ROWS = 24


def write_report(path: Path, campaign: CampaignResults) -> Path:
    """Write the page, at once or not at all; the same results give the same bytes."""
    with atomic_path(path) as temporary:
        temporary.write_text(render(campaign), encoding="utf-8")
    return path


def render(campaign: CampaignResults) -> str:
    """The page as text."""
    ranked = campaign.ranked()
    drawn = [_drawn(campaign, one, rank) for rank, one in enumerate(ranked)]
    labels = {one.result.configuration: one.label for one in drawn}
    comparisons = campaign.comparisons.replace({"first": labels, "second": labels})
    return rendered(
        "page.html.jinja",
        campaign=campaign,
        drawn=drawn,
        runs=len(ranked[0].score.weighted_per_run),
        significance=SIGNIFICANCE,
        min_runs=MIN_RUNS,
        position=_position_text(drawn[0]),
        rest_colour=QUIET,
        comparisons=comparisons,
        better_than={one.label: _better_than(one.label, drawn, comparisons) for one in drawn},
        matrix=_matrix(drawn[:MATRIX_ROWS], comparisons),
        per_run=_per_run(drawn[: len(COLOURS)]),
        tta=_tta_gains(campaign),
        pictures=_pictures(campaign, drawn),
        picture_of=lambda path: embedded(path.read_bytes(), path.suffix),
        spread=statistics.stdev,
    )


def _drawn(campaign: CampaignResults, result: ExperimentResult, rank: int) -> Drawn:
    colour = COLOURS[rank] if rank < len(COLOURS) else QUIET
    return Drawn(f"{rank + 1}  {campaign.label(result)}", colour, result, result.interval)


def _better_than(label: str, drawn: Sequence[Drawn], comparisons: pd.DataFrame) -> list[int]:
    """Ranks of the configurations that it is significantly better than."""
    real = comparisons[comparisons["real"] & (comparisons["first"] == label)]["second"].tolist()
    return [rank for rank, one in enumerate(drawn, start=1) if one.label in real]


def _matrix(drawn: Sequence[Drawn], comparisons: pd.DataFrame) -> list[list]:
    """Row i, column j: the comparison of the i-th with the j-th configuration; None on and below the diagonal."""
    rows = {(row.first, row.second): row for row in comparisons.itertuples()}
    return [[rows.get((one.label, other.label)) for other in drawn] for one in drawn]


def _per_run(drawn: Sequence[Drawn]) -> dict:
    """Weighted F4 of every tomogram, a column per configuration, best first; of many the first and the last ones."""
    table = pd.DataFrame({one.label: one.result.score.weighted_per_run for one in drawn})
    table = table.assign(mean=table.mean(axis=1)).sort_values("mean", ascending=False, kind="stable")
    half = RUN_ROWS // 2
    shown = table if len(table) <= RUN_ROWS else pd.concat([table.iloc[:half], table.iloc[-half:]])
    return {"rows": list(shown.itertuples(name=None)), "left_out": len(table) - len(shown), "half": half}


def _tta_gains(campaign: CampaignResults) -> list[dict]:
    """Configurations beside the same without test-time augmentation; a family of tests of its own."""
    plain = {one.setting[:3]: one for one in campaign.experiments if one.tta_group == NO_TTA}
    pairs = [
        (one, plain[one.setting[:3]])
        for one in campaign.ranked()
        if one.tta_group != NO_TTA and one.setting[:3] in plain
    ]
    labels = [(campaign.label(one), campaign.label(other)) for one, other in pairs]
    counts = {campaign.label(one): one.score.counts for pair in pairs for one in pair}
    tests = compare(counts, campaign.weights, pairs=labels)
    return [
        {
            "label": campaign.label(one),
            "plain": other,
            "with_tta": one,
            "test": test,
            "particles": (one.score.per_particle["f4"] - other.score.per_particle["f4"]).to_dict(),
            "cost": _seconds(one) / _seconds(other) if _seconds(other) else None,
        }
        for (one, other), test in zip(pairs, tests.itertuples(), strict=True)
    ]


def _seconds(result: ExperimentResult) -> float:
    return sum(result.seconds_per_tomogram.values())


def _pictures(campaign: CampaignResults, drawn: Sequence[Drawn]) -> dict:
    """The figures; those with a colour per configuration show the best ones."""
    best, particles = drawn[: len(COLOURS)], campaign.particles
    methods = dict.fromkeys((one.result.method, one.result.threshold_name) for one in best if one.result.curves)
    return {
        "ranking": figures.ranking(drawn),
        "particles": figures.particle_bars(best, particles),
        "curves": {
            method: figures.threshold_curves([one for one in best if one.result.method == method], particles, name)
            for method, name in methods
        },
        "precision_recall": figures.precision_recall(best, particles) if methods else None,
        "position": figures.position_errors(best, particles),
        "timings": figures.timings(drawn) if any(_seconds(one.result) for one in drawn) else None,
    }


def _position_text(best: Drawn) -> str:
    """Which error is larger, as the numbers of the best configuration say."""
    errors = best.result.position_errors
    errors = errors[errors["pairs"] > 0]
    if errors.empty:
        return "There are no pairs."
    z, xy = (float(np.sqrt(np.average(errors[name] ** 2, weights=errors["pairs"]))) for name in ("rms_z", "rms_xy"))
    said = "the same" if f"{z:.1f}" == f"{xy:.1f}" else "larger along z" if z > xy else "smaller along z"
    return (
        f"Over all {errors['pairs'].sum()} pairs of {best.label} the error is {said}: {z:.1f} Å along z, {xy:.1f} Å "
        "along each of x and y (root mean squares)."
    )
