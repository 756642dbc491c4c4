"""Networks compiled for the windows at hand."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from errors import InputError

# Graphs of all networks together; beyond it they are all forgotten, and made again where they are needed. Left to
# itself, torch runs a network uncompiled from its ninth shape on.
MOST_GRAPHS = 64
_graphs: set[tuple[int, torch.Size]] = set()


def compiled(network: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The network as CUDA graphs, one for every shape of windows.

    Raises
    ------
    InputError
        On a CPU, where the compiled deepfinder2 takes a quarter more time than oneDNN does without (torch 2.13, bf16).
    """
    if device.type == "cpu":
        raise InputError("--compile needs a GPU, on a CPU it makes networks slower; leave it out")
    # In one piece: where that fails, an error says so instead of a network that runs uncompiled.
    graph = torch.compile(
        network, mode="reduce-overhead", dynamic=False, fullgraph=True, recompile_limit=MOST_GRAPHS + 1
    )

    def replay(windows: Tensor) -> Tensor:
        known = id(network), windows.shape
        if known not in _graphs and len(_graphs) >= MOST_GRAPHS:
            forget_graphs()
        _graphs.add(known)
        # The output of the last call has been merged: its memory may be written again.
        torch.compiler.cudagraph_mark_step_begin()
        return graph(windows)

    return replay


def forget_graphs() -> None:
    """Give the memory of all graphs back; they are made again with the next call."""
    torch.compiler.reset()
    _graphs.clear()
