"""Flags of the inference: what each of them sets, and no flag that does nothing."""

import argparse
from dataclasses import replace
from pathlib import Path

import pytest

import config
from errors import InputError
from inference.arguments import (
    add_inference_arguments,
    check_merge,
    inference_settings,
    resolve_norm_percentiles,
    resolve_tomo_type,
)
from inference.checkpoints import Description, check_agreement
from particle_config import PARTICLES

DESCRIPTION = Description(
    architecture={"encoder_name": "deepfinder2", "norm_type": "batch", "num_classes": 7},
    particles=PARTICLES,
    patch_size_zyx=(64, 96, 96),
    norm_percentiles=(0.5, 99.5),
    radius_fraction=0.5,
    tomo_types=("denoised",),
    voxel_spacing_angstrom=10.012,
    fold=0,
    validation_runs=("TS_1",),
    hyperparameters={},
    f4=0.8,
)


def parse(*words):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_inference_arguments(parser)
    parser.add_argument("--tomo_type")
    return parser.parse_args(words)


def settings(*words, descriptions=(DESCRIPTION,)):
    return inference_settings(parse(*words), descriptions)


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (["--precision", "fp32"], {"precision": "fp32"}),
        (["--inference_window", "train"], {"window": "train"}),
        (["--inference_window", "96", "128", "160"], {"window": (96, 128, 160)}),
        (["--sw_overlap", "0"], {"overlap": 0.0, "max_overlap_voxels": None}),
        (["--sw_overlap", "0.5"], {"overlap": 0.5, "max_overlap_voxels": None}),
        (["--sw_batch_size", "3"], {"batch_size": 3}),
        (["--blend_mode", "constant"], {"blend_mode": "constant"}),
        (["--max_memory_gb", "2.5"], {"max_memory_gb": 2.5}),
        (["--compile"], {"compile": True}),
        (["--tta_group", "d4h", "--tilt_axis", "x"], {"tta_group": "d4h", "tilt_axis": "x"}),
        (["--use_tta"], {"tta_group": "d2h"}),
        (["--tta_group", "d4h"], {"tta_group": "d4h"}),
        (["--tta_group", "none"], {}),
        (["--use_tta", "--tta_group", "oh"], {"tta_group": "oh"}),
        (["--use_tta", "--tta_merge", "logit"], {"tta_group": "d2h", "tta_merge": "logit"}),
    ],
)
def test_every_flag_sets_what_it_names_and_nothing_else(words, changed):
    assert settings(*words) == replace(settings(), **changed)


def test_the_tilt_axis_is_that_of_the_training():
    upright, lying = DESCRIPTION, replace(DESCRIPTION, tilt_axis="z")
    assert settings("--use_tta", descriptions=[lying]).tilt_axis == "z"
    with pytest.warns(UserWarning, match="--tilt_axis z, but the networks were trained with y"):
        assert settings("--tta_group", "d4h", "--tilt_axis", "z").tilt_axis == "z"
    with pytest.warns(UserWarning, match="--tilt_axis x, but the networks were trained with z"):
        settings("--tta_group", "etfinder7", "--tilt_axis", "x", descriptions=[lying])
    check_agreement([Path("a"), Path("b")], [upright, replace(upright, tilt_axis="x")])
    with pytest.raises(InputError, match="differ in tilt axis"):
        check_agreement([Path("a"), Path("b")], [upright, lying])


@pytest.mark.parametrize("views", [(), ("--use_tta",), ("--tta_group", "oh"), ("--tta_group", "d2")])
def test_a_tilt_axis_without_effect_is_refused(views):
    with pytest.raises(InputError, match="--tilt_axis has no effect on the views of"):
        settings(*views, "--tilt_axis", "z")


def test_without_flags():
    found = settings()
    assert found.window == "auto" and found.trained_window_zyx == (64, 96, 96) and found.tta_group == "none"
    assert (found.overlap, found.max_overlap_voxels) == (config.SW_OVERLAP, config.SW_MAX_OVERLAP)


@pytest.mark.parametrize(
    ("modes", "group"),
    [
        (["anisotropic"], "d2h"),
        (["wedge"], "d2h"),
        (["isotropic"], "oh"),
        (["isotropic", "isotropic"], "oh"),
        (["isotropic", "anisotropic"], "d2h"),
    ],
)
def test_the_views_are_those_that_suit_the_training_of_all_networks(modes, group):
    descriptions = [replace(DESCRIPTION, augmentation_mode=mode) for mode in modes]
    assert settings("--use_tta", descriptions=descriptions).tta_group == group


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--use_tta", "--tta_group", "none"], "contradict"),
        (["--inference_window", "64", "64"], "--inference_window"),
        (["--inference_window", "auto", "train"], "--inference_window"),
        (["--inference_window", "64", "auto", "64"], "--inference_window"),
    ],
)
def test_what_cannot_be_meant_is_an_error(words, text):
    with pytest.raises(InputError, match=text):
        settings(*words)


def test_how_to_merge_is_refused_where_nothing_is_merged():
    check_merge(parse("--tta_merge", "logit"), merges=True)
    check_merge(parse(), merges=False)
    with pytest.raises(InputError, match="--tta_merge has no effect"):
        check_merge(parse("--tta_merge", "logit"), merges=False)


def test_networks_trained_on_other_windows_share_the_largest():
    other = replace(DESCRIPTION, patch_size_zyx=(128, 64, 64))
    assert settings(descriptions=[DESCRIPTION, other]).trained_window_zyx == (128, 96, 96)


def test_networks_validated_on_other_tomograms_need_to_be_told_which():
    other = replace(DESCRIPTION, tomo_types=("wbp", "denoised"))
    assert resolve_tomo_type(parse(), [DESCRIPTION, DESCRIPTION]) == "denoised"
    assert resolve_tomo_type(parse("--tomo_type", "wbp"), [DESCRIPTION, other]) == "wbp"
    with pytest.raises(InputError, match=r"denoised and wbp.*--tomo_type"):
        resolve_tomo_type(parse(), [DESCRIPTION, other])


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
