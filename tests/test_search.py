"""The search finds what a detection for every combination finds, chooses as it should, and searches a map once."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import expit

import postprocessing
from data.picks import picks_table
from detection import search_result
from detection.arguments import HYPERPARAMETERS
from detection.evidence import Evidence, gather_evidence
from detection.grid import GLOBAL, PER_CLASS, Grid
from detection.proposals import DetectionSettings, accept, propose
from detection.search_result import ALL, choose
from detection.search_settings import SearchSettings
from evaluation.tuning.search_curves import save_search_curves
from inference.predictor import Prediction
from metrics.calibration import KEYWORDS as CALIBRATION
from metrics.fbeta import score_picks
from metrics.threshold_curve import ThresholdCurve, logit
from particle_config import PARTICLES
from postprocessing import METHODS
from postprocessing.detections import Detections

SPACING = 25.0  # coarse, so that the particles are small and many
GRIDS = {
    "peak_threshold": (0.1, 0.3, 0.5, 0.7),
    "conf_threshold": (0.2, 0.5),
    "cluster_radius_fraction": (0.4, 1.2),
    "vol_frac_threshold": (0.0, 0.2, 0.6),
    "min_cluster_vol_frac": (0.0, 0.2, 0.6),
    "nms_radius_fraction": (0.0, 0.8, 1.6),
}


def settings(method, strategy=PER_CLASS, downsample=1, **changes):
    rows = [row for row in HYPERPARAMETERS if method in row.methods]
    defaults = {row.keyword: row.default_for(method) for row in rows}
    grid = {row.keyword: GRIDS[row.keyword] for row in rows} | changes
    detection = DetectionSettings(0.5, method, {p.name: defaults for p in PARTICLES}, downsample)
    return SearchSettings(strategy, Grid(method, grid), detection)


def tomogram(seed, stride=1, variance=True):
    """Blobs at true places and beside them, of all strengths and sizes, with a few bumps."""
    rng = np.random.default_rng(seed)
    shape = np.array((20, 32, 32)) // stride
    probability, truth = np.zeros((len(PARTICLES) + 1, *shape), dtype=np.float32), {}
    for particle in PARTICLES:
        radius = 0.5 * particle.radius_angstrom / SPACING / stride
        places = rng.uniform(2, shape - 3, (9, 3))
        for place in places:
            squared = sum((g - c) ** 2 for g, c in zip(np.ogrid[tuple(map(slice, shape))], place, strict=True))
            blob = rng.uniform(0.1, 1) * np.exp(-squared / (2 * (rng.uniform(0.5, 1.3) * radius + 0.3) ** 2))
            probability[particle.label] = np.maximum(probability[particle.label], blob)
        noise = gaussian_filter(rng.standard_normal(shape), 1.0)
        probability[particle.label] = np.clip(probability[particle.label] + 0.1 * noise, 0, 1)
        if particle.name != "thyroglobulin":
            moved = places[:6] + rng.normal(0, 0.3, (6, 3))
            truth[particle.name] = ((moved + 0.5) * stride - 0.5) * SPACING
    tensor = torch.from_numpy(probability)
    return f"TS_{seed}", Prediction(tensor, tensor * 0.01 if variance else None, stride), truth


def proposals_of(name, prediction, detection, grid=None):
    return propose(prediction, detection, PARTICLES, run_name=name, voxel_spacing_angstrom=SPACING, grid=grid)


def picks_of(name, prediction, detection):
    return accept(proposals_of(name, prediction, detection), detection.hyperparameters)


def truth_rows(tomograms):
    return pd.concat([picks_table(name, *pair) for name, _, truth in tomograms for pair in truth.items()])


def choice(evidence_of_runs, wanted):
    """From the evidence of every run: particle name -> Evidence."""
    evidence = {p.name: [one[p.name] for one in evidence_of_runs] for p in PARTICLES}
    return choose(evidence, wanted, PARTICLES, [str(number) for number in range(len(evidence_of_runs))])


def search(tomograms, wanted):
    """The candidates of every tomogram, and what is chosen."""
    proposals = [proposals_of(name, prediction, wanted.detection, wanted.grid) for name, prediction, _ in tomograms]
    evidence = [
        gather_evidence(one, truth, wanted.grid) for one, (_, _, truth) in zip(proposals, tomograms, strict=True)
    ]
    return proposals, choice(evidence, wanted)


# --- The numbers --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "stride", "downsample"), [*((method, 1, 1) for method in METHODS), ("cc3d", 2, 1), ("cc3d", 1, 2)]
)
def test_every_point_of_the_grid_is_what_detection_there_scores(method, stride, downsample):
    tomograms, wanted = [tomogram(seed, stride) for seed in (0, 1)], settings(method, downsample=downsample)
    _, result = search(tomograms, wanted)
    truth, table, grid = truth_rows(tomograms), result.table(), wanted.grid
    assert len(table) == (len(PARTICLES) + 1) * np.prod(grid.shape)
    table = table.set_index(["particle", *grid.keywords])
    places = np.random.default_rng(0).choice(list(np.ndindex(*grid.shape)), 6, replace=False)
    for place in places:
        values = grid.at(place)
        detection = dataclasses.replace(wanted.detection, hyperparameters={p.name: values for p in PARTICLES})
        picks = pd.concat([picks_of(name, prediction, detection) for name, prediction, _ in tomograms])
        score = score_picks(picks, truth)
        rows = table.xs(tuple(values[keyword] for keyword in grid.keywords), level=grid.keywords)
        for name, row in score.per_particle.iterrows():
            counts = [row.true_positives, row.false_positives, row.false_negatives]
            assert rows.loc[name, ["tp", "fp", "fn"]].tolist() == counts
            assert rows.loc[name, "f4_pooled"] == pytest.approx(row.f4, abs=1e-6)
            alone = [score_picks(picks, truth, runs=[run]).per_particle.f4[name] for run, _, _ in tomograms]
            if name != "thyroglobulin":
                assert rows.loc[name, "f4_mean"] == pytest.approx(np.mean(alone), abs=1e-6)
        assert rows.loc[ALL, "f4_pooled"] == pytest.approx(score.weighted)
        assert rows.loc[ALL, "f4_mean"] == pytest.approx(score.mean_over_runs)


@pytest.mark.parametrize("method", METHODS)
def test_the_picks_of_a_search_are_those_of_detection(method):
    tomograms, wanted = [tomogram(3)], settings(method)
    [searched], result = search(tomograms, wanted)
    hyperparameters = result.hyperparameters
    assert hyperparameters["thyroglobulin"] == wanted.defaults["thyroglobulin"]  # not in the grid
    found = accept(searched, hyperparameters)
    expected = picks_of(*tomograms[0][:2], DetectionSettings(0.5, method, hyperparameters))
    pd.testing.assert_frame_equal(found, expected)
    assert found["uncertainty"].notna().all() and len(found) > 10
    unknown = found["particle_type"] == "thyroglobulin"  # without references nobody knows what is right
    assert found["confidence"][unknown].isna().all() and found["confidence"][~unknown].between(0, 1).all()


@pytest.mark.parametrize("method", ["peak_local_max_gpu", "watershed"])
def test_confidence_is_the_share_of_hits(method):
    """Over the tomograms that it was learnt from, of all picks; so is every larger tenth that ranks higher."""
    tomograms = [tomogram(seed) for seed in range(3)]
    wanted = settings(method)
    searched, result = search(tomograms, wanted)
    picks = pd.concat([accept(one, result.hyperparameters) for one in searched])
    truth = truth_rows(tomograms)
    picks, truth = (table[table["particle_type"] != "thyroglobulin"] for table in (picks, truth))
    hits = score_picks(picks, truth).per_particle["true_positives"].sum()
    assert picks["confidence"].sum() == pytest.approx(hits, rel=0.15)
    strongest = picks.nlargest(len(picks) // 3, "confidence")
    assert score_picks(strongest, truth).per_particle["true_positives"].sum() / len(strongest) > hits / len(picks)


@pytest.mark.parametrize("method", METHODS)
def test_a_map_is_searched_once_per_structure(method, monkeypatch):
    calls = []

    def counted(*args, **keywords):
        calls.append(len(keywords["particles"]))
        return candidates(*args, **keywords)

    candidates = postprocessing.candidates
    monkeypatch.setattr("detection.proposals.candidates", counted)
    wanted, (name, prediction, _) = settings(method), tomogram(0)
    proposals_of(name, prediction, wanted.detection, wanted.grid)
    structures = len(wanted.grid.structures)
    assert sum(calls) <= (structures + 1) * len(PARTICLES)
    calls.clear()
    inside = wanted.grid.at([0] * len(wanted.grid.shape))
    detection = dataclasses.replace(wanted.detection, hyperparameters={p.name: inside for p in PARTICLES})
    proposals_of(name, prediction, detection, wanted.grid)
    assert sum(calls) == structures * len(PARTICLES)


def test_of_the_map_nothing_is_kept():
    wanted, (name, prediction, _) = settings("peak_local_max_gpu"), tomogram(0)
    proposals = proposals_of(name, prediction, wanted.detection, wanted.grid)
    held = [one.detections.scores.size for of in proposals.candidates.values() for one in of.values()]
    assert 0 < sum(held) < prediction.probability.numel() / 20


def toy_candidates(probability, *, trained_radius_voxels, floor):
    """Every voxel from the floor up is a candidate; its size is its z index."""
    voxels = (probability >= floor).nonzero().numpy()
    scores = probability[tuple(voxels.T)].double().numpy()
    return Detections(voxels.astype(float), scores, voxels[:, 0].astype(float))


def test_a_fifth_method_with_two_thresholds_is_searched_over_both(monkeypatch):
    """One row of METHODS; every point of the grid is what detection there scores."""
    toy = postprocessing.Method(toy_candidates, score_keyword="smallest_score", size_keyword="smallest_size")
    monkeypatch.setitem(METHODS, "toy", toy)
    defaults = {"smallest_score": 0.5, "smallest_size": 0.0, "nms_radius_fraction": 0.0}
    volume = 4 / 3 * np.pi * max(0.5 * PARTICLES[0].radius_angstrom / SPACING, 1.0) ** 3
    grid = Grid(
        "toy",
        {
            "smallest_score": (0.3, 0.5),
            "smallest_size": (0.0, 2.5 / volume),
            "nms_radius_fraction": (0.0, 1.0),
        },
    )
    wanted = SearchSettings(PER_CLASS, grid, DetectionSettings(0.5, "toy", {p.name: defaults for p in PARTICLES}))
    probability = torch.zeros(len(PARTICLES) + 1, 6, 4, 4)
    probability[1, 1, 1, 1], probability[1, 4, 2, 2], probability[1, 5, 3, 3] = 0.9, 0.8, 0.4
    truth = {PARTICLES[0].name: np.array([[4.0, 2, 2]]) * SPACING}
    tomograms = [("TS_1", Prediction(probability, None, 1), truth)]
    _, result = search(tomograms, wanted)
    assert grid.keywords == ("smallest_size", "nms_radius_fraction", "smallest_score") and grid.shape == (2, 2, 2)
    for place in np.ndindex(*grid.shape):
        detection = dataclasses.replace(wanted.detection, hyperparameters={p.name: grid.at(place) for p in PARTICLES})
        score = score_picks(picks_of(*tomograms[0][:2], detection), truth_rows(tomograms)).per_particle
        row = score.loc[PARTICLES[0].name]
        counts = [row.true_positives, row.false_positives, row.false_negatives]
        assert result.counts[PARTICLES[0].name][0][place].tolist() == counts
    assert result.hyperparameters[PARTICLES[0].name]["smallest_size"] > 0  # the candidate of size 1 is false


# --- The choice ---------------------------------------------------------------------------------------
def evidence(scores, hit_scores, wanted):
    curve = ThresholdCurve(np.array(scores), np.array(hit_scores))
    counts = curve.counts_at(np.array(wanted.grid.values["peak_threshold"]))
    return Evidence(counts.reshape(*wanted.grid.shape, 3), (curve,))


def run_of(by_particle, wanted):
    """The evidence of a run, none about the other particles."""
    nothing = evidence([], [], wanted)
    return {p.name: by_particle.get(p.name, nothing) for p in PARTICLES}


def peaks(strategy):
    thresholds = tuple(np.linspace(0.05, 0.95, 19).round(2))
    return settings("peak_local_max_gpu", strategy, peak_threshold=thresholds, nms_radius_fraction=(0.8,))


def cluster(rng, centre, count):
    return np.clip(rng.normal(centre, 0.02, count), 0.01, 0.99)


def class_evidence(rng, hit_centre, false_centre, wanted, hits=30):
    hit = cluster(rng, hit_centre, hits)
    return evidence(np.concatenate([hit, cluster(rng, false_centre, 300)]), hit, wanted)


def test_per_class_each_is_tuned_on_itself_whatever_its_weight():
    """beta-amylase scores nothing, and needs a threshold of its own all the same."""
    wanted, rng = peaks(PER_CLASS), np.random.default_rng(0)
    found = {
        "beta-amylase": class_evidence(rng, 0.3, 0.1, wanted),
        "ribosome": class_evidence(rng, 0.9, 0.5, wanted),
    }
    result = choice([run_of(found, wanted)], wanted)
    assert "apo-ferritin" in result.without_hits and "ribosome" not in result.without_hits
    values = {name: one["peak_threshold"] for name, one in result.hyperparameters.items()}
    assert 0.15 <= values["beta-amylase"] <= 0.25 and 0.6 <= values["ribosome"] <= 0.8
    assert values["apo-ferritin"] == wanted.defaults["apo-ferritin"]["peak_threshold"]
    assert result.chosen["apo-ferritin"] is None


def test_global_one_set_by_the_weighted_score():
    """Thyroglobulin weighs twice what ribosome does, beta-amylase nothing."""
    wanted, rng = peaks(GLOBAL), np.random.default_rng(0)
    found = {
        "beta-amylase": class_evidence(rng, 0.3, 0.1, wanted),
        "thyroglobulin": class_evidence(rng, 0.5, 0.35, wanted),
        "ribosome": class_evidence(rng, 0.9, 0.7, wanted),
    }
    result = choice([run_of(found, wanted)], wanted)
    assert len({one["peak_threshold"] for one in result.hyperparameters.values()}) == 1
    assert 0.35 < result.hyperparameters["virus-like-particle"]["peak_threshold"] < 0.5
    alone = choice([run_of({"beta-amylase": found["beta-amylase"]}, wanted)], wanted)
    assert 0.15 <= alone.hyperparameters["ribosome"]["peak_threshold"] <= 0.25  # nothing else to go by


def test_tomograms_count_alike_in_the_choice(monkeypatch):
    """Two with few particles and low scores against one with many and high ones; confidence counts particles."""
    monkeypatch.setattr(search_result, "worthwhile_score", lambda curves: None)
    wanted, rng = peaks(PER_CLASS), np.random.default_rng(0)

    def chosen(*runs):
        result = choice([run_of({"ribosome": one}, wanted) for one in runs], wanted)
        return result.hyperparameters["ribosome"]["peak_threshold"]

    many = class_evidence(rng, 0.9, 0.6, wanted, hits=200)
    few = [class_evidence(rng, 0.4, 0.1, wanted, hits=5) for _ in range(2)]
    assert chosen(many) > 0.65 and chosen(many, *few) < 0.4


def test_a_threshold_of_size_stays_where_f4_is_highest(monkeypatch):
    grid = Grid(
        "cc3d", {"conf_threshold": (0.5,), "nms_radius_fraction": (0.8,), "vol_frac_threshold": (0.1, 0.5, 1.0)}
    )
    wanted, curve = settings("cc3d"), ThresholdCurve(np.array([0.1, 0.4, 0.5]), np.array([0.4, 0.5]))
    wanted = dataclasses.replace(wanted, grid=grid)
    counts = curve.counts_at(grid.thresholds).reshape(*grid.shape, 3)
    nothing = Evidence(np.zeros_like(counts), (ThresholdCurve(np.empty(0), np.empty(0)),))
    found = [{p.name: Evidence(counts, (curve,)) if p.name == "ribosome" else nothing for p in PARTICLES}]
    before = choice(found, wanted).chosen["ribosome"]
    monkeypatch.setattr(search_result, "worthwhile_score", lambda curves: 0.99)
    assert before is not None and choice(found, wanted).chosen["ribosome"] == before


def test_a_threshold_lies_half_way_to_what_is_worth_taking(monkeypatch):
    """On the logit scale, and never beyond the grid; a single set for all particles stays where F4 is highest."""
    rng = np.random.default_rng(0)
    for strategy, moves in ((PER_CLASS, True), (GLOBAL, False)):
        wanted = peaks(strategy)
        found = [run_of({"ribosome": class_evidence(rng, 0.5, 0.3, wanted)}, wanted)]
        chosen = {}
        for score in (None, 0.4, 1e-5, 1 - 1e-5):
            monkeypatch.setattr(search_result, "worthwhile_score", lambda curves, score=score: score)
            chosen[score] = choice(found, wanted).hyperparameters["ribosome"]["peak_threshold"]
        if not moves:
            assert len(set(chosen.values())) == 1
            continue
        middle = expit((logit(np.array([chosen[None], 0.05, 0.95, 0.4])) + logit(chosen[None])) / 2)
        assert middle[0] == pytest.approx(chosen[None])
        for score, expected in zip((1e-5, 1 - 1e-5, 0.4), middle[1:], strict=True):
            assert chosen[score] == pytest.approx(expected, abs=0.03), score


@pytest.mark.parametrize("strategy", [PER_CLASS, GLOBAL])
def test_without_any_hit_everything_stays(strategy):
    wanted = peaks(strategy)
    found = {"ribosome": evidence([0.5], [-np.inf, -np.inf], wanted)}
    result = choice([run_of(found, wanted)], wanted)
    assert "ribosome" in result.without_hits
    assert result.hyperparameters == wanted.defaults


# --- What is written ----------------------------------------------------------------------------------
@pytest.mark.parametrize("strategy", [PER_CLASS, GLOBAL])
def test_the_table_marks_what_was_chosen(strategy):
    _, result = search([tomogram(4)], settings("cc3d", strategy))
    table = result.table()
    chosen = table[table["chosen"] == 1].set_index("particle")
    for name, place in result.chosen.items():
        if place is None:
            assert name not in chosen.index
        else:
            values = {**result.hyperparameters[name], **result.calibrations[name]}
            keywords = list(result.settings.grid.keywords)
            assert chosen.loc[name, keywords].to_dict() == {keyword: values.pop(keyword) for keyword in keywords}
            assert values == result.calibrations[name]
            assert tuple(values) == (() if name == "thyroglobulin" else CALIBRATION)  # none in the tomogram


@pytest.mark.parametrize(
    ("method", "strategy"), [("peak_local_max_gpu", PER_CLASS), ("cc3d", GLOBAL), ("watershed", PER_CLASS)]
)
@pytest.mark.pictures
def test_the_picture_is_drawn(method, strategy, tmp_path):
    _, result = search([tomogram(5)], settings(method, strategy))
    assert save_search_curves(tmp_path / "curves.png", result).stat().st_size > 20_000


def test_a_picture_of_a_single_value(tmp_path):
    fixed = settings("peak_local_max_gpu", peak_threshold=(0.0,), nms_radius_fraction=(0.8,))
    _, result = search([tomogram(5)], fixed)
    named = dataclasses.replace(result, run_names=["$\\frac{$"])
    save_search_curves(tmp_path / "curves.png", named)
    assert result.hyperparameters["ribosome"]["peak_threshold"] == 0.0
