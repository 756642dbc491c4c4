"""Networks compiled for the windows at hand."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from errors import InputError


def compiled(network: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The network as CUDA graphs, one for every shape of windows.

    Raises
    ------
    InputError
        On a CPU, where the compiled deepfinder2 takes a quarter more time than oneDNN does without (torch 2.13, bf16).
    """
    if device.type == "cpu":
        raise InputError("--compile needs a GPU, on a CPU it makes networks slower; leave it out")
    graph = torch.compile(network, mode="reduce-overhead", dynamic=False)

    def replay(windows: Tensor) -> Tensor:
        # The output of the last call has been merged: its memory may be written again.
        torch.compiler.cudagraph_mark_step_begin()
        return graph(windows)

    return replay
