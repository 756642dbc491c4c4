"""Which device is taken."""

import pytest
import torch

from errors import InputError
from inference.device import choose_device


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
