"""Position errors: an error along one axis is seen there and nowhere else; pairs are one to one, the closest first."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.fbeta import match_counts
from metrics.localization import offsets_per_particle, pair_offsets, position_error
from particle_config import find_particle

FAR_APART = np.array([[100.0 * k, 200.0 * k, 300.0 * k] for k in range(1, 6)])
RADIUS = 30.0


@pytest.mark.parametrize("axis", range(3), ids="zyx")
def test_a_shift_along_one_axis_is_seen_there_only(axis):
    shift = np.eye(3)[axis] * 5.0
    offsets = pair_offsets(FAR_APART + shift, FAR_APART, RADIUS)
    np.testing.assert_allclose(offsets, np.tile(shift, (5, 1)), atol=1e-9)
    error = position_error(offsets)
    in_plane = 0.0 if axis == 0 else 5.0
    assert error.pairs == 5
    assert error.rms_z == pytest.approx(5.0 - in_plane)
    # Per axis: half of the squared error in the plane.
    assert error.rms_xy == pytest.approx(in_plane / math.sqrt(2))


def test_equal_noise_on_all_axes_gives_equal_errors():
    offsets = np.random.default_rng(0).normal(0, 4.0, (20000, 3))
    error = position_error(offsets)
    assert error.rms_z == pytest.approx(4.0, rel=0.03) and error.rms_xy == pytest.approx(4.0, rel=0.03)
    normal_median = 0.6745 * 4.0
    assert error.median_z == pytest.approx(normal_median, rel=0.03)
    assert error.median_xy == pytest.approx(normal_median, rel=0.03)


def test_a_stray_hit_moves_the_rms_and_not_the_median():
    offsets = np.tile([2.0, 1.0, -1.0], (21, 1))
    offsets[0] = 30.0
    error = position_error(offsets)
    assert error.median_z == 2.0 and error.median_xy == 1.0 and error.rms_z > 6.0


def test_no_hits():
    nothing = np.empty((0, 3))
    for picks, references in (
        (nothing, FAR_APART),
        (FAR_APART, nothing),
        (nothing, nothing),
        (FAR_APART + 50, FAR_APART),
    ):
        offsets = pair_offsets(picks, references, RADIUS)
        assert offsets.shape == (0, 3)
    error = position_error(nothing)
    assert error.pairs == 0 and all(map(math.isnan, (error.rms_z, error.rms_xy, error.median_z, error.median_xy)))


def test_the_radius_is_inclusive():
    reference = np.zeros((1, 3))
    assert len(pair_offsets(np.array([[0.0, 0.0, 30.0]]), reference, RADIUS)) == 1
    assert len(pair_offsets(np.array([[0.0, 0.0, 30.001]]), reference, RADIUS)) == 0


def test_of_two_picks_near_one_reference_the_nearer_counts():
    picks = np.array([[0.0, 8.0, 0.0], [3.0, 0.0, 0.0]])
    np.testing.assert_array_equal(pair_offsets(picks, np.zeros((1, 3)), RADIUS), [[3.0, 0.0, 0.0]])


def test_a_pick_serves_one_reference():
    references = np.array([[0.0, 0.0, 0.0], [20.0, 0.0, 0.0]])
    pick = np.array([[9.0, 0.0, 0.0]])
    np.testing.assert_array_equal(pair_offsets(pick, references, RADIUS), [[9.0, 0.0, 0.0]])
    # The official count hits both.
    assert match_counts(pick, references, RADIUS)[0] == 2


def test_the_closest_pair_goes_first_even_where_another_reference_is_left_without():
    references = np.array([[0.0, 0.0, 0.0], [20.0, 0.0, 0.0]])
    picks = np.array([[12.0, 0.0, 0.0], [19.0, 0.0, 0.0]])
    np.testing.assert_array_equal(pair_offsets(picks, references, RADIUS), [[-1.0, 0.0, 0.0], [12.0, 0.0, 0.0]])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 30), st.integers(0, 12))
def test_exchanging_picks_and_truth_turns_the_offsets_round(seed, picks, references):
    rng = np.random.default_rng(seed)
    found, true = rng.uniform(0, 10, (picks, 3)), rng.uniform(0, 10, (references, 3))
    offsets = pair_offsets(found, true, 3.0)
    np.testing.assert_array_equal(offsets, -pair_offsets(true, found, 3.0))
    distances = np.linalg.norm(offsets, axis=1)
    assert (np.diff(distances) >= 0).all() and (distances <= 3.0).all()
    # Never more than the challenge counts, and something wherever it counts something.
    hits = match_counts(found, true, 3.0)[0]
    assert len(offsets) <= hits and bool(len(offsets)) == bool(hits)


def test_tables_are_matched_by_run_and_particle_within_half_its_radius():
    ribosome, ferritin = find_particle("ribosome"), find_particle("apo-ferritin")
    rows = [
        ("a", "ribosome", 500.0, 500.0, 500.0),
        ("a", "apo-ferritin", 900.0, 900.0, 900.0),
        ("b", "ribosome", 100.0, 100.0, 100.0),
    ]
    truth = pd.DataFrame(rows, columns=["experiment", "particle_type", "x", "y", "z"])
    picks = truth.assign(z=truth["z"] + 40.0)  # within 75 A of the ribosomes, beyond 30 A of apo-ferritin
    picks = pd.concat([picks, picks.assign(experiment="unknown"), truth.assign(particle_type="thyroglobulin")])
    offsets = offsets_per_particle(picks, truth, particles=(ferritin, ribosome))
    assert list(offsets) == ["apo-ferritin", "ribosome"] and offsets["apo-ferritin"].shape == (0, 3)
    np.testing.assert_array_equal(offsets["ribosome"], [[40.0, 0.0, 0.0], [40.0, 0.0, 0.0]])
