"""Which device is taken."""

import pytest
import torch

from errors import InputError
from inference.device import choose_device, usable_precision


def test_the_gpu_only_where_there_is_one():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_fp16_needs_a_gpu():
    with pytest.raises(InputError, match="bf16"):
        choose_device("cpu", "fp16")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_cuda_without_a_gpu():
    with pytest.raises(InputError, match="finds no GPU"):
        choose_device("cuda")


@pytest.mark.parametrize("has_bf16", [True, False])
def test_bf16_is_not_emulated(monkeypatch, has_bf16):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16 or including_emulation)
    gpu = torch.device("cuda")
    if has_bf16:
        assert usable_precision("bf16", gpu) == "bf16"
    else:
        with pytest.warns(UserWarning, match="does not compute in bf16"):
            assert usable_precision("bf16", gpu) == "fp16"
    assert usable_precision("fp32", gpu) == "fp32" and usable_precision("bf16", torch.device("cpu")) == "bf16"
