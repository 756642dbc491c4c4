"""Compiled networks answer as they did before."""

import os
import shutil

import pytest
import torch
from torch import nn

from errors import InputError
from inference.compilation import COMPILERS, compiled

CPU = torch.device("cpu")
HAS_COMPILER = bool(os.environ.get("CXX") or any(map(shutil.which, COMPILERS)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
@pytest.mark.skipif(not HAS_COMPILER, reason="needs a C++ compiler")
def test_the_answer_stays():
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv3d(4, 2, 1)).eval()
    windows = torch.randn(2, 1, 8, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(network, CPU)(windows), network(windows), atol=1e-5, rtol=1e-5)


def test_without_a_compiler_one_is_asked_for(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InputError, match=r"C\+\+ compiler"):
        compiled(nn.Identity(), CPU)
