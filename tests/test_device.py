"""Which device is taken."""

import pytest
import torch

from errors import InputError
from inference.device import choose_device, usable_precision
from inference.predictor import Predictor
from inference.settings import InferenceSettings
from models import build_model


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
    assert usable_precision("fp32", gpu) == "fp32"


@pytest.mark.parametrize("has_bf16", [True, False])
def test_a_cpu_without_bf16_computes_in_fp32(monkeypatch, has_bf16):
    monkeypatch.setattr("inference.device.cpu_computes_bf16", lambda: has_bf16)
    cpu = torch.device("cpu")
    assert usable_precision("bf16", cpu) == ("bf16" if has_bf16 else "fp32")
    assert usable_precision("fp32", cpu) == "fp32"
    networks = [build_model("deepfinder2", num_classes=3)]
    settings = InferenceSettings((32, 32, 32), 0.25, "gaussian", 1, "none", "bf16")
    assert Predictor(networks, settings, cpu).settings.precision == ("bf16" if has_bf16 else "fp32")
