"""Flags of detection and search: each exists, obeys precedence, has an effect, and is an error where it has none."""

import argparse

import pytest

import config
from data.thresholds import write_thresholds
from detection.arguments import HYPERPARAMETERS
from errors import InputError
from evaluation.arguments import (
    add_postprocessing_arguments,
    add_search_arguments,
    is_untuned,
    resolve_hyperparameters,
    search_grid,
)
from particle_config import PARTICLES
from postprocessing import METHODS, Method
from postprocessing.detections import no_detections

FIXED_FLAGS = {
    "--fixed_conf_threshold",
    "--fixed_nms_radius_fraction",
    "--fixed_vol_frac_threshold",
    "--fixed_cluster_radius_fraction",
    "--fixed_min_cluster_vol_frac",
    "--fixed_plm_gpu_peak_thresh",
    "--fixed_ws_cluster_rad_frac",
}
LIST_FLAGS = {
    "--conf_thresholds",
    "--nms_radius_fractions",
    "--vol_frac_thresholds",
    "--cluster_radius_fractions",
    "--min_cluster_vol_fracs",
    "--plm_gpu_peak_threshs",
    "--ms_cluster_rad_fracs",
    "--ms_min_vol_fracs",
    "--ws_cluster_rad_fracs",
    "--ws_vol_frac_thresholds",
}
SEARCH = ("--hp_search_strategy", "per_class")


def parse(*words):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_postprocessing_arguments(parser)
    add_search_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def resolve(args, particles, trained, conditions=None):
    return resolve_hyperparameters(args, particles, trained, conditions)


def for_method(method, *words):
    return parse("--postprocessing_method", method, *words)


def trained(value):
    return {"peak_local_max_gpu": {"ribosome": {"peak_threshold": value, "nms_radius_fraction": 0.7}}}


def test_command_line_then_checkpoint_then_config():
    from_config = resolve(parse(), PARTICLES, [{}])
    assert from_config["ribosome"] == {
        "peak_threshold": config.PLM_GPU_PEAK_THRESH,
        "nms_radius_fraction": config.NMS_RADIUS_FRACTION,
    }
    from_checkpoint = resolve(parse(), PARTICLES, [trained(0.4)])
    assert from_checkpoint["ribosome"] == {"peak_threshold": 0.4, "nms_radius_fraction": 0.7}
    assert from_checkpoint["thyroglobulin"] == from_config["thyroglobulin"]
    fixed = resolve(parse("--fixed_plm_gpu_peak_thresh", "0"), PARTICLES, [trained(0.4)])
    assert fixed["ribosome"] == {"peak_threshold": 0.0, "nms_radius_fraction": 0.7}  # 0 is a value, not "not given"


def test_an_ensemble_takes_the_mean_of_what_its_members_found():
    found = resolve(parse(), PARTICLES, [trained(0.4), trained(0.6), {}])
    assert found["ribosome"]["peak_threshold"] == pytest.approx(0.5)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gets_exactly_its_keywords(method):
    expected = {row.keyword for row in HYPERPARAMETERS if method in row.methods}
    found = resolve(parse("--postprocessing_method", method), PARTICLES, [])
    assert all(set(values) == expected for values in found.values())


@pytest.mark.parametrize("row", HYPERPARAMETERS, ids=lambda row: row.keyword)
@pytest.mark.parametrize("method", METHODS)
def test_a_flag_without_effect_is_an_error(row, method):
    args = parse("--postprocessing_method", method, row.fixed_flag, "0.3")
    if method in row.methods:
        assert resolve(args, PARTICLES, [])["ribosome"][row.keyword] == 0.3
    else:
        with pytest.raises(InputError, match=row.fixed_flag):
            resolve(args, PARTICLES, [])


