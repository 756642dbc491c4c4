"""Confidences are given for maps like those that they were learnt on, and for no others."""

import json
from dataclasses import replace

import pytest
from test_checkpoints import DESCRIPTION

from detection.conditions import differences, found_in_training, map_conditions, training_conditions
from inference.checkpoints import Description
from inference.settings import InferenceSettings

INFERENCE = InferenceSettings((64, 64, 64), 0.25, "gaussian", 1, "none", "fp32")
TABLE = {"peak_threshold": 0.4, "calibration_slope": 1.0, "calibration_offset": -1.0}
TRAINED = replace(DESCRIPTION, hyperparameters={"peak_local_max_gpu": {"ribosome": TABLE}})


def conditions(inference=INFERENCE, **changes):
    values = {"tomo_type": "denoised", "norm_percentiles": (0.5, 99.5), "trained_radius_fraction": 0.5}
    return map_conditions(inference, **{**values, **changes})


def test_they_come_back_from_json():
    assert json.loads(json.dumps(conditions())) == conditions()


@pytest.mark.parametrize("written_down", [True, False])
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"networks": 4, "inference": replace(INFERENCE, tta_merge="logit")}, "merge probability, not logit"),
        ({"tomo_type": "wbp"}, "tomo type denoised, not wbp"),
        ({"norm_percentiles": (5.0, 95.0)}, "norm percentiles [0.5, 99.5], not [5.0, 95.0]"),
        ({"norm_percentiles": None}, "None"),
        ({"trained_radius_fraction": 0.4}, "radius fraction"),
        ({"internal_downsample": 2}, "internal downsample 1, not 2"),
        ({"inference": replace(INFERENCE, tta_group="d2h")}, "views none, not d2h"),
    ],
)
def test_a_calibration_does_not_hold_for_other_maps(changes, named, written_down):
    """Nor does that of a checkpoint of an earlier version, which was learnt without views on one network."""
    trained = replace(TRAINED, calibrated_with=conditions() if written_down else None)
    trained = Description.from_plain(trained.as_plain())
    assert found_in_training(trained, conditions()) == trained.hyperparameters
    found = found_in_training(trained, conditions(**changes))
    assert found == {"peak_local_max_gpu": {"ribosome": {"peak_threshold": 0.4}}}
    assert named in differences(training_conditions(trained), conditions(**changes))


def test_what_changes_no_score_changes_no_conditions():
    """The tilt axis without views, or with those that do not depend on it; of windows and precision nobody asks."""
    assert conditions(replace(INFERENCE, tilt_axis="z", tta_merge="logit", precision="bf16")) == conditions()
    assert conditions(networks=4) == conditions()
    turned = [conditions(replace(INFERENCE, tta_group="d4h", tilt_axis=axis)) for axis in "yxz"]
    assert turned[0] == turned[1] != turned[2]
    merged = [conditions(replace(INFERENCE, tta_group="d2", tta_merge=merge)) for merge in ("logit", "probability")]
    assert merged[0] != merged[1]


def test_confidences_hold_where_only_tomograms_of_other_filters_are_matched():
    words = {"tomo_type": "denoised", "norm_percentiles": (0.5, 99.5), "trained_radius_fraction": 0.5}
    inference = InferenceSettings("train", 0.0, "gaussian", None, "none", "fp32")
    plain = map_conditions(inference, **words)
    assert "match_spectrum" not in plain  # as in earlier versions
    assert all(map_conditions(inference, **words, match_spectrum=one) == plain for one in ("off", "auto"))
    matched = map_conditions(inference, **words, match_spectrum="on")
    assert matched != plain and differences(plain, matched) == "match spectrum None, not on"
