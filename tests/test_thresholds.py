"""thresholds.json: what is written is read, and every mistake in it is named."""

import json
import math
from dataclasses import replace

import pytest

from data.number_ranges import SHARE, NumberRange
from data.thresholds import read_thresholds, write_thresholds
from errors import InputError
from metrics.calibration import KEYWORDS as CALIBRATION
from particle_config import PARTICLES
from training.experiment import FoldResult, write_result

RANGES = {"nms_radius_fraction": NumberRange(0, 100), "peak_threshold": SHARE}
METHOD = "peak_local_max_gpu"


def values(peak=0.4):
    return {p.name: {"peak_threshold": peak, "nms_radius_fraction": 0.8} for p in PARTICLES}


def read(path):
    return read_thresholds(path, method=METHOD, ranges=RANGES, particles=PARTICLES)


def test_what_is_written_is_read(tmp_path):
    entries = {"search": {"f4": 0.7, "runs": ["a"], "hyperparameters": {METHOD: values(), "cc3d": {}}}}
    write_thresholds(tmp_path / "thresholds.json", entries, PARTICLES)
    assert read(tmp_path / "thresholds.json") == [{METHOD: values()}]


def test_a_calibration_may_be_there_for_some_and_of_any_sign(tmp_path):
    table = values()
    table["ribosome"] |= {"calibration_slope": 0.5, "calibration_offset": -2.0}
    write_thresholds(tmp_path / "t.json", {"search": {"hyperparameters": {METHOD: table}}}, PARTICLES)
    keywords = {"method": METHOD, "ranges": RANGES, "particles": PARTICLES, "optional": CALIBRATION}
    assert read_thresholds(tmp_path / "t.json", **keywords) == [{METHOD: table}]
    table["ribosome"]["calibration_offset"] = math.inf
    (tmp_path / "t.json").write_text(json.dumps({"search": {"hyperparameters": {METHOD: table}}}))
    with pytest.raises(InputError, match=r"calibration_offset is inf; it must be a number from "):
        read_thresholds(tmp_path / "t.json", **keywords)


def test_what_training_writes_is_read(tmp_path):
    for fold, peak in ((0, 0.2), (1, 0.6)):
        write_result(tmp_path, FoldResult(fold, (f"TS_{fold}",), "a.ckpt", 0.5, {METHOD: values(peak)}), PARTICLES)
    assert read(tmp_path / "thresholds.json") == [{METHOD: values(0.2)}, {METHOD: values(0.6)}]


def test_entries_of_other_methods_are_passed_over(tmp_path):
    write_thresholds(
        tmp_path / "t.json",
        {"a": {"hyperparameters": {"cc3d": {}}}, "b": {"hyperparameters": {METHOD: values()}}},
        PARTICLES,
    )
    assert len(read(tmp_path / "t.json")) == 1


def changed(change):
    table = values()
    change(table)
    return {"search": {"hyperparameters": {METHOD: table}}}


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ({}, ["no hyperparameters"]),
        ([1], ["no hyperparameters"]),
        ({"search": 3}, ["search", "hyperparameters"]),
        ({"search": {"hyperparameters": {"cc3d": {}}}}, [METHOD, "cc3d"]),
        (changed(lambda t: t.pop("ribosome")), ["ribosome", "missing"]),
        (changed(lambda t: t.update(prion=t["ribosome"])), ["prion", "unknown", "ribosome"]),
        (changed(lambda t: t["ribosome"].pop("peak_threshold")), ["ribosome", "peak_threshold", "missing"]),
        (changed(lambda t: t["ribosome"].update(peak=1)), ["ribosome", "'peak'", "unknown"]),
        (
            changed(lambda t: t["ribosome"].update(peak_threshold=math.nan)),
            ["ribosome", "peak_threshold", "from 0 to 1"],
        ),
        (changed(lambda t: t["ribosome"].update(peak_threshold=-0.1)), ["peak_threshold", "-0.1"]),
        (changed(lambda t: t["ribosome"].update(nms_radius_fraction=1e308)), ["nms_radius_fraction", "0 to 100"]),
        (changed(lambda t: t["ribosome"].update(peak_threshold="0.3")), ["peak_threshold", "'0.3'"]),
        (changed(lambda t: t["ribosome"].update(peak_threshold=True)), ["peak_threshold", "True"]),
        (changed(lambda t: t.update(ribosome=0.3)), ["ribosome", "table"]),
    ],
)
def test_mistakes_are_named(tmp_path, content, texts):
    path = tmp_path / "thresholds.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        read(path)
    for text in [str(path), *texts]:
        assert text in str(caught.value)


def test_values_found_with_other_radii_are_refused(tmp_path):
    """Suppression radii and sizes are in radii of the particles."""
    path = tmp_path / "thresholds.json"
    write_thresholds(path, {"search": {"hyperparameters": {METHOD: values()}}}, PARTICLES)
    doubled = [replace(p, radius_angstrom=2 * p.radius_angstrom) for p in PARTICLES]
    with pytest.raises(InputError, match=r"a radius of 60.0 A for apo-ferritin, which has 120 A .*; search again"):
        read_thresholds(path, method=METHOD, ranges=RANGES, particles=doubled)
    exchanged = [replace(p, label=7 - p.label, colour="#000000", score_weight=3.0) for p in PARTICLES[::-1]]
    assert read_thresholds(path, method=METHOD, ranges=RANGES, particles=exchanged)  # by name: labels play no part


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    for name in ("broken.json", "nowhere.json"):
        with pytest.raises(InputError, match=name):
            read(tmp_path / name)


def test_no_value_is_written_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError):
        write_thresholds(tmp_path / "t.json", {"a": {"hyperparameters": {METHOD: values(math.nan)}}}, PARTICLES)
    assert not list(tmp_path.iterdir())
