"""From a normalised tomogram to one probability map, whatever memory there is."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from errors import InputError, is_out_of_memory
from inference.predictor import Predictor
from inference.settings import InferenceSettings
from models import build_model

CPU = torch.device("cpu")
SETTINGS = InferenceSettings((32, 32, 32), 0.25, "gaussian", 1, "none", "fp32")


class Pooled(nn.Module):
    """Answers at stride 2: the mean of each cell against nothing."""

    output_stride = 2

    def __init__(self, divisor=8):
        super().__init__()
        self.divisor = divisor

    def forward(self, volume):
        mean = functional.avg_pool3d(volume, 2)
        return torch.cat((torch.zeros_like(mean), mean), dim=1)


class Fixed(nn.Module):
    """Answers with the same logits everywhere; may be able to hold only so many voxels."""

    divisor = 8
    output_stride = 1

    def __init__(self, *logits, most_voxels=10**9, error=None):
        super().__init__()
        self.logits = torch.tensor(logits)
        self.most_voxels, self.error, self.calls = most_voxels, error, []

    def __deepcopy__(self, memo):
        return self

    def forward(self, volume):
        self.calls.append(tuple(volume.shape))
        if volume.numel() > self.most_voxels:
            raise self.error
        return self.logits.view(1, -1, 1, 1, 1).expand(len(volume), -1, *volume.shape[-3:])


def with_settings(**changes):
    return InferenceSettings(**{**SETTINGS.__dict__, **changes})


def seeded(*shape):
    return np.random.default_rng(0).random(shape, dtype=np.float32)


# --- The map ------------------------------------------------------------------------------------------
def test_probabilities_of_several_networks_are_averaged_and_their_variance_kept():
    predictor = Predictor([Fixed(0.0, 0.0), Fixed(0.0, np.log(3.0))], SETTINGS, CPU)
    prediction = predictor(seeded(20, 30, 40))
    assert prediction.probability.shape == prediction.variance.shape == (2, 20, 30, 40) and prediction.stride == 1
    torch.testing.assert_close(prediction.probability[1], torch.full((20, 30, 40), (0.5 + 0.75) / 2))
    torch.testing.assert_close(prediction.variance[1], torch.full((20, 30, 40), 0.125**2))
    torch.testing.assert_close(prediction.probability.sum(0), torch.ones(20, 30, 40))


def test_logits_of_several_networks_are_averaged_where_asked_for():
    """Odds of 1 and 9 make odds of 3."""
    predictor = Predictor([Fixed(0.0, 0.0), Fixed(0.0, np.log(9.0))], with_settings(tta_merge="logit"), CPU)
    torch.testing.assert_close(predictor(seeded(8, 8, 8)).probability[1], torch.full((8, 8, 8), 0.75))


def test_one_view_of_one_network_knows_no_variance():
    assert Predictor([Fixed(0.0, 1.0)], SETTINGS, CPU)(seeded(8, 8, 8)).variance is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precisions(precision, monkeypatch):
    monkeypatch.setattr("inference.device.cpu_computes_bf16", lambda: True)
    network = nn.Conv3d(1, 3, 3, padding=1)
    network.divisor = network.output_stride = 1
    seen = []
    network.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    predictor = Predictor([network], with_settings(precision=precision), CPU)
    probability = predictor(seeded(8, 8, 8)).probability
    assert probability.dtype == torch.float32 and torch.isfinite(probability).all()
    assert seen == [{"fp32": torch.float32, "bf16": torch.bfloat16}[precision]]


@pytest.mark.parametrize("tta_group", ["none", "d2h", "oh"])
@pytest.mark.parametrize("shape", [(16, 24, 32), (15, 23, 31), (5, 33, 40)])
def test_a_network_of_stride_2_gives_a_map_of_cells(shape, tta_group):
    predictor = Predictor([Pooled()], with_settings(tta_group=tta_group), CPU)
    done = []
    prediction = predictor(seeded(*shape), done.append)
    assert predictor.output_stride == prediction.stride == 2
    assert prediction.probability.shape == (2, *(-(-side // 2) for side in shape))
    torch.testing.assert_close(prediction.probability.sum(0), torch.ones(prediction.probability.shape[1:]))
    assert sum(done) == pytest.approx(np.prod(shape))


def test_the_bright_cell_is_the_one_with_the_bright_voxel():
    volume = np.zeros((13, 40, 50), dtype=np.float32)
    volume[9, 31, 44] = 1.0
    probability = Predictor([Pooled()], with_settings(tta_group="d2h"), CPU)(volume).probability[1]
    assert np.unravel_index(int(probability.argmax()), probability.shape) == (4, 15, 22)


def test_views_are_those_of_the_data():
    """Turns about the beam: about z, or about y where the tilt axis is z."""
    orders = {}
    for tilt_axis in ("y", "z"):
        predictor = Predictor([Fixed(0.0, 1.0)], with_settings(tta_group="etfinder7", tilt_axis=tilt_axis), CPU)
        orders[tilt_axis] = {view.order for view in predictor.views}
    assert orders == {"y": {(0, 1, 2), (0, 2, 1)}, "z": {(0, 1, 2), (2, 1, 0)}}


def test_networks_of_different_strides_are_not_averaged():
    with pytest.raises(ValueError, match="output strides"):
        Predictor([Pooled(), Fixed(0.0, 1.0)], SETTINGS, CPU)


def test_a_read_only_volume_is_as_good_as_any():
    volume = seeded(8, 8, 8)
    predictor = Predictor([Fixed(0.0, 1.0)], SETTINGS, CPU)
    expected = predictor(volume).probability
    volume.flags.writeable = False
    assert torch.equal(predictor(volume).probability, expected)


def test_the_networks_given_stay_as_they_are():
    network = build_model("deepfinder2", num_classes=3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    Predictor([network], SETTINGS, CPU)(seeded(16, 16, 16))
    after = network.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


# --- Windows ------------------------------------------------------------------------------------------
def test_the_window_is_cut_to_the_tomogram_and_fits_every_network_and_whole_cells():
    assert Predictor([Fixed(0.0, 1.0)], SETTINGS, CPU).window_for((20, 100, 32)) == (24, 32, 32)
    assert Predictor([Pooled(8), Pooled(12)], SETTINGS, CPU).window_for((20, 30, 200)) == (24, 48, 48)
    assert Predictor([Pooled(1)], SETTINGS, CPU).window_for((15, 30, 200)) == (16, 30, 32)


def test_automatic_is_the_whole_tomogram_where_it_fits():
    predictor = Predictor([Fixed(0.0, 1.0)], with_settings(window="auto"), CPU)
    assert predictor.window_for((20, 100, 90)) == (24, 104, 96)


def with_free(monkeypatch, bytes_):
    monkeypatch.setattr("inference.predictor.free_memory_bytes", lambda *_, **__: int(bytes_))


def test_the_window_is_the_same_whatever_memory_is_free(monkeypatch):
    """Of a tomogram of full size; where less is free than it takes, a smaller one, with a word."""
    network, shape = build_model("deepfinder2", num_classes=7), (184, 630, 630)
    for settings, window in ((with_settings(window="auto"), (184, 256, 632)), (SETTINGS, (32, 32, 32))):
        for free in (60e9, 20e9, 10e9):
            with_free(monkeypatch, free)
            predictor = Predictor([network], settings, CPU)
            predictor.fit(shape)
            assert predictor.window_for(shape) == window
    predictor = Predictor([network], with_settings(window="auto"), CPU)
    with_free(monkeypatch, 5e9)
    with pytest.warns(UserWarning, match="windows of 184 x 136 x 632 voxels, not 184 x 256 x 632, since 5.00 GB"):
        predictor.fit(shape)
    assert predictor.window_for(shape) == (184, 136, 632)
    with_free(monkeypatch, 60e9)
    predictor.fit(shape)
    assert predictor.window_for(shape) == (184, 136, 632)  # as for the tomograms before


def test_less_memory_means_smaller_windows_until_nothing_fits(monkeypatch):
    """Asked for or free; in the end an error that says how much is needed."""
    network, shape = build_model("deepfinder2", num_classes=3), (96, 160, 160)
    auto = with_settings(window="auto")
    asked_for, free = [], []
    for limit in (1e9, 3.1e8, 2.5e8, 2.1e8):
        asked_for.append(Predictor([network], with_settings(window="auto", max_memory_gb=limit / 1e9), CPU))
        free.append(Predictor([network], auto, CPU))
        with_free(monkeypatch, limit)
        with pytest.warns(UserWarning, match="GB are free") if limit < 1e9 else nullcontext():
            free[-1].fit(shape)
    windows = [predictor.window_for(shape) for predictor in asked_for]
    assert windows == [predictor.window_for(shape) for predictor in free]
    voxels = [np.prod(window) for window in windows]
    assert windows[0] == (96, 160, 160) and voxels == sorted(set(voxels), reverse=True)
    with pytest.raises(InputError, match=r"needs 0\.\d\d GB .*raise --max_memory_gb"):
        Predictor([network], with_settings(window="auto", max_memory_gb=0.01), CPU).window_for(shape)
    with_free(monkeypatch, 1e7)
    with pytest.raises(InputError, match=r"needs 0\.\d\d GB of memory, 0\.01 GB are free"):
        Predictor([network], auto, CPU).fit(shape)


def test_more_than_the_default_is_taken_where_the_smallest_windows_need_it():
    network = build_model("deepfinder2", num_classes=3)
    predictor = Predictor([network], with_settings(window="auto", cpu_memory_gb=0.01), CPU)
    plans = predictor._planner.plans((96, 160, 160))
    assert predictor.plan_for((96, 160, 160)) == min(plans, key=predictor.predicted_bytes)


def test_batches_give_way_before_windows(monkeypatch):
    """A batch changes no value: neither its size nor the memory for it decides about the window."""
    network, shape = build_model("deepfinder2", num_classes=3), (96, 160, 160)
    one, four = (
        Predictor([network], with_settings(window="auto", batch_size=size, max_memory_gb=1.0, tta_group="d2h"), CPU)
        for size in (1, 4)
    )
    assert one.window_for(shape) == four.window_for(shape) == (96, 160, 160)
    assert four.plan_for(shape).batch_size == 2
    with_free(monkeypatch, 0.6e9)
    four.fit(shape)
    assert four.window_for(shape) == (96, 160, 160) and four.plan_for(shape).batch_size == 1


def test_windows_of_a_given_size_are_held_to_a_limit_that_is_given(monkeypatch):
    network = build_model("deepfinder2", num_classes=3)
    predictor = Predictor([network], SETTINGS, CPU)
    assert predictor.window_for((64, 64, 64)) == (32, 32, 32)
    with pytest.raises(InputError, match="--max_memory_gb"):
        Predictor([network], with_settings(max_memory_gb=1e-3), CPU).window_for((64, 64, 64))
    with_free(monkeypatch, predictor.predicted_bytes(predictor.plan_for((64, 64, 64))) - 1)
    with pytest.warns(UserWarning, match="windows of 16 x 32 x 32 voxels, not 32 x 32 x 32"):
        predictor.fit((64, 64, 64))


@pytest.mark.parametrize(("norm_type", "window"), [("batch", (64, 64, 64)), ("instance", (32, 16, 24))])
def test_networks_that_depend_on_the_window_see_those_of_training(norm_type, window):
    network = build_model("deepfinder2", num_classes=3, norm_type=norm_type)
    settings = with_settings(window="auto", trained_window_zyx=(32, 16, 24))
    with pytest.warns(UserWarning, match="32 x 16 x 24") if norm_type == "instance" else nullcontext():
        predictor = Predictor([network], settings, CPU)
    assert predictor.window_for((64, 64, 64)) == window
    asked = with_settings(window=(40, 40, 40), trained_window_zyx=(32, 16, 24))
    assert Predictor([network], asked, CPU).window_for((64, 64, 64)) == (40, 40, 40)


def test_windows_of_training_on_demand():
    settings = with_settings(window="train", trained_window_zyx=(32, 16, 24))
    assert Predictor([Fixed(0.0, 1.0)], settings, CPU).window_for((64, 64, 64)) == (32, 16, 24)


# --- Out of memory ------------------------------------------------------------------------------------
OUT_OF_MEMORY = [
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_windows_are_halved_along_their_longest_side_until_they_fit(error):
    network = Fixed(0.0, np.log(3.0), most_voxels=32 * 32 * 32, error=error)
    predictor = Predictor([network], with_settings(window=(32, 48, 64)), CPU)
    done = []
    with pytest.warns(UserWarning, match="out of memory") as said:
        prediction = predictor(seeded(32, 48, 64), done.append)
    assert [str(one.message).split("with ")[-1][:12] for one in said] == ["32 x 48 x 32", "32 x 24 x 32"]
    assert network.calls[:2] == [(1, 1, 32, 48, 64), (1, 1, 32, 48, 32)]
    torch.testing.assert_close(prediction.probability[1], torch.full((32, 48, 64), 0.75))
    assert sum(done) == pytest.approx(32 * 48 * 64)
    before = len(network.calls)
    predictor(seeded(32, 48, 64))  # the next one begins where this one ended, without a word
    assert set(network.calls[before:]) == {(1, 1, 32, 24, 32)}


def test_progress_takes_back_what_was_done_before_memory_ran_out():
    """In the second of two windows."""
    network, done = Fixed(0.0, 0.0), []
    network.forward, answer = lambda volume: fail_once(volume), network.forward

    def fail_once(volume):
        if len(network.calls) == 1 and not any(voxels < 0 for voxels in done):
            raise MemoryError
        return answer(volume)

    with pytest.warns(UserWarning, match="out of memory"):
        Predictor([network], with_settings(window=(16, 16, 32)), CPU)(seeded(16, 16, 48), done.append)
    assert done[0] > 0 and done[1] == -done[0] and sum(done) == pytest.approx(16 * 16 * 48)


def test_compiled_networks_see_one_shape_of_batch_and_give_their_graphs_back(monkeypatch):
    """Eight views of seven windows, three per call: short batches are filled up, and nothing else changes."""
    forgotten = []
    monkeypatch.setattr("inference.predictor.compiled", lambda network, device: network)
    monkeypatch.setattr("inference.predictor.forget_graphs", lambda: forgotten.append(True))
    settings = {"window": (16, 16, 16), "tta_group": "d2h", "overlap": 0.0}
    volume, network = seeded(16, 16, 100), Pooled()
    expected = Predictor([network], with_settings(**settings), CPU)(volume)
    for batch_size, compiled_shape in ((3, (3, 1, 16, 16, 16)), (24, (24, 1, 16, 16, 16))):
        seen = set()
        predictor = Predictor([network], with_settings(**settings, batch_size=batch_size, compile=True), CPU)
        predictor._calls = [lambda windows, seen=seen: seen.add(tuple(windows.shape)) or network(windows)]
        done = []
        found = predictor(volume, done.append)
        assert seen == {compiled_shape} and sum(done) == pytest.approx(volume.size)
        torch.testing.assert_close(found.probability, expected.probability)
        torch.testing.assert_close(found.variance, expected.variance)
    assert not forgotten
    network = Fixed(0.0, 0.0, most_voxels=2 * 16**3, error=OUT_OF_MEMORY[2])
    with pytest.warns(UserWarning, match="out of memory"):
        Predictor([network], with_settings(**settings, batch_size=4, compile=True), CPU)(volume)
    assert forgotten == [True]


def test_views_that_exchange_sides_have_a_graph_each(monkeypatch):
    """Each keeps an input of its own, and an output: what they take is known beforehand."""
    monkeypatch.setattr("inference.predictor.compiled", lambda network, device: network)
    window, voxels = (8, 16, 24), 8 * 16 * 24
    for group, graphs in (("none", 1), ("d2h", 1), ("d4h", 2), ("oh", 6)):
        settings = {"window": window, "tta_group": group}
        plain, compiled_ = (
            Predictor([Fixed(0.0, 1.0)], with_settings(**settings, compile=on), CPU) for on in (False, True)
        )
        plan = plain.plan_for((40, 40, 40))
        assert compiled_.predicted_bytes(plan) - plain.predicted_bytes(plan) == graphs * 4 * voxels * (1 + 2)


def test_batches_are_halved_before_windows():
    network = Fixed(0.0, 0.0, most_voxels=2 * 16**3, error=OUT_OF_MEMORY[0])
    settings = with_settings(window=(16, 16, 16), batch_size=8, tta_group="d2h")
    with pytest.warns(UserWarning, match="out of memory"):
        Predictor([network], settings, CPU)(seeded(16, 16, 16))
    assert [shape[0] for shape in network.calls] == [8, 4, 2, 2, 2, 2]


def test_where_nothing_is_left_to_halve_the_error_stays():
    network = Fixed(0.0, 0.0, most_voxels=0, error=MemoryError())
    with pytest.warns(UserWarning, match="out of memory"), pytest.raises(MemoryError):
        Predictor([network], with_settings(window=(16, 8, 8)), CPU)(seeded(16, 16, 16))
    assert network.calls[-1] == (1, 1, 8, 8, 8)


def test_other_errors_are_not_taken_for_it():
    network = Fixed(0.0, 0.0, most_voxels=0, error=RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"):
        Predictor([network], SETTINGS, CPU)(seeded(16, 16, 16))
    assert len(network.calls) == 1
    assert all(map(is_out_of_memory, OUT_OF_MEMORY)) and not is_out_of_memory(ValueError("memory"))
