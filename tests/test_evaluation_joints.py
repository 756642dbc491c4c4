"""Where the parts of evaluation meet: what a key depends on, which numbers reach a table, a picture and the report."""

from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import tiny_campaign
from matplotlib.figure import Figure
from test_comparison import PERFECT, TRUTH, evaluated
from test_report import campaign as campaign_results
from test_report import experiment as experiment_result
from tiny_campaign import EVALUATED, command

import run_experiment_evaluation as script
from data.picks import picks_table
from detection.evidence import Evidence
from detection.grid import PER_CLASS, Grid
from detection.proposals import DetectionSettings
from detection.search_result import choose
from detection.search_settings import SearchSettings
from evaluation import overlays
from evaluation.campaign.results import Curve
from evaluation.exports import read_curves
from evaluation.finished import TomogramInput, result_key
from evaluation.report import figures, page
from inference.ensembles import Ensemble, mean_of_maps, specialists_map
from inference.memory import FIXED_BYTES, NetworkCost, predicted_bytes
from inference.settings import InferenceSettings
from inference.windows import WindowGrid
from metrics.calibration import fit_calibration
from metrics.threshold_curve import ThresholdCurve, pooled
from particle_config import PARTICLES

# --- Keys ---------------------------------------------------------------------------------------------
VALUES = {p.name: {"peak_threshold": 0.3, "nms_radius_fraction": 0.8} for p in PARTICLES}
DETECTION = DetectionSettings(0.5, "peak_local_max_gpu", VALUES)
GRID = Grid("peak_local_max_gpu", {"peak_threshold": (0.1, 0.2), "nms_radius_fraction": (0.8,)})
SEARCH = SearchSettings(PER_CLASS, GRID, DETECTION)
INFERENCE = InferenceSettings("train", 0.25, "gaussian", 1, "none", "fp32")
POINTS = picks_table("TS_1", "ribosome", np.ones((2, 3)))


def key(settings=DETECTION, *, particles=PARTICLES, with_score_weights=True, **changes):
    """Of a tomogram whose maps have the keys of their networks' names."""
    one = {"spacing": 10.0, "members": ("a", "b"), "combine": mean_of_maps, "truth": POINTS, **changes}
    source = SimpleNamespace(voxel_spacing_angstrom=one["spacing"])
    maps = SimpleNamespace(keys=lambda ensemble, source, inference: list(ensemble.members))
    tomogram = TomogramInput(source, Ensemble(one["members"], one["combine"]), one["truth"])
    inference = replace(INFERENCE, tta_merge=one.get("merge", INFERENCE.tta_merge))
    return result_key([tomogram], settings, inference, maps, particles, with_score_weights=with_score_weights)


def changed_particle(**changes):
    return (replace(PARTICLES[0], **changes), *PARTICLES[1:])


@pytest.mark.parametrize("settings", [DETECTION, SEARCH], ids=["picks", "search"])
@pytest.mark.parametrize(
    "changes",
    [
        {"spacing": 10.1},
        {"truth": None},
        {"truth": POINTS.assign(x=3.0)},
        {"members": ("a", "c")},
        {"members": ("b", "a")},
        {"combine": specialists_map},
        {"particles": changed_particle(radius_angstrom=61.0)},
        {"particles": changed_particle(name="apoferritin")},
        {"particles": changed_particle(score_weight=2.0)},
        {"particles": changed_particle(label=9)},
        {"particles": PARTICLES[:-1]},
    ],
    ids=["spacing", "no-truth", "truth", "members", "order", "combine", "radius", "name", "weight", "label", "fewer"],
)
def test_results_are_others_where_anything_is_that_they_depend_on(settings, changes):
    assert key(settings, **changes) != key(settings) == key(settings)


def test_picks_do_not_depend_on_the_weights_of_the_score():
    others = changed_particle(score_weight=2.0)
    assert key(particles=others, with_score_weights=False) == key(with_score_weights=False) != key()


def test_results_are_others_for_other_settings():
    values = {**VALUES, "ribosome": {**VALUES["ribosome"], "peak_threshold": 0.31}}
    others = [
        replace(DETECTION, hyperparameters=values),
        replace(DETECTION, trained_radius_fraction=0.4),
        replace(DETECTION, internal_downsample=2),
        replace(DETECTION, method="cc3d"),
        SEARCH,
        replace(SEARCH, strategy="global"),
        replace(SEARCH, grid=replace(GRID, values={**GRID.values, "peak_threshold": (0.1, 0.3)})),
        replace(SEARCH, detection=replace(DETECTION, hyperparameters=values)),
    ]
    assert len({key(one) for one in (DETECTION, *others)}) == 1 + len(others)


