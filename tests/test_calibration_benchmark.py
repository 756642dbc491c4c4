"""The benchmark of confidences: which picks are hits, and what an error is."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import calibration
from data.picks import picks_table
from errors import InputError

TRUTH = picks_table("TS_1", "ribosome", [[0.0, 0, 0], [0, 0, 500]])


def picks(places, scores, name="ribosome"):
    return picks_table("TS_1", name, np.array(places, float), scores, confidences=scores)


def test_the_best_pick_near_a_reference_is_the_hit():
    table = pd.concat(
        [
            picks([[0, 0, 20], [0, 0, 40], [0, 0, 575], [0, 0, 576]], [0.5, 0.9, 0.1, 0.8]),
            picks([[0, 0, 0]], [1.0], "thyroglobulin"),
            picks([[0, 0, 0]], [1.0]).assign(experiment="TS_2"),
        ],
        ignore_index=True,
    )
    assert calibration.is_hit(table, TRUTH).tolist() == [False, True, True, False, False, False]


def test_errors_of_known_size():
    says = np.array([0.85, 0.85, 0.85, 0.85, 0.15, 0.15])
    hits = np.array([True, True, True, False, False, False])
    assert calibration.calibration_error(says, hits) == pytest.approx((4 * 0.1 + 2 * 0.15) / 6)
    assert calibration.calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0
    assert calibration.reliability(says, hits).splitlines()[-1] == "| 0.8 to 0.9 | 4 | 0.85 | 0.75 |"


def test_picks_without_confidences_are_refused(tmp_path):
    picks([[0, 0, 0]], [np.nan]).assign(score=0.5).to_csv(tmp_path / "s.csv")
    with pytest.raises(InputError, match=r"s\.csv has no confidences"):
        calibration.main(["--picks", str(tmp_path / "s.csv"), "--truth", str(tmp_path)])
