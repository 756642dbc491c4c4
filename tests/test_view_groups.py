"""Groups of views from one pass over all of them: what the predictor makes of each group by itself."""

import numpy as np
import torch

from benchmarks.inference import default_predictor, view_flags
from benchmarks.view_groups import predictions
from models import build_model
from tta.orientations import ORIENTATIONS


def test_a_group_is_the_mean_that_the_predictor_makes():
    torch.manual_seed(0)
    network = build_model("deepfinder2", num_classes=3, output_stride=2).eval()
    volume = np.random.default_rng(0).standard_normal((16, 24, 32), dtype=np.float32)
    groups = ("none", "d2", "etfinder7", "d4h")
    found = predictions(default_predictor(network, ["--precision", "fp32"]), volume, groups)
    assert set(found) == set(groups)
    for group, prediction in found.items():
        alone = default_predictor(network, ["--precision", "fp32", *view_flags(group)])(volume)
        assert prediction.stride == alone.stride == 2
        assert torch.allclose(prediction.probability, alone.probability, atol=1e-5)
    assert not torch.allclose(found["d2"].probability, found["d4h"].probability, atol=1e-4)


def test_every_view_is_computed_once(monkeypatch):
    network = build_model("deepfinder2", num_classes=2).eval()
    predictor, seen = default_predictor(network, ["--precision", "fp32"]), []
    original = predictor._predict
    monkeypatch.setattr(predictor, "_predict", lambda *args: seen.extend(predictor.views) or original(*args))
    predictions(predictor, np.zeros((8, 8, 8), np.float32), ("none", "d2h", "etfinder7"))
    assert sorted(seen) == sorted({*ORIENTATIONS["d2h"], *ORIENTATIONS["etfinder7"]})
