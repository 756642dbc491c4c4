"""Flags of inference: precedence, and no flag that does nothing."""

import argparse

import pytest

import config
from errors import InputError
from evaluation.inference_arguments import (
    add_inference_arguments,
    inference_settings,
    resolve_norm_percentiles,
)


def parse(*words):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_inference_arguments(parser)
    return parser.parse_args(words)


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
