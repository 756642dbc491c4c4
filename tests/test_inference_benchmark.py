"""The inference benchmark: both sides do the same, the work is counted right, the table says what was extrapolated."""

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import inference
from benchmarks.inference import OURS, SIDES, Measurement

SHAPE = (16, 24, 32)
SMALL = ["--shape", *map(str, SHAPE), "--encoders", "deepfinder2", "--precision", "fp32", "--device", "cpu"]
CPU = torch.device("cpu")


@pytest.mark.parametrize("views", [1, 8])
def test_both_sides_give_the_same_probabilities(views):
    """One window holds the whole tomogram, so that the windows make no difference."""
    args = inference.build_parser().parse_args(SMALL)
    torch.manual_seed(0)
    network = inference.make_network("deepfinder2")
    volume = np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32)
    ours = inference.our_side(network, views, args)(volume).probability
    for side in SIDES[1:]:
        theirs = inference.monai_side(network, side, views, args, CPU)(volume)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("side", inference.MONAI_SIDES)
@pytest.mark.parametrize("divisor", [8, 32])
def test_windows_suit_the_network_and_the_tomogram(side, divisor):
    settings = inference.MONAI_SIDES[side]
    for wanted, width, have in zip(
        settings.window_zyx, inference.monai_window(settings, (184, 630, 90), divisor), (184, 630, 90), strict=True
    ):
        assert width % divisor == 0 and 0 <= width - min(wanted, have) < divisor


@pytest.mark.parametrize("side", SIDES)
def test_a_measurement_counts_the_work_of_all_views(side):
    args = inference.build_parser().parse_args(SMALL)
    one, eight = (inference.measure(args, "deepfinder2", side, views, CPU) for views in (1, 8))
    assert (one.views, eight.views) == (1, 8)
    assert one.flop > 0 and eight.flop == 8 * one.flop
    assert one.seconds > 0 and one.cpu_seconds > 0 and one.gigabytes > 0.05


def test_flop_of_a_convolution():
    convolution = nn.Conv3d(2, 3, kernel_size=3, padding=1)
    # Two operations for each weight at each voxel of each volume of the batch.
    assert inference.flop(convolution, (5, 2, 4, 6, 8)) == 2 * (3 * 2 * 27) * (5 * 4 * 6 * 8)
    assert not convolution.weight.is_meta


def test_the_table_shows_medians_and_what_was_not_run(monkeypatch, capsys):
    """MONAI's one view takes twice as long as ours: eight of them as long as ours for eight, twice."""
    asked = []

    def pretend(args, encoder, side, views):
        asked.append((side, views))
        seconds = views * (2.0 if side != OURS else 1.0)
        return Measurement(views, seconds, cpu_seconds=3 * seconds, flop=views * 4e12, gigabytes=0.5)

    monkeypatch.setattr(inference, "in_own_process", pretend)
    monkeypatch.setattr(inference, "matmul_peak", lambda device, dtype: 8e12)
    inference.main([*SMALL, "--monai_views", "1", "--repeats", "2"])
    assert asked.count((OURS, 8)) == 2 and asked.count((SIDES[1], 1)) == 2 and (SIDES[1], 8) not in asked
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[2:]]
    head, body = rows[0], {(row[1], row[2]): row for row in rows[2:]}
    assert all(len(row) == len(head) for row in body.values()) and len(body) == 2 * len(SIDES)
    ours, theirs = body["8", OURS], body["8 (8 x one view)", SIDES[1]]
    column = {name: head.index(name) for name in head}
    assert [float(row[column["s"]]) for row in (ours, theirs)] == [8.0, 16.0]
    assert [float(row[column["times ours"]]) for row in (ours, theirs)] == [1.0, 2.0]
    assert [float(row[column["TFLOP/s"]]) for row in (ours, theirs)] == [4.0, 2.0]
    assert [row[column["of the peak"]] for row in (ours, theirs)] == ["50 %", "25 %"]


def test_the_peak_is_plausible(monkeypatch):
    monkeypatch.setattr(inference, "MATRIX_SIDES", {"cpu": 128})
    assert 1e7 < inference.matmul_peak(CPU, torch.float32) < 1e14


def test_a_network_that_is_not_there():
    with pytest.raises(inference.InputError, match="nowhere"):
        inference.main(["--encoders", "nowhere.ckpt"])
