"""Compiled networks answer as they did before."""

import functools

import pytest
import torch
from torch import nn

from errors import InputError
from inference import compilation
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
    assert asked == [
        {"mode": "reduce-overhead", "dynamic": False, "fullgraph": True, "recompile_limit": compilation.MOST_GRAPHS + 1}
    ]


@pytest.fixture
def captured(monkeypatch):
    """The shapes that are captured; what is captured runs as it is."""
    shapes, compile_ = [], torch.compile

    def backend(graph, inputs):
        shapes.append(tuple(next(one.shape for one in inputs if one.ndim == 5 and one.shape[2] == 4)))
        return graph.forward

    def capture(network, *, mode, **options):
        return compile_(network, backend=backend, **options)

    monkeypatch.setattr(torch, "compile", capture)
    compilation.forget_graphs()
    yield shapes
    compilation.forget_graphs()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
@torch.inference_mode()
def test_no_shape_is_one_too_many(captured, monkeypatch):
    """Of all networks together; beyond the limit all graphs are made anew, and no network runs without one."""
    monkeypatch.setattr(compilation, "MOST_GRAPHS", 24)
    networks = [compiled(nn.Conv3d(1, 1, (1, 1, 1 + 2 * side)).eval(), torch.device("cuda")) for side in (0, 1)]
    shapes = [(1, 1, 4, 4, side) for side in range(4, 16)]
    for network in networks:
        for shape in (*shapes, *shapes):
            network(torch.ones(shape))
    assert captured == shapes * 2
    for _ in range(2):
        networks[0](torch.ones(1, 1, 4, 4, 20))  # one more
        networks[1](torch.ones(shapes[0]))
    assert captured[24:] == [(1, 1, 4, 4, 20), shapes[0]]


def test_a_cpu_does_without():
    with pytest.raises(InputError, match="--compile needs a GPU"):
        compiled(nn.Identity(), torch.device("cpu"))