def test_results_are_others_where_networks_are_merged_otherwise():
    assert key(merge="logit") != key()
    assert key(merge="logit", members=("a",)) == key(members=("a",))
    assert key(merge="logit", combine=specialists_map) == key(combine=specialists_map)


def test_colours_and_aliases_change_no_result():
    assert key(particles=changed_particle(colour="#000000", aliases=(), loss_weight=1.0)) == key()


# --- Search -------------------------------------------------------------------------------------------
def test_the_calibration_is_that_of_the_chosen_suppression_radius():
    """The first radius of the grid finds nothing but false candidates."""
    grid = Grid("peak_local_max_gpu", {"peak_threshold": (0.3, 0.5, 0.7), "nms_radius_fraction": (0.5, 0.8)})
    rng = np.random.default_rng(0)
    bad = ThresholdCurve(rng.uniform(size=200), np.full(20, -np.inf))
    hits = rng.uniform(0.6, 0.9, 20)
    good = ThresholdCurve(np.concatenate([hits, rng.uniform(0, 0.5, 50)]), hits)
    counts = np.stack([one.counts_at(grid.thresholds) for one in (bad, good)])
    evidence = {p.name: [Evidence(counts, (bad, good))] for p in PARTICLES}
    result = choose(evidence, SearchSettings(PER_CLASS, grid, DETECTION), PARTICLES, ["TS_1"])
    for name, place in result.chosen.items():
        assert place[0] == 1 and result.calibrations[name] == fit_calibration([good]) != fit_calibration([bad])


# --- Memory -------------------------------------------------------------------------------------------
def test_blended_maps_have_a_variance_too():
    grid, cost = WindowGrid((64, 64, 640), (64, 64, 64), (16, 16, 16)), NetworkCost(100.0, 7)
    options = {"batch_size": 1, "num_views": 8, "merge": "probability", "device": "cpu"}
    plain, varied = (predicted_bytes(grid, cost, with_variance=v, **options) - FIXED_BYTES for v in (False, True))
    # Seven classes of four bytes: of the window that is merged, and of the whole map.
    assert varied - plain == pytest.approx(7 * 4 * (64**3 + 64 * 64 * 640))


# --- Pictures -----------------------------------------------------------------------------------------
def test_circles_lie_where_the_particles_are_in_the_slice():
    """A ribosome at z, y, x = 100, 200, 300 angstrom, drawn in nanometres."""
    marks, _ = overlays._marks(picks_table("TS", "ribosome", [[100.0, 200.0, 300.0]]), None, PARTICLES)
    for axis, expected in ((0, (30.0, 20.0)), (1, (30.0, 10.0))):
        panel = Figure().subplots()
        overlays._draw(panel, marks, axis, (100.0, 200.0)[axis], PARTICLES, False)
        [circles] = panel.collections
        [box] = [path.get_extents() for path in circles.get_paths()]
        assert (box.min + box.max) / 2 == pytest.approx(expected) and box.width / 2 == pytest.approx(15.0)


def test_a_voxel_is_drawn_about_its_centre():
    """Voxel i lies at i times the spacing: the picture begins half a voxel before 0."""
    panel = Figure().subplots()
    overlays._show(panel, np.arange(20.0).reshape(4, 5), 10.0, ("x", "y"))
    assert panel.images[0].get_extent() == pytest.approx([-0.5, 4.5, -0.5, 3.5])


# --- Report -------------------------------------------------------------------------------------------
def test_position_errors_are_drawn_under_their_names():
    errors = pd.DataFrame({"pairs": 5, "rms_z": 12.0, "rms_xy": 6.0}, index=[p.name for p in PARTICLES])
    drawn = [figures.Drawn("1", "#000000", experiment_result(position_errors=errors), figures.Interval(0, 1))]
    figure = figures.position_errors.__wrapped__(drawn, PARTICLES)
    titles = [panel.get_title(loc="center") or panel.get_title(loc="left") for panel in figure.axes]
    assert [set(panel.lines[0].get_xdata()) for panel in figure.axes] == [{12.0}, {6.0}]
    assert titles == ["along z", "in x and y, per axis"]


