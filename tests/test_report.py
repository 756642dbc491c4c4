"""The report: complete, whole by itself, the same for the same results, and clean in a browser."""

import base64
import re
from dataclasses import replace

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from html_pages import BROWSER, Reader, opened
from matplotlib.figure import Figure

from evaluation.campaign.results import CURVE_POINTS, CampaignResults, Curve, ExperimentResult, Overlay
from evaluation.report import figures as report_figures
from evaluation.report.campaign_report import _title
from evaluation.report.page import RUN_ROWS, render, write_report
from metrics.fbeta import score_picks
from metrics.statistics import Interval, compare, score_interval
from metrics.threshold_curve import ThresholdCurve
from particle_config import PARTICLES

pytestmark = pytest.mark.pictures

WEIGHTS = [particle.score_weight for particle in PARTICLES]
NASTY = "<b>run</b> & \"co\" 'x' $\\frac{$"


def scored(runs, share, seed):
    """The score of an experiment that finds that share of all particles, each exactly, and a few that are not there."""
    rng = np.random.default_rng(seed)
    rows = [
        (run, particle.name, 1e3 * place, 1e3 * particle.label, 0.0)
        for run in runs
        for particle in PARTICLES
        for place in range(20)
    ]
    truth = pd.DataFrame(rows, columns=["experiment", "particle_type", "x", "y", "z"])
    false = truth[rng.uniform(size=len(truth)) < 0.1].assign(x=-1e6)
    return score_picks(pd.concat([truth[rng.uniform(size=len(truth)) < share], false]), truth)


def experiment(name="df2", share=0.8, runs=("TS_1", "TS_2", "TS_3"), seed=0, **changes):
    rng = np.random.default_rng(seed)
    curve = Curve.of(ThresholdCurve(rng.uniform(size=300), rng.uniform(size=60)), 0.4)
    errors = pd.DataFrame({"pairs": 5, "rms_z": 12.0, "rms_xy": 6.0}, index=[p.name for p in PARTICLES])
    score = scored(runs, share, seed)
    fields = {
        "comment": "as trained",
        "strategy": "best_single",
        "method": "watershed",
        "tta_group": "none",
        "networks": 1,
        "score": score,
        "interval": score_interval(score.counts, WEIGHTS),
        "position_errors": errors,
        "seconds_per_tomogram": {"reading": 0.5, "network": 2.0},
        "threshold_name": "smallest_volume_fraction",
        "curves": {p.name: curve for p in PARTICLES},
        "fold_scores": {0: 0.7, 1: 0.8},
    }
    return ExperimentResult(name, **{**fields, **changes})


def campaign(*experiments, **changes):
    counts = {one.configuration: one.score.counts for one in experiments}
    fields = {
        "title": "Campaign",
        "comment": "two encoders",
        "date": "1 January 2026",
        "particles": PARTICLES,
        "facts": {"device": "cpu"},
        "commands": ["python train.py --fold 0"],
        "comparisons": compare(counts, WEIGHTS),
    }
    return CampaignResults(**{**fields, **changes, "experiments": experiments})


@pytest.fixture(scope="module")
def overlay(tmp_path_factory):
    path = tmp_path_factory.mktemp("overlays") / "TS_1.png"
    matplotlib.image.imsave(path, np.zeros((4, 4)))
    return Overlay("TS_1", f"best tomogram {NASTY}", path)


@pytest.fixture(scope="module")
def results(overlay):
    return campaign(
        experiment("df2", share=0.9, tta_group="d2h", seed=1, overlays=(overlay,)),
        experiment("df2", share=0.8, seed=2),
        experiment(NASTY, share=0.5, seed=3, comment=NASTY, method="peak_local_max_gpu"),
        title=NASTY,
    )


