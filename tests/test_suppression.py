"""Greedy suppression within a class."""

import numpy as np

from postprocessing.detections import Detections, no_detections
from postprocessing.selection import selected
from postprocessing.suppression import unsuppressed


def detections(*rows):
    array = np.array(rows, dtype=float).reshape(-1, 4)
    return Detections(array[:, :3], array[:, 3], np.ones(len(array)))


def select(candidates, **options):
    return candidates[selected(candidates, **options)]


def suppress(candidates, radius_voxels):
    return candidates[unsuppressed(candidates.coordinates_zyx, candidates.scores, radius_voxels)]


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


def greedy(coordinates, scores, radius):
    """The definition, pair by pair."""
    kept = []
    for index in np.argsort(-scores, kind="stable"):
        if all(np.linalg.norm(coordinates[index] - coordinates[other]) > radius for other in kept):
            kept.append(index)
    return kept


def test_crowds_are_suppressed_as_the_definition_says():
    rng = np.random.default_rng(0)
    for radius in (0.0, 0.5, 2.0, 5.0, 50.0):
        coordinates, scores = rng.uniform(0, 20, (300, 3)), rng.uniform(size=300)
        assert unsuppressed(coordinates, scores, radius).tolist() == greedy(coordinates, scores, radius)


def test_a_threshold_may_come_before_or_after():
    rng = np.random.default_rng(0)
    every = Detections(rng.uniform(0, 20, (300, 3)), rng.uniform(size=300), np.ones(300))
    options = {"radius_voxels": 6.0, "trained_radius_voxels": 3.0, "nms_radius_fraction": 0.5}
    after = select(every, **options)
    before = select(every, **options, smallest_score=0.6)
    assert np.array_equal(before.coordinates_zyx, after.coordinates_zyx[after.scores >= 0.6])


def test_what_is_too_small_suppresses_nobody():
    pair = Detections(np.zeros((2, 3)), np.array([0.9, 0.5]), np.array([10.0, 200.0]))
    options = {"radius_voxels": 6.0, "trained_radius_voxels": 3.0, "nms_radius_fraction": 0.5}  # the sphere: 113 voxels
    assert select(pair, **options).scores.tolist() == [0.9]
    assert select(pair, **options, smallest_volume_fraction=0.0).scores.tolist() == [0.9]
    assert select(pair, **options, smallest_volume_fraction=0.5).scores.tolist() == [0.5]
    assert len(select(pair, **options, smallest_volume_fraction=2.0)) == 0


def test_thresholds_are_inclusive():
    pair = Detections(np.zeros((2, 3)), np.array([0.9, 0.5]), np.array([10.0, 4 / 3 * np.pi * 27]))
    options = {"radius_voxels": 6.0, "trained_radius_voxels": 3.0, "nms_radius_fraction": 0.0}
    assert [len(select(pair, **options, smallest_score=score)) for score in (0.5, 0.51)] == [2, 1]
    assert [len(select(pair, **options, smallest_volume_fraction=share)) for share in (1.0, 1.001)] == [1, 0]