def test_views_cost_the_time_with_them_over_the_time_without():
    with_views = experiment_result("df1", tta_group="d2h", seed=1, seconds_per_tomogram={"network": 16.0})
    without = experiment_result("df1", seed=1, seconds_per_tomogram={"network": 2.0})
    [gain] = page._tta_gains(campaign_results(with_views, without))
    assert gain["cost"] == 8.0 and gain["with_tta"] is with_views


def test_position_errors_are_those_of_all_detectors():
    near, far = PERFECT.assign(z=10.0), PERFECT.assign(z=20.0)
    errors = evaluated(fold_0=near, fold_1=far).position_errors.loc["ribosome"]
    assert errors["pairs"] == 2 * (TRUTH["particle_type"] == "ribosome").sum()
    assert errors["rms_z"] == pytest.approx(((10**2 + 20**2) / 2) ** 0.5)


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A campaign of one experiment with two folds, and what its report is made from."""
    root = tiny_campaign.make(tmp_path_factory.mktemp("reported"))
    words = ["--hp_search_strategy", "per_class", "--plm_gpu_peak_threshs", "0.1", "0.3", "0.6"]
    contents = []
    with (
        mock.patch("evaluation.tuning.search.save_search_curves", lambda path, result: path.touch()),
        mock.patch("evaluation.report.campaign_report.write_report", lambda path, content: contents.append(content)),
        pytest.warns(UserWarning, match="no hit at any point"),
    ):
        script.main(command(root, *words, experiments=["df1"]))
    return root / "out", contents[0].experiments[0]


def folder_of(root, fold):
    return root / "df1" / "best_single-peak_local_max_gpu-none" / f"fold_{fold}"


def test_seconds_are_those_of_one_detector_on_one_tomogram(reported):
    root, result = reported
    rows = pd.read_json(root / "timings.jsonl", lines=True)
    detection = rows[rows["work"] == "detection"]["seconds"]
    assert len(detection) == 2 * len(EVALUATED)
    assert result.seconds_per_tomogram["detection"] == pytest.approx(detection.mean())


def test_curves_and_thresholds_are_those_of_all_folds(reported):
    root, result = reported
    tables = [pd.read_json(folder_of(root, fold) / "hyperparameters" / "thresholds.json") for fold in (0, 1)]
    different = 0
    for particle in PARTICLES:
        used = [
            table.loc["hyperparameters", "search"]["peak_local_max_gpu"][particle.name]["peak_threshold"]
            for table in tables
        ]
        different += used[0] != used[1]
        folders = [folder_of(root, fold) / "picks" / run for fold in (0, 1) for run in EVALUATED]
        expected = Curve.of(pooled(read_curves(folder)[particle.name] for folder in folders), float(np.mean(used)))
        found = result.curves[particle.name]
        assert found.chosen == expected.chosen
        np.testing.assert_array_equal(found.f4, expected.f4)
        np.testing.assert_array_equal(found.recall, expected.recall)
    assert different


def test_pictures_show_the_best_and_the_worst_tomogram_of_a_fold(reported):
    root, result = reported
    scores = pd.read_csv(root / "per_tomogram_scores.csv")
    scores = scores[scores["detector"] == "fold_0"].sort_values("weighted_f4", ascending=False, kind="stable")
    names = list(dict.fromkeys([scores["tomogram"].iloc[0], scores["tomogram"].iloc[-1]]))
    assert [overlay.run for overlay in result.overlays] == names and len(names) == 2
    assert all(overlay.path.is_file() for overlay in result.overlays)


def test_training_data_is_read_as_it_was_trained_on(reported, monkeypatch):
    """``--voxel_spacing`` is of the tomograms to evaluate on; the training's own is in its arguments."""
    root = reported[0].parent
    args = script.build_parser().parse_args(command(root, "--voxel_spacing", "9.8", experiments=["df1"]))
    experiment = script.load_experiment(args.experiments_dir, "df1", PARTICLES)
    for trained in (None, 10.2):
        known = replace(experiment, arguments={**experiment.arguments, "voxel_spacing": trained})
        study = script.study_of(known, args, PARTICLES, searched=True)
        assert study.tomograms.voxel_spacing_angstrom == 9.8
        assert study.training_tomograms.voxel_spacing_angstrom == trained
