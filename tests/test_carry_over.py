"""The table of networks on tomograms of other filters."""

from pathlib import Path

import numpy as np
import pytest
import tiny_campaign
import torch

from benchmarks import carry_over
from data.spectrum import SHELLS
from errors import InputError
from inference.checkpoints import KEY


@pytest.fixture
def world(tmp_path):
    return tiny_campaign.write_world(tmp_path, ("TS_1", "TS_2"))


def words(world):
    return ["--models", f"net={world / 'network.ckpt'}", "--data_roots", f"noise={world / 'public'}", "--device", "cpu"]


def test_a_row_for_each_filter_with_what_thresholds_cost(world, capsys):
    with pytest.raises(InputError, match="does not say what its training tomograms looked like"):
        carry_over.main(words(world))
    checkpoint = torch.load(world / "network.ckpt", weights_only=True)
    checkpoint[KEY]["spectrum"] = [1.0] * SHELLS
    names = [particle["name"] for particle in checkpoint[KEY]["particles"]]
    checkpoint[KEY]["hyperparameters"] = {
        "peak_local_max_gpu": {name: {"peak_threshold": 0.15, "nms_radius_fraction": 0.8} for name in names}
    }
    torch.save(checkpoint, world / "network.ckpt")
    capsys.readouterr()
    carry_over.main([*words(world), "--low_pass_angstrom", "0", "40", "--matching", "off", "on"])
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("| net |")]
    assert [row[2].strip() for row in rows] == ["none", "40"]
    scores = np.array([[list(map(float, cell.strip(" )").split(" ("))) for cell in row[3:]] for row in rows])
    assert scores.shape == (2, 2, 2) and (scores[..., 1] >= scores[..., 0]).all()
    assert (scores[0, 0] != scores[1, 0]).any()  # the filter was applied


@pytest.mark.parametrize(
    ("text", "name", "path"),
    [
        ("sim=runs/epoch=3-f4=0.7.ckpt", "sim", "runs/epoch=3-f4=0.7.ckpt"),
        ("runs/epoch=3-f4=0.7.ckpt", "epoch=3-f4=0.7.ckpt", "runs/epoch=3-f4=0.7.ckpt"),
        ("folder", "folder", "folder"),
    ],
)
def test_names_and_paths(text, name, path):
    assert carry_over.named_path(text) == (name, Path(path))


def test_a_low_pass_filter_halves_the_power_where_it_says():
    gain = np.array(carry_over.butterworth(0.25))
    frequencies = (np.arange(SHELLS) + 0.5) / SHELLS / 2
    assert np.interp(0.25, frequencies, gain) == pytest.approx(0.5, abs=0.02)
    assert gain[0] == pytest.approx(1) and gain[-1] < 0.01
