"""Picks of different particles on one place: those that are most likely wrong go, and nothing else."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit, logit

import eval_public_czi
from detection.proposals import DetectionSettings, accept, propose
from evaluation.arguments import resolve_overlaps
from inference.predictor import Prediction
from metrics.calibration import OFFSET, SLOPE
from particle_config import PARTICLES
from postprocessing import METHODS
from postprocessing.overlaps import CONFIDENCE_RATIO, OVERLAP_FRACTION, not_outdone

SURE, DOUBTFUL = np.array([0.9]), np.array([0.08])
NONE = np.empty((0, 3))
# Confidence is the score.
AS_IT_IS = {SLOPE: 1.0, OFFSET: 0.0}


def at(*x):
    return np.array([[0.0, 0.0, one] for one in x])


@pytest.mark.parametrize(
    ("distance", "confidences", "kept"),
    [
        (40, (SURE, DOUBTFUL), (True, False)),
        (40, (DOUBTFUL, SURE), (False, True)),
        (0, (SURE, DOUBTFUL), (True, False)),
        (OVERLAP_FRACTION * 100 + 0.1, (SURE, DOUBTFUL), (True, True)),
        (40, (SURE, SURE), (True, True)),
        (40, (SURE, np.array([0.95 / CONFIDENCE_RATIO])), (True, True)),
        (40, (SURE, np.array([np.nan])), (True, True)),
        (40, (np.array([np.nan]), DOUBTFUL), (True, True)),
    ],
)
def test_two_picks_of_different_particles(distance, confidences, kept):
    """Radii 70 and 30: they overlap up to 75."""
    found = not_outdone([at(0), at(distance)], confidences, [70, 30])
    assert tuple(bool(one[0]) for one in found) == kept


def test_picks_of_one_particle_never_compete():
    assert all(not_outdone([at(0, 1)], [np.array([0.9, 0.01])], [70])[0])


def test_without_picks_there_is_nothing_to_compare():
    assert [len(one) for one in not_outdone([NONE, at(0), NONE], [np.empty(0), SURE, np.empty(0)], [70, 30, 50])] == [
        *(0, 1, 0)
    ]
    assert not_outdone([], [], []) == []


def test_the_order_does_not_matter():
    """A pick that goes takes others with it all the same: of three the most confident one alone stays."""
    places, confidences, radii = [at(0), at(40), at(80)], [np.array([p]) for p in (0.9, 0.08, 0.007)], [60, 60, 60]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        kept = not_outdone(*([values[k] for k in order] for values in (places, confidences, radii)))
        assert [order[k] for k, one in enumerate(kept) if one[0]] == [0]


def test_law_what_goes_has_an_opponent_and_what_stays_has_none():
    rng = np.random.default_rng(0)
    places = [rng.uniform(0, 400, (40, 3)) for _ in range(3)]
    confidences, radii = [10 ** rng.uniform(-3, 0, 40) for _ in range(3)], [40, 60, 80]
    kept = not_outdone(places, confidences, radii)
    for a in range(3):
        for i in range(40):
            opponents = [
                j
                for b in range(3)
                for j in range(40)
                if b != a
                and np.linalg.norm(places[a][i] - places[b][j]) <= OVERLAP_FRACTION * (radii[a] + radii[b])
                and confidences[b][j] >= CONFIDENCE_RATIO * confidences[a][i]
            ]
            assert kept[a][i] == (not opponents)
    assert 10 < sum(map(np.sum, kept)) < 110


# --- In the way from maps to picks --------------------------------------------------------------------
FIRST, SECOND = PARTICLES[0].name, PARTICLES[2].name


@pytest.fixture(scope="module")
def proposals():
    """Both particles are seen in one place, the second weakly, and the second in another place as weakly."""
    probability = torch.zeros(len(PARTICLES) + 1, 16, 48, 48)
    probability[PARTICLES[0].label, 4:12, 8:16, 8:16] = 0.95
    probability[PARTICLES[2].label, 2:14, 4:16, 6:18] = 0.06
    probability[PARTICLES[2].label, 2:14, 4:16, 34:46] = 0.06
    return propose(Prediction(probability, None, 1), settings(), PARTICLES, run_name="a", voxel_spacing_angstrom=10.0)


def settings(**calibration):
    values = {"peak_threshold": 0.02, "nms_radius_fraction": 0.8, **calibration}
    return DetectionSettings(0.5, "peak_local_max_gpu", {p.name: values for p in PARTICLES})


def numbers(picks: pd.DataFrame):
    return [(picks["particle_type"] == name).sum() for name in (FIRST, SECOND)]


def test_the_unlikely_pick_on_another_goes(proposals):
    everything = accept(proposals, settings().hyperparameters)
    assert numbers(everything) == [1, 2]
    left = accept(proposals, settings(**AS_IT_IS).hyperparameters, overlaps={})
    assert numbers(left) == [1, 1]
    assert left.loc[left["particle_type"] == SECOND, "x"].item() > 300


def test_without_confidence_all_stay(proposals):
    assert numbers(accept(proposals, settings().hyperparameters, overlaps={})) == [1, 2]
    assert numbers(accept(proposals, settings(**AS_IT_IS).hyperparameters)) == [1, 2]


def test_a_calibration_of_other_views_serves_to_compare_and_gives_no_confidence(proposals):
    picks = accept(proposals, settings().hyperparameters, overlaps={p.name: AS_IT_IS for p in PARTICLES})
    assert numbers(picks) == [1, 1] and picks["confidence"].isna().all()


def test_the_hyperparameters_own_calibration_comes_first(proposals):
    """By theirs the second particle is as likely as the first."""
    own = settings(**AS_IT_IS).hyperparameters
    own[SECOND] = {**own[SECOND], OFFSET: float(logit(0.9) - logit(0.05))}
    assert expit(logit(0.05) + own[SECOND][OFFSET]) == pytest.approx(0.9)
    assert numbers(accept(proposals, own, overlaps={p.name: AS_IT_IS for p in PARTICLES})) == [1, 2]


def test_the_flag_decides():
    trained = [{"peak_local_max_gpu": settings(**AS_IT_IS).hyperparameters}]
    words = ["--model_path", "x"]
    parse = eval_public_czi.build_parser().parse_args
    assert resolve_overlaps(parse(words), PARTICLES, trained) == {p.name: AS_IT_IS for p in PARTICLES}
    assert resolve_overlaps(parse([*words, "--no-resolve_overlaps"]), PARTICLES, trained) is None
    # Of components at another threshold the scores are others.
    other = [*words, "--postprocessing_method", "cc3d", "--fixed_conf_threshold", "0.9"]
    values = dict.fromkeys(METHODS["cc3d"].keywords, 0.5) | AS_IT_IS
    trained = [{"cc3d": {p.name: values for p in PARTICLES}}]
    assert resolve_overlaps(parse(other), PARTICLES, trained) == {p.name: {} for p in PARTICLES}
    assert resolve_overlaps(parse(other[:-2]), PARTICLES, trained) == {p.name: AS_IT_IS for p in PARTICLES}
