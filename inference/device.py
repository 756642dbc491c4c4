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
    """fp16 in place of bf16, with a warning, on a GPU that would only emulate bf16; else the one of that name."""
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        warnings.warn("this GPU does not compute in bf16: fp16 in its place (or give --precision fp32)", stacklevel=2)
        return "fp16"
    return name