@pytest.fixture(scope="module")
def page(results):
    return render(results)


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without figures, for what only their tables and texts say."""
    for name in ("ranking", "particle_bars", "threshold_curves", "precision_recall", "position_errors", "timings"):
        monkeypatch.setattr(report_figures, name, lambda *_: "data:image/svg+xml;base64,")


# --- The page -----------------------------------------------------------------------------------------
def test_it_is_well_formed_and_says_everything(results, page):
    reader = Reader(page)
    for one in results.experiments:
        assert f"{one.score.weighted:.4f}" in reader.text and f"{one.score.mean_over_runs:.4f}" in reader.text
        assert one.comment in reader.text
    for expected in ("TS_1", "TS_3", "d2h", "0.750 ± 0.071", "python train.py --fold 0", "cpu", "+0."):
        assert expected in reader.text
    assert all(particle.name in reader.text for particle in PARTICLES)
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    anchors = [attributes["href"] for tag, attributes in reader.tags if tag == "a"]
    assert {anchor[1:] for anchor in anchors} == set(ids)


def test_a_row_with_hyperparameters_of_nobody_says_so(undrawn):
    page = render(campaign(experiment("tuned"), experiment("other", untuned=True)))
    assert page.count(", untuned</small>") == 1


def test_names_are_text_and_never_markup(page):
    assert "<b>" not in page
    assert Reader(page).text.count(NASTY) > 5


def test_nothing_is_loaded_from_elsewhere(page):
    assert "http" not in re.sub("http-equiv", "", page)
    sources = [attributes["src"] for tag, attributes in Reader(page).tags if tag == "img"]
    assert len(sources) == 8 and all(source.startswith("data:image/") for source in sources)
    assert not {tag for tag, _ in Reader(page).tags} & {"script", "link", "iframe", "object"}
    for source in sources:
        content = base64.b64decode(source.split(",")[1])
        assert b'href="http' not in content and b"url(http" not in content


def test_every_picture_has_a_description(page):
    assert all(attributes["alt"] for tag, attributes in Reader(page).tags if tag == "img")


def test_the_same_results_give_the_same_bytes(results, page, tmp_path):
    assert write_report(tmp_path / "new" / "report.html", results).read_text(encoding="utf-8") == page


def test_experiments_are_ranked_by_the_pooled_score(results, page):
    text = Reader(page).text
    scores = sorted((one.score.weighted for one in results.experiments), reverse=True)
    assert [one.score.weighted for one in results.ranked()] == scores
    places = [text.index(f"{score:.4f}", text.index("better than")) for score in scores]
    assert places == sorted(places)


def test_the_gain_by_views_is_shown_where_both_were_made(results, page, undrawn):
    assert 'id="tta"' in page and "× 1.0" in page
    assert 'id="tta"' not in render(campaign(*results.experiments[1:]))


# --- Which differences are called real ----------------------------------------------------------------
def test_a_difference_is_called_real_only_when_it_is(undrawn):
    runs = [f"TS_{k}" for k in range(8)]
    good, same, bad = (experiment(n, s, runs, k) for k, (n, s) in enumerate([("a", 0.9), ("b", 0.9), ("c", 0.3)]))
    page = render(campaign(good, same, bad))
    assert "2 of 3 differences are real" in Reader(page).text
    assert page.count('class="number real"') == 2
    assert page.count("<td>3</td>") == 3 and "<td>2, 3</td>" not in page, "both beat the third, whose rank it is"


def test_few_tomograms_show_nothing_and_the_page_says_so(undrawn):
    page = render(campaign(experiment("a", 0.9, seed=1), experiment("b", 0.2, seed=2)))
    assert "no difference can be shown" in Reader(page).text and "0.250" in Reader(page).text
    assert "too few" in Reader(page).text
    assert "too few tomograms for an interval" in Reader(page).text
    assert "3 tomograms are too few, at least 6 are needed" in Reader(page).text and "nan" not in Reader(page).text
    assert 'class="number real"' not in page


def test_the_head_counts_what_is_compared(page):
    assert "Configurations3" in Reader(page).text
    assert _title(2, 48, 6) == "2 experiments in 48 configurations on 6 tomograms"
    assert _title(1, 1, 1) == "1 experiment in 1 configuration on 1 tomogram"


@pytest.mark.parametrize(
    ("z", "xy", "expected"),
    [
        (12.0, 6.0, "the error is larger along z: 12.0 Å along z, 6.0 Å along"),
        (5.0, 6.0, "the error is smaller along z: 5.0 Å along z, 6.0 Å along"),
        (6.0, 6.01, "the error is the same: 6.0 Å along z, 6.0 Å along"),
    ],
)
def test_the_larger_position_error_is_named_from_the_numbers(undrawn, z, xy, expected):
    errors = pd.DataFrame({"pairs": 5, "rms_z": z, "rms_xy": xy}, index=[p.name for p in PARTICLES])
    text = Reader(render(campaign(experiment(position_errors=errors)))).text
    assert expected in text and "Over all 30 pairs of 1 df2" in text


def test_position_errors_of_many_pairs_weigh_more(undrawn):
    errors = pd.DataFrame({"pairs": [9, 1, 0], "rms_z": [1.0, 7.0, np.nan], "rms_xy": [2.0, 2.0, np.nan]})
    errors.index = ["ribosome", "apo-ferritin", "thyroglobulin"]
    text = Reader(render(campaign(experiment(position_errors=errors)))).text
    assert "10 pairs" in text and "2.4 Å along z, 2.0 Å" in text
    assert "There are no pairs" in Reader(render(campaign(experiment(position_errors=errors.iloc[2:])))).text


# --- Large and small campaigns ------------------------------------------------------------------------
def test_one_experiment_on_one_tomogram():
    page = render(campaign(experiment(runs=["TS_1"], curves={}, fold_scores={}, seconds_per_tomogram={})))
    assert "nothing to compare" in Reader(page).text and "nan" not in page.split("<body>")[1]


def test_many_experiments_on_many_tomograms(undrawn):
    runs = [f"TS_{k:02d}" for k in range(30)]
    one = experiment(runs=runs)
    text = Reader(render(campaign(*(replace(one, name=f"e{k}") for k in range(10))))).text
    assert all(f"e{k}" in text for k in range(10))
    assert f"{30 - RUN_ROWS} tomograms in between" in text and "The best 8 are shown" in text


def test_rows_of_a_figure_keep_the_end_of_their_labels():
    long = "resnet18_with_a_long_name_20261125_131726, ensemble_specialists, peak_local_max_gpu"
    drawn = [
        report_figures.Drawn(f"1  {long}, {views}", "black", experiment(), Interval(0.7, 0.9))
        for views in ("d2h", "oh")
    ]
    axes = Figure().subplots()
    report_figures._label_rows(axes, drawn)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert [label.split()[-1] for label in labels] == ["d2h", "oh"] and all(label.count("\n") == 1 for label in labels)


def test_labels_say_what_differs():
    plain, tta = experiment(), experiment(tta_group="d2h")
    assert [campaign(plain, tta).label(one) for one in (plain, tta)] == ["df2, no TTA", "df2, d2h"]
    assert campaign(plain).label(plain) == "df2"
    with pytest.raises(ValueError, match="different settings"):
        campaign(plain, replace(plain, networks=2))


def test_curves_are_thinned_but_keep_their_ends():
    whole = ThresholdCurve(np.linspace(0.01, 0.99, 1000), np.array([0.5, 0.7, -np.inf]))
    curve = Curve.of(whole, 0.3)
    assert len(curve.thresholds) == CURVE_POINTS and curve.thresholds[[0, -1]].tolist() == [0.99, 0.01]
    assert curve.recall[-1] == pytest.approx(2 / 3) and curve.precision[-1] == pytest.approx(2 / 1000)
    assert curve.f4[-1] == pytest.approx(whole.f_beta()[-1])
    assert len(Curve.of(ThresholdCurve(np.empty(0), np.empty(0)), 0.5).thresholds) == 0


# --- In a browser -------------------------------------------------------------------------------------
@pytest.mark.skipif(BROWSER is None, reason="no browser at hand")
def test_a_browser_asks_nobody_and_complains_of_nothing(tmp_path, results):
    page, said, asked = opened(write_report(tmp_path / "report.html", results), tmp_path)
    assert 'id="commands"' in page and "CONSOLE" not in said and asked == []


@pytest.mark.skipif(BROWSER is None, reason="no browser at hand")
def test_a_page_that_asks_and_complains_is_noticed(tmp_path):
    (tmp_path / "page.html").write_text('<img src="http://elsewhere.invalid/a.png"><script>console.log("no")</script>')
    _, said, asked = opened(tmp_path / "page.html", tmp_path)
    assert "CONSOLE" in said and asked == ["http://elsewhere.invalid/a.png"]
