"""The device that work runs on."""

import warnings

import torch

from errors import InputError

DEVICES = ("auto", "cpu", "cuda")


def choose_device(name: str, precision: str = "fp32") -> torch.device:
    """The device of that name; ``auto`` is the GPU where there is one.

    Raises
    ------
    InputError
        ``cuda`` without a GPU, or fp16 on a CPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no GPU on this machine; use --device cpu or leave it out")
    device = torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
    if precision == "fp16" and device.type == "cpu":
        raise InputError("--precision fp16 needs a GPU; on a CPU use bf16 or fp32")
    return device


def usable_precision(name: str, device: torch.device) -> str:
    """The precision of that name; instead of bf16, where a device would only emulate it, the one that it computes in.

    On a GPU that is fp16, with a warning. On a CPU it is fp32, of which bf16 is a rounding; emulated it takes many
    times as long.
    """
    if name != "bf16":
        return name
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        warnings.warn("this GPU does not compute in bf16: fp16 in its place (or give --precision fp32)", stacklevel=2)
        return "fp16"
    return "fp32" if device.type == "cpu" and not cpu_computes_bf16() else name


def cpu_computes_bf16() -> bool:
    """Whether this CPU has the instructions for bf16; where torch does not know them, it has none."""
    return bool(getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", bool)())
