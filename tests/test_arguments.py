"""Flags of the evaluation: precedence, and no flag that does nothing."""

import argparse

import pytest

import config
from errors import InputError
from evaluation.arguments import (
    HYPERPARAMETERS,
    add_inference_arguments,
    add_postprocessing_arguments,
    inference_settings,
    resolve_hyperparameters,
    resolve_internal_downsample,
    resolve_norm_percentiles,
)
from particle_config import PARTICLES
from postprocessing import METHODS


def parse(*words):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_inference_arguments(parser)
    add_postprocessing_arguments(parser)
    return parser.parse_args(words)


def trained(value):
    return {"peak_local_max_gpu": {"ribosome": {"peak_threshold": value, "nms_radius_fraction": 0.7}}}


def test_command_line_then_checkpoint_then_config():
    from_config = resolve_hyperparameters(parse(), PARTICLES, [{}])
    assert from_config["ribosome"] == {
        "peak_threshold": config.PLM_GPU_PEAK_THRESH,
        "nms_radius_fraction": config.NMS_RADIUS_FRACTION,
    }
    from_checkpoint = resolve_hyperparameters(parse(), PARTICLES, [trained(0.4)])
    assert from_checkpoint["ribosome"] == {"peak_threshold": 0.4, "nms_radius_fraction": 0.7}
    assert from_checkpoint["thyroglobulin"] == from_config["thyroglobulin"]
    fixed = resolve_hyperparameters(parse("--fixed_plm_gpu_peak_thresh", "0"), PARTICLES, [trained(0.4)])
    assert fixed["ribosome"] == {"peak_threshold": 0.0, "nms_radius_fraction": 0.7}  # 0 is a value, not "not given"


def test_an_ensemble_takes_the_mean_of_what_its_members_found():
    found = resolve_hyperparameters(parse(), PARTICLES, [trained(0.4), trained(0.6), {}])
    assert found["ribosome"]["peak_threshold"] == pytest.approx(0.5)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gets_exactly_its_keywords(method):
    expected = {row.keyword for row in HYPERPARAMETERS if method in row.methods}
    found = resolve_hyperparameters(parse("--postprocessing_method", method), PARTICLES, [])
    assert all(set(values) == expected for values in found.values())


@pytest.mark.parametrize("row", HYPERPARAMETERS, ids=lambda row: row.keyword)
@pytest.mark.parametrize("method", METHODS)
def test_a_flag_without_effect_is_an_error(row, method):
    args = parse("--postprocessing_method", method, row.fixed_flag, "0.3")
    if method in row.methods:
        assert resolve_hyperparameters(args, PARTICLES, [])["ribosome"][row.keyword] == 0.3
    else:
        with pytest.raises(InputError, match=row.fixed_flag):
            resolve_hyperparameters(args, PARTICLES, [])


@pytest.mark.parametrize(
    ("row", "method", "flag"),
    [(row, method, flag) for row in HYPERPARAMETERS for method, flag in row.specific_flags.items()],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_specific_beats_generic(row, method, flag):
    for words in ([row.fixed_flag, "0.3", flag, "0"], [flag, "0", row.fixed_flag, "0.3"], [flag, "0"]):
        args = parse("--postprocessing_method", method, *words)
        assert resolve_hyperparameters(args, PARTICLES, [])["ribosome"][row.keyword] == 0.0
    for other in set(METHODS) - {method}:
        with pytest.raises(InputError, match=flag):
            resolve_hyperparameters(parse("--postprocessing_method", other, flag, "0.3"), PARTICLES, [])


def test_cells_are_whole_voxels():
    assert resolve_internal_downsample(parse()) == 1
    assert resolve_internal_downsample(parse("--postproc_internal_downsample", "3")) == 3
    with pytest.raises(InputError, match="postproc_internal_downsample"):
        resolve_internal_downsample(parse("--postproc_internal_downsample", "0"))


def test_views_only_when_asked_for():
    assert inference_settings(parse()).tta_group == "none"
    assert inference_settings(parse("--use_tta")).tta_group == config.TTA_GROUP
    with pytest.raises(InputError, match="sw_batch_size"):
        inference_settings(parse("--sw_batch_size", "0"))


@pytest.mark.parametrize(
    ("words", "trained_with", "expected"),
    [
        ([], (1.0, 99.0), (1.0, 99.0)),
        ([], None, None),
        (["--use_global_norm"], (1.0, 99.0), (1.0, 99.0)),
        (["--use_global_norm"], None, (config.NORM_LOWER_PERCENTILE, config.NORM_UPPER_PERCENTILE)),
        (["--norm_percentiles", "0", "95"], (1.0, 99.0), (0.0, 95.0)),
        (["--norm_percentiles", "0", "95"], None, (0.0, 95.0)),
        (["--norm_percentiles", "0", "95", "--use_global_norm"], None, (0.0, 95.0)),
    ],
)
def test_grey_values_are_clipped_as_told_then_as_trained(words, trained_with, expected):
    assert resolve_norm_percentiles(parse(*words), trained_with) == expected
