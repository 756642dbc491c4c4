"""Benchmarks that run a checkpoint over a data set: same windows, same score; every group of views has its picks."""

from dataclasses import replace

import pandas as pd
import pytest
from tiny_campaign import EVALUATED, NAMES, write_checkpoint, write_run

import config
from benchmarks import inference_accuracy, view_groups
from benchmarks.inference import SIDES
from inference.checkpoints import load_checkpoint


@pytest.fixture
def flags(tmp_path, monkeypatch):
    """A checkpoint with hyperparameters, and two tomograms."""
    for seed, name in enumerate(EVALUATED):
        write_run(tmp_path / "data", name, seed)
    write_checkpoint(tmp_path / "a.ckpt", fold=0, seed=0)
    found = {name: {"peak_threshold": 0.02, "nms_radius_fraction": 0.1} for name in NAMES}

    def with_hyperparameters(path):
        network, description = load_checkpoint(path)
        return network, replace(description, hyperparameters={config.POSTPROCESSING_METHOD: found})

    for module in (inference_accuracy, view_groups):
        monkeypatch.setattr(module, "load_checkpoint", with_hyperparameters)
    return ["--model_path", str(tmp_path / "a.ckpt"), "--data_root", str(tmp_path / "data")]


def test_where_one_window_holds_a_tomogram_both_sides_score_alike(flags, capsys):
    inference_accuracy.main([*flags, "--precision", "fp32", "--device", "cpu", "--views", "1"])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[1] for row in rows] == list(SIDES)
    assert len({row[2] for row in rows}) == 1 and 0 < float(rows[0][2]) < 1


def test_every_group_gets_its_picks(flags, tmp_path):
    view_groups.main([*flags, "--output_dir", str(tmp_path / "out"), "--groups", "none", "d2"])
    tables = {group: pd.read_csv(tmp_path / "out" / group / "submission.csv") for group in ("none", "d2")}
    for table in tables.values():
        assert set(table["experiment"]) == set(EVALUATED) and (table["score"] >= 0.02).all()
    assert not tables["none"].equals(tables["d2"])
