"""Networks compiled for the windows at hand."""

import os
import shutil
from collections.abc import Callable

import torch
from torch import Tensor, nn

from errors import InputError

COMPILERS = ("g++", "clang++", "c++")


def compiled(network: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """torch.compile for one shape of windows; on a GPU calls become CUDA graphs, on a CPU operations are fused.

    Raises
    ------
    InputError
        On a CPU without a C++ compiler.
    """
    if device.type == "cpu" and not (os.environ.get("CXX") or any(map(shutil.which, COMPILERS))):
        raise InputError("--compile needs a C++ compiler (g++ or clang++); install one, or leave the flag out")
    if device.type == "cpu":
        return torch.compile(network, dynamic=False)
    graph = torch.compile(network, mode="reduce-overhead", dynamic=False)

    def replay(windows: Tensor) -> Tensor:
        # The answer to the last call has been merged: its memory may be written again.
        torch.compiler.cudagraph_mark_step_begin()
        return graph(windows)

    return replay