@pytest.mark.parametrize(
    ("row", "method", "flag"),
    [(row, method, flag) for row in HYPERPARAMETERS for method, flag in row.specific_fixed_flags.items()],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_specific_beats_generic(row, method, flag):
    least = row.range.low
    for words in ([row.fixed_flag, 0.3, flag, least], [flag, least, row.fixed_flag, 0.3], [flag, least]):
        args = parse("--postprocessing_method", method, *words)
        assert resolve(args, PARTICLES, [])["ribosome"][row.keyword] == least
    for other in set(METHODS) - {method}:
        with pytest.raises(InputError, match=flag):
            resolve(parse("--postprocessing_method", other, flag, "0.3"), PARTICLES, [])


# --- The table ----------------------------------------------------------------------------------------
def test_the_table_has_all_flags_and_no_others():
    fixed = [f for row in HYPERPARAMETERS for f in (row.fixed_flag, *row.specific_fixed_flags.values())]
    lists = [f for row in HYPERPARAMETERS for f in (row.list_flag, *row.specific_list_flags.values())]
    assert set(fixed) == FIXED_FLAGS and set(lists) == LIST_FLAGS and len(lists) == len(LIST_FLAGS)
    assert {flag.removeprefix("--") for flag in FIXED_FLAGS | LIST_FLAGS} < set(vars(parse()))


@pytest.mark.parametrize("method", METHODS)
def test_the_table_knows_the_keywords_of_every_method(method):
    known = METHODS[method]
    wanted = {*known.structural, known.score_keyword, known.size_keyword, "nms_radius_fraction"} - {None}
    assert {row.keyword for row in HYPERPARAMETERS if method in row.methods} == wanted


@pytest.mark.parametrize(("row", "method"), [(r, m) for r in HYPERPARAMETERS for m in r.methods], ids=str)
def test_default_grids_are_in_order_and_reach_around_the_default(row, method):
    values, default = row.grid_for(method), row.default_for(method)
    assert list(values) == sorted(set(values)) and values[0] < default < values[-1]


# --- The search ---------------------------------------------------------------------------------------
def flags_for(method):
    """(keyword, list flag, whether it is the method's own)."""
    for row in HYPERPARAMETERS:
        if method in row.methods:
            yield row.keyword, row.list_flag, False
            if method in row.specific_list_flags:
                yield row.keyword, row.specific_list_flags[method], True


@pytest.mark.parametrize("method", METHODS)
def test_without_lists_the_grid_is_that_of_the_table(method):
    assert search_grid(for_method(method)) is None
    grid = search_grid(for_method(method, *SEARCH))
    rows = [row for row in HYPERPARAMETERS if method in row.methods]
    assert grid.method == method and grid.values == {row.keyword: row.grid_for(method) for row in rows}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("flag", sorted(LIST_FLAGS))
def test_every_list_is_searched_or_refused(method, flag):
    known = {name: keyword for keyword, name, _ in flags_for(method)}
    args = for_method(method, *SEARCH, flag, 0.9, 0.3, 0.9)
    if flag in known:
        values = search_grid(args).values
        assert values[known[flag]] == (0.3, 0.9)
        others = set(values) - {known[flag]}
        assert all(values[name] == search_grid(for_method(method, *SEARCH)).values[name] for name in others)
    else:
        with pytest.raises(InputError, match=f"{flag} has no effect .*{method}"):
            search_grid(args)


@pytest.mark.parametrize(
    ("method", "keyword", "flag"), [(m, k, f) for m in METHODS for k, f, specific in flags_for(m) if specific]
)
def test_the_list_of_a_method_beats_the_general_one(method, keyword, flag):
    general = next(row.list_flag for row in HYPERPARAMETERS if row.keyword == keyword)
    for words in ([general, 0.1, 0.2, flag, 0.5, 0.6], [flag, 0.5, 0.6, general, 0.1, 0.2]):
        assert search_grid(for_method(method, *SEARCH, *words)).values[keyword] == (0.5, 0.6)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_fixed_is_not_searched_whatever_is_listed(method):
    for row in [row for row in HYPERPARAMETERS if method in row.methods]:
        for fixed in {row.fixed_flag, row.specific_fixed_flags.get(method, row.fixed_flag)}:
            args = for_method(method, *SEARCH, fixed, row.range.low, row.list_flag, 0.3, 0.4)
            assert search_grid(args).values[row.keyword] == (row.range.low,)
            assert resolve(args, PARTICLES, [])["ribosome"][row.keyword] == row.range.low


@pytest.mark.parametrize("flag", sorted(LIST_FLAGS))
def test_a_list_without_a_search_is_an_error(flag):
    method = next(m for m in METHODS for _, name, _ in flags_for(m) if name == flag)
    args = for_method(method, flag, 0.3)
    for read in (search_grid, lambda args: resolve(args, PARTICLES, [])):
        with pytest.raises(InputError, match=f"{flag} .*--hp_search_strategy"):
            read(args)


def test_nothing_left_to_search_is_said():
    args = parse(*SEARCH, "--fixed_plm_gpu_peak_thresh", 0.3, "--fixed_nms_radius_fraction", 0.8)
    with pytest.warns(UserWarning, match="searches nothing"):
        assert search_grid(args) is None


# --- --per_class_hp_path ------------------------------------------------------------------------------
@pytest.fixture
def file(tmp_path):
    tables = [{p.name: {"peak_threshold": peak, "nms_radius_fraction": 0.9} for p in PARTICLES} for peak in (0.2, 0.4)]
    entries = {f"fold_{k}": {"hyperparameters": {"peak_local_max_gpu": table}} for k, table in enumerate(tables)}
    write_thresholds(tmp_path / "thresholds.json", entries, PARTICLES)
    return tmp_path / "thresholds.json"


def test_a_file_beats_the_checkpoints_and_a_fixed_flag_beats_the_file(file):
    found = resolve(parse("--per_class_hp_path", file), PARTICLES, [trained(0.7)])
    assert found["ribosome"] == {"peak_threshold": pytest.approx(0.3), "nms_radius_fraction": pytest.approx(0.9)}
    args = parse("--per_class_hp_path", file, "--fixed_nms_radius_fraction", 0)
    assert resolve(args, PARTICLES, [])["ribosome"]["nms_radius_fraction"] == 0.0


CALIBRATION = {"calibration_slope": 1.0, "calibration_offset": -3.0}
CONDITIONS = {"views": "none", "norm_percentiles": [0.5, 99.5]}


def test_calibrations_come_with_the_hyperparameters():
    """The mean of those that there are; another threshold leaves them, since it changes no score."""
    one, other = trained(0.2), trained(0.4)
    one["peak_local_max_gpu"]["ribosome"] |= CALIBRATION
    other["peak_local_max_gpu"]["ribosome"] |= {"calibration_slope": 2.0, "calibration_offset": -1.0}
    found = resolve(parse("--fixed_plm_gpu_peak_thresh", 0.1), PARTICLES, [one, other])
    assert (found["ribosome"]["calibration_slope"], found["ribosome"]["calibration_offset"]) == (1.5, -2.0)
    assert "calibration_slope" not in found["thyroglobulin"]


@pytest.mark.parametrize(
    ("flag", "holds"),
    [
        (("--fixed_vol_frac_threshold", 0.3), True),
        (("--fixed_nms_radius_fraction", 0.8), True),
        (("--fixed_nms_radius_fraction", 0.5), False),
        (("--fixed_conf_threshold", 0.2), False),
    ],
)
def test_a_calibration_does_not_hold_for_other_hyperparameters(flag, holds):
    values = {"conf_threshold": 0.4, "vol_frac_threshold": 0.1, "nms_radius_fraction": 0.8}
    found = resolve(for_method("cc3d", *flag), PARTICLES, [{"cc3d": {"ribosome": values | CALIBRATION}}] * 3)
    assert (CALIBRATION.items() <= found["ribosome"].items()) == holds
    assert set(found["ribosome"]) == {*values, *(CALIBRATION if holds else ())}


def test_the_mean_of_unlike_hyperparameters_has_no_calibration():
    folds = [
        {
            "cc3d": {
                "ribosome": {"conf_threshold": c, "vol_frac_threshold": 0.1, "nms_radius_fraction": 0.8} | CALIBRATION
            }
        }
        for c in (0.2, 0.4)
    ]
    assert "calibration_slope" not in resolve(for_method("cc3d"), PARTICLES, folds)["ribosome"]


def test_a_calibration_of_a_file_holds_under_its_conditions(file):
    table = {p.name: {"peak_threshold": 0.2, "nms_radius_fraction": 0.9} | CALIBRATION for p in PARTICLES}
    entry = {"hyperparameters": {"peak_local_max_gpu": table}, "calibrated_with": CONDITIONS}
    write_thresholds(file, {"search": entry}, PARTICLES)
    args = parse("--per_class_hp_path", file)
    assert resolve(args, PARTICLES, [], CONDITIONS) == table
    for conditions in ({**CONDITIONS, "views": "d2h"}, {}):
        found = resolve(args, PARTICLES, [], conditions)["ribosome"]
        assert found == {"peak_threshold": 0.2, "nms_radius_fraction": 0.9}
    del entry["calibrated_with"]  # a file of an earlier version does not say
    write_thresholds(file, {"search": entry}, PARTICLES)
    assert "calibration_slope" not in resolve(args, PARTICLES, [], CONDITIONS)["ribosome"]


def test_a_method_without_hyperparameters_of_a_training_is_untuned():
    others = [trained(0.3)]
    assert not is_untuned(parse(), others) and is_untuned(parse(), [{}])
    assert is_untuned(for_method("cc3d"), others) and not is_untuned(for_method("cc3d", *SEARCH), others)
    fixed = ("--fixed_conf_threshold", 0.3, "--fixed_vol_frac_threshold", 0.1)
    assert is_untuned(for_method("cc3d", *fixed), others)
    assert not is_untuned(for_method("cc3d", *fixed, "--fixed_nms_radius_fraction", 0.8), others)


def test_a_file_takes_the_place_of_a_search(file):
    with pytest.warns(UserWarning, match="searches nothing"):
        assert search_grid(parse(*SEARCH, "--per_class_hp_path", file)) is None
    with pytest.raises(InputError, match=r"--nms_radius_fractions .*--per_class_hp_path"):
        search_grid(parse(*SEARCH, "--per_class_hp_path", file, "--nms_radius_fractions", 0.3))


def test_a_file_of_another_method(file):
    with pytest.raises(InputError, match="cc3d"):
        resolve(for_method("cc3d", "--per_class_hp_path", file), PARTICLES, [])


# --- A fifth method -----------------------------------------------------------------------------------
def test_a_fifth_method_is_one_row_of_the_registry(monkeypatch):
    """With both thresholds: flags, defaults and the grid follow, and the search goes over both."""
    toy = Method(lambda probability, **_: no_detections(), ("conf_threshold",), "peak_threshold", "vol_frac_threshold")
    monkeypatch.setitem(METHODS, "toy", toy)
    keywords = {"conf_threshold", "peak_threshold", "vol_frac_threshold", "nms_radius_fraction"}
    assert set(resolve(for_method("toy"), PARTICLES, [])["ribosome"]) == keywords
    grid = search_grid(for_method("toy", *SEARCH, "--vol_frac_thresholds", 0.1, 0.2, "--fixed_conf_threshold", 0.4))
    assert set(grid.values) == set(grid.keywords) == keywords
    assert grid.values["vol_frac_threshold"] == (0.1, 0.2) and grid.values["conf_threshold"] == (0.4,)
    with pytest.raises(InputError, match="--ms_min_vol_fracs has no effect"):
        search_grid(for_method("toy", *SEARCH, "--ms_min_vol_fracs", 0.1))
