"""Greedy suppression within a class."""

import numpy as np

from postprocessing.detections import Detections, no_detections
from postprocessing.suppression import suppress


def detections(*rows):
    array = np.array(rows, dtype=float).reshape(-1, 4)
    return Detections(array[:, :3], array[:, 3])


def test_empty():
    assert len(suppress(no_detections(), 5.0)) == 0


def test_the_higher_score_stays_and_the_radius_is_inclusive():
    kept = suppress(detections((0, 0, 0, 0.5), (0, 0, 3, 0.9), (0, 0, 6.01, 0.4)), 3.0)
    assert kept.coordinates_zyx.tolist() == [[0, 0, 3], [0, 0, 6.01]]
    assert kept.scores.tolist() == [0.9, 0.4]


def test_a_suppressed_detection_suppresses_nobody():
    kept = suppress(detections((0, 0, 0, 0.9), (0, 0, 3, 0.8), (0, 0, 6, 0.7)), 4.0)
    assert kept.coordinates_zyx[:, 2].tolist() == [0, 6]


def test_equal_scores_are_settled_by_place():
    rows = [(0, 0, 1, 0.5), (0, 0, 0, 0.5)]
    assert suppress(detections(*rows), 2.0).coordinates_zyx.tolist() == [[0, 0, 0]]
    assert suppress(detections(*rows[::-1]), 2.0).coordinates_zyx.tolist() == [[0, 0, 0]]


def test_a_threshold_may_come_before_or_after():
    rng = np.random.default_rng(0)
    every = Detections(rng.uniform(0, 20, (300, 3)), rng.uniform(size=300))
    after = suppress(every, 3.0)
    high = every.scores >= 0.6
    before = suppress(Detections(every.coordinates_zyx[high], every.scores[high]), 3.0)
    assert np.array_equal(before.coordinates_zyx, after.coordinates_zyx[after.scores >= 0.6])
