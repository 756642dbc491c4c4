"""Windows and views of a network add up to what it says about the whole, however they are cut and batched."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from inference.sliding_window import sliding_window
from inference.windows import BLEND_MODES, WindowGrid
from particle_config import PARTICLES
from postprocessing import detect
from tta.orientations import ORIENTATIONS, TILT_AXES, apply, turned
from tta.views import MERGES, SMALLEST_PROBABILITY, undo


def grid(shape, window=(16, 16, 16), overlap=4, stride=1):
    return WindowGrid(tuple(shape), window, (overlap,) * 3, stride)


def channels(batch):
    """A voxelwise network with three classes."""
    return torch.cat((batch, -batch, batch**2), dim=1)


def pool(volume, stride):
    """Mean of each cell of (..., Z, Y, X); the last of an odd side sees the volume mirrored."""
    missing = [added for side in reversed(volume.shape[-3:]) for added in (0, -side % stride)]
    return functional.avg_pool3d(functional.pad(volume, missing, mode="reflect"), stride)


def place_along_x(batch):
    """Sure of class 1 to the degree x / side."""
    x = (torch.arange(batch.shape[-1]) + 0.5) / batch.shape[-1]
    return torch.stack(((1 - x).log(), x.log())).view(1, 2, 1, 1, -1).expand(len(batch), -1, *batch.shape[2:])


@pytest.fixture
def raw_windows(monkeypatch):
    """Windows reach the network as they are: what it answers does not depend on where they are cut."""
    monkeypatch.setattr("inference.sliding_window.standardize", lambda window: window)


# --- One network, one view ----------------------------------------------------------------------------
@pytest.mark.parametrize("blend_mode", BLEND_MODES)
@pytest.mark.parametrize("shape", [(16, 16, 16), (17, 23, 40), (5, 9, 30), (1, 16, 16)])
def test_a_constant_prediction_stays_constant(shape, blend_mode):
    logits = torch.tensor([0.3, 0.7]).log().view(1, 2, 1, 1, 1)
    probability, variance = sliding_window(
        torch.randn(shape),
        [lambda batch: logits.expand(len(batch), -1, *batch.shape[2:])],
        grid=grid(shape),
        blend_mode=blend_mode,
    )
    assert probability.shape == (2, *shape) and variance is None
    torch.testing.assert_close(probability[1], torch.full(shape, 0.7))


def test_one_window_is_the_z_scored_volume():
    volume = torch.randn(8, 8, 8) * 3 + 7
    probability, _ = sliding_window(volume, [channels], grid=grid((8, 8, 8), (8, 8, 8)))
    z_scored = (volume - volume.mean()) / (volume.std(correction=0) + 1e-6)
    torch.testing.assert_close(probability, torch.softmax(channels(z_scored[None, None])[0], dim=0))


def test_padding_is_cut_off_where_it_was_put_on():
    volume = torch.zeros(6, 16, 16)
    volume[2, 3, 4] = 100.0
    probability, _ = sliding_window(volume, [lambda batch: torch.cat((-batch, batch), 1)], grid=grid(volume.shape))
    assert np.unravel_index(int(probability[1].argmax()), (6, 16, 16)) == (2, 3, 4)


def test_answers_on_another_grid_are_refused():
    with pytest.raises(ValueError, match="gave outputs"):
        sliding_window(torch.zeros(8, 8, 8), [channels], grid=grid((8, 8, 8), (8, 8, 8), stride=2))


# --- Stitching ----------------------------------------------------------------------------------------
class ShiftEquivariant(nn.Module):
    """Two convolutions of 3^3: a voxel sees two to either side. At stride 2 the mean of cells at the end."""

    def __init__(self, stride):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layers = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 3, 3, padding=1))
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
        self.stride = stride

    def forward(self, volume):
        return functional.avg_pool3d(self.layers(volume) / 5, self.stride)


@torch.inference_mode()
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("window", "overlap"), [((24, 24, 24), 12), ((26, 30, 24), 11), ((28, 28, 32), 14)])
@pytest.mark.parametrize("shape", [(36, 40, 36), (37, 41, 45)])
def test_the_stitched_map_of_a_shift_equivariant_network_is_that_of_the_whole(
    shape, window, overlap, stride, raw_windows
):
    network, volume = ShiftEquivariant(stride), torch.randn(shape, generator=torch.Generator().manual_seed(1))
    whole_cells = tuple(side + side % stride for side in shape)
    whole, _ = sliding_window(volume, [network], grid=grid(shape, whole_cells, 0, stride))
    cut = grid(shape, window, overlap, stride)
    stitched, _ = sliding_window(volume, [network], grid=cut)
    assert len(cut) > 1 and stitched.shape == whole.shape == (3, *cut.map_shape_zyx)
    torch.testing.assert_close(stitched, whole, atol=0.01, rtol=0)
    # The border of a window, where the network sees nothing of one side, is what must not count.
    constant, _ = sliding_window(volume, [network], grid=cut, blend_mode="constant")
    assert (constant - whole).abs().max() > 0.1


@pytest.mark.parametrize("blend_mode", BLEND_MODES)
@pytest.mark.parametrize("shape", [(16, 16, 16), (20, 24, 28), (17, 23, 40), (16, 17, 21), (9, 16, 37)])
@pytest.mark.parametrize("views", ORIENTATIONS)
def test_pooling_windows_is_pooling_the_volume(shape, views, blend_mode, raw_windows):
    """Shorter than the window, odd, and both at once; the views are turned back onto their cells."""
    volume = torch.randn(shape)
    probability, _ = sliding_window(
        volume,
        [lambda batch: pool(channels(batch), 2)],
        grid=grid(shape, stride=2),
        views=ORIENTATIONS[views],
        blend_mode=blend_mode,
        batch_size=3,
    )
    torch.testing.assert_close(probability, torch.softmax(pool(channels(volume[None, None]), 2)[0], 0))


@pytest.mark.parametrize("shape", [(24, 26, 40), (25, 27, 41), (15, 26, 41)])
@pytest.mark.parametrize("centre", [(11.0, 12.0, 17.0), (10.5, 11.5, 17.5), (11.3, 12.8, 16.6), (10.1, 13.7, 18.25)])
def test_a_blob_is_found_where_it_was_put(shape, centre, raw_windows):
    """Through a network of stride 2, windows, views and detection: the half voxel is neither lost nor added."""
    if shape[0] == 15:
        centre = (centre[0] - 3, *centre[1:])
    z, y, x = np.ogrid[tuple(slice(side) for side in shape)]
    squared = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
    particle = next(particle for particle in PARTICLES if particle.name == "apo-ferritin")
    probability, _ = sliding_window(
        torch.from_numpy((0.01 + 0.98 * np.exp(-squared / (2 * 3.0**2))).astype(np.float32)),
        [lambda batch: pool(torch.cat((1 - batch, batch), dim=1), 2).log()],
        grid=grid(shape, stride=2),
        views=ORIENTATIONS["d2h"],
    )
    found = detect(
        probability,
        method="peak_local_max_gpu",
        particles=[particle],
        voxel_spacing_angstrom=10.0,
        trained_radius_fraction=0.5,
        hyperparameters={particle.name: {"peak_threshold": 0.1, "nms_radius_fraction": 0.8}},
        map_stride=2,
    )[particle.name]
    assert len(found) == 1
    assert np.abs(found.coordinates_zyx[0] - centre).max() < 0.1


# --- Views and networks -------------------------------------------------------------------------------
@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("tilt_axis", TILT_AXES)
@pytest.mark.parametrize("views", ORIENTATIONS)
@pytest.mark.parametrize("shape", [(12, 16, 14), (9, 21, 30)])
def test_views_of_a_voxelwise_network_change_nothing(shape, views, tilt_axis, merge):
    """In windows with three different sides."""
    volume, cut = torch.randn(shape), grid(shape, (10, 16, 12))
    plain, _ = sliding_window(volume, [channels], grid=cut)
    turned_views = turned(ORIENTATIONS[views], tilt_axis)
    probability, variance = sliding_window(volume, [channels], grid=cut, views=turned_views, merge=merge, batch_size=5)
    # In a mean of logarithms the two other classes count as the smallest probability at least.
    atol = 1e-5 if merge == "probability" else 2 * SMALLEST_PROBABILITY
    torch.testing.assert_close(probability, plain, atol=atol, rtol=1e-5)
    assert (variance is None) == (views == "none")
    assert variance is None or variance.max() < 1e-9  # what rounding leaves of the z-score's view


def test_views_are_merged_and_turned_back_and_their_variance_is_kept():
    """A network that is sure of class 1 to the degree x / side: over all flips the mean is one half."""
    probability, variance = sliding_window(
        torch.randn(8, 8, 8), [place_along_x], grid=grid((8, 8, 8), (8, 8, 8)), views=ORIENTATIONS["d2h"]
    )
    torch.testing.assert_close(probability, torch.full_like(probability, 0.5))
    along_x = (torch.arange(8) + 0.5) / 8
    torch.testing.assert_close(variance, ((along_x - 0.5) ** 2).expand(2, 8, 8, 8))


@pytest.mark.parametrize("merge", MERGES)
def test_every_network_sees_every_view_and_counts_the_same(merge):
    """Networks that answer by the place, the second more weakly; in earnest against a plain loop over both."""
    networks = [place_along_x, lambda batch: 0.3 * place_along_x(batch)]
    views = ORIENTATIONS["etfinder7"]
    volume = torch.randn(6, 8, 8)
    probability, variance = sliding_window(
        volume, networks, grid=grid((6, 8, 8), (6, 8, 8)), views=views, merge=merge, batch_size=4
    )
    logits = torch.stack(
        [undo(network(apply(volume[None, None], view))[0], view) for network in networks for view in views]
    )
    answers = torch.softmax(logits, 1)
    mean = answers.mean(0) if merge == "probability" else torch.softmax(torch.log_softmax(logits, 1).mean(0), 0)
    torch.testing.assert_close(probability, mean)
    torch.testing.assert_close(variance, answers.var(0, correction=0))


def test_networks_that_agree_are_not_uncertain():
    _, variance = sliding_window(torch.randn(20, 16, 16), [channels, channels], grid=grid((20, 16, 16)))
    assert variance is not None and not variance.any()


@torch.inference_mode()
@pytest.mark.parametrize("views", ["none", "d2h", "d4h", "oh"])
@pytest.mark.parametrize("batch_size", [2, 3, 8, 1000])
def test_result_does_not_depend_on_the_batch_size(views, batch_size):
    """Less than the views of a window, more than all views of all windows, and nothing that divides."""
    network, volume, calls = ShiftEquivariant(1), torch.randn(20, 21, 24), []

    def counted(batch):
        calls.append(len(batch))
        return network(batch) / 5

    def run(size):
        options = {"grid": grid(volume.shape, (16, 12, 16)), "views": ORIENTATIONS[views], "batch_size": size}
        return sliding_window(volume, [counted], **options)

    expected, expected_variance = run(1)
    singles = len(calls)
    calls.clear()
    probability, variance = run(batch_size)
    assert sum(calls) == singles and max(calls) <= batch_size and len(calls) < singles
    torch.testing.assert_close(probability, expected, atol=1e-6, rtol=0)
    if variance is not None:
        torch.testing.assert_close(variance, expected_variance, atol=1e-6, rtol=0)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(20, 16, 40), (21, 15, 41), (5, 40, 31)])
def test_progress_adds_up_to_the_volume(shape, stride):
    done = []
    sliding_window(
        torch.randn(shape),
        [lambda batch: pool(channels(batch), stride)] * 2,
        grid=grid(shape, stride=stride),
        views=ORIENTATIONS["d2"],
        batch_size=3,
        progress=done.append,
    )
    assert sum(done) == pytest.approx(np.prod(shape)) and min(done) > 0
