"""Compiled networks answer as they did before."""

import functools

import pytest
import torch
from torch import nn

from errors import InputError
from inference.compilation import compiled
from models import build_model
from models.folding import fold_norms


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
@torch.inference_mode()
def test_the_network_is_captured_in_one_piece_and_answers_the_same(monkeypatch):
    """Without machine code, for which a GPU is needed: what is captured runs as it is."""
    asked, compile_ = [], torch.compile

    @functools.wraps(compile_)
    def capture(network, **options):
        asked.append(options)
        return compile_(network, backend="eager", fullgraph=True)

    monkeypatch.setattr(torch, "compile", capture)
    network = fold_norms(build_model("deepfinder2", num_classes=3).eval())
    windows = torch.randn(2, 1, 16, 16, 24)
    answer = compiled(network, torch.device("cuda"))(windows)
    torch.testing.assert_close(answer, network(windows), atol=1e-5, rtol=1e-5)
    assert asked == [{"mode": "reduce-overhead", "dynamic": False}]


def test_a_cpu_does_without():
    with pytest.raises(InputError, match="--compile needs a GPU"):
        compiled(nn.Identity(), torch.device("cpu"))
