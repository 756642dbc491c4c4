"""Maps of several networks combined: by hand, by the law of total variance, and without looking twice."""

import math
import weakref

import pytest
import torch

from inference.ensembles import mean_of_maps, specialists_map
from inference.maps.map_files import write_map
from inference.predictor import Prediction
from tta.views import ViewMerger


def column(*probabilities, variance=None, stride=1):
    """A map of one place."""
    values = torch.tensor(probabilities)[:, None, None, None]
    return Prediction(values, None if variance is None else torch.tensor(variance)[:, None, None, None], stride)


def ready(*maps):
    return [lambda one=one: one for one in maps]


def values(tensor):
    return pytest.approx(tensor.flatten().tolist(), abs=1e-6)


def test_the_mean_of_two_networks():
    first, second = column(0.2, 0.8, 0.0), column(0.6, 0.0, 0.4)
    merged = mean_of_maps(ready(first, second), "probability")
    assert values(merged.probability) == [0.4, 0.4, 0.2]
    assert values(merged.variance) == [0.04, 0.16, 0.04]


def test_one_network_is_itself():
    alone = column(0.2, 0.8, stride=2)
    assert mean_of_maps(ready(alone), "probability") is alone and mean_of_maps(ready(alone), "logit") is alone


@pytest.mark.parametrize("merge", ["probability", "logit"])
def test_two_steps_are_one(merge):
    """Views merged per network, then networks: the same as all views of all networks at once."""
    torch.manual_seed(0)
    logits = 2 * torch.randn(3, 4, 5, 2, 3, 4)  # networks, views, classes, z, y, x
    together, members = ViewMerger(merge), []
    for network in logits:
        alone = ViewMerger(merge)
        for view in network:
            alone.add(view)
            together.add(view)
        members.append(Prediction(*alone.merged(), 1))
    merged = mean_of_maps(ready(*members), merge)
    probability, variance = together.merged()
    torch.testing.assert_close(merged.probability, probability, atol=1e-4, rtol=1e-4)
    if merge == "probability":  # else the members' maps are not the arithmetic means that the variance is about
        torch.testing.assert_close(merged.variance, variance, atol=1e-6, rtol=1e-4)


def test_networks_that_are_sure_are_merged_as_views_are(tmp_path):
    """From maps as they are stored, too, where most probabilities are nothing: off by their rounding and no more."""
    torch.manual_seed(0)
    logits = 8 * torch.randn(2, 4, 20, 20, 20)  # networks, classes, z, y, x
    together, members = ViewMerger("logit"), []
    for number, network in enumerate(logits):
        members.append(Prediction(torch.softmax(network, dim=0), None, 1))
        write_map(tmp_path / str(number), members[-1])
        together.add(network)
    merged, expected = mean_of_maps(ready(*members), "logit").probability, together.merged()[0]
    torch.testing.assert_close(merged, expected, atol=0.02, rtol=0)
    # By hand: 0.9996 and 1e-6 of one class, of the other the rest. The least that counts is 0.002, so that the odds
    # are the root of 0.9996 / 0.002 times 0.002 / 1.
    sure = [torch.tensor([a, 1 - a]).log().view(2, 1, 1, 1) for a in (0.9996, 1e-6)]
    views = ViewMerger("logit")
    for one in sure:
        views.add(one)
    by_network = mean_of_maps(ready(*(Prediction(one.exp(), None, 1) for one in sure)), "logit").probability
    odds = math.sqrt(0.9996 / 0.002 * 0.002 / 1)
    for probability in (views.merged()[0], by_network):
        assert values(probability) == [odds / (1 + odds), 1 / (1 + odds)]


def test_what_is_rounded_to_nothing_stays_a_number():
    merged = mean_of_maps(ready(column(1.0, 0.0), column(0.0, 1.0)), "logit")
    assert values(merged.probability) == [0.5, 0.5]


def test_each_specialist_speaks_for_its_class():
    for_one, for_two = column(0.5, 0.3, 0.2, stride=2), column(0.1, 0.8, 0.1, stride=2)
    merged = specialists_map(ready(for_one, for_two), "probability")
    total = 0.3 + 0.3 + 0.1  # background (0.5 + 0.1) / 2, one from the first, two from the second
    assert values(merged.probability) == [0.3 / total, 0.3 / total, 0.1 / total]
    assert merged.variance is None and merged.stride == 2


def test_the_variance_of_a_specialist_is_scaled_with_its_map():
    maps = [column(0.5, 0.3, 0.2, variance=[0.02, 0.03, 9.0]), column(0.1, 0.8, 0.1, variance=[0.04, 9.0, 0.01])]
    merged = specialists_map(ready(*maps), "probability")
    scale = 1 / 0.7**2
    assert values(merged.variance) == [(0.03 + 0.04) * scale, 0.03 * scale, 0.01 * scale]


def test_specialists_that_agree_change_nothing():
    agreeing = ready(column(0.5, 0.3, 0.2), column(0.5, 0.3, 0.2))
    assert values(specialists_map(agreeing, "probability").probability) == [0.5, 0.3, 0.2]


def test_specialists_that_see_nothing_give_no_number_that_is_none():
    nothing = specialists_map(ready(column(0.0, 0.0, 1.0), column(0.0, 1.0, 0.0)), "probability")
    assert torch.isfinite(nothing.probability).all()


@pytest.mark.parametrize("combine", [mean_of_maps, specialists_map])
def test_one_map_beside_the_result(combine):
    alive = []

    def make():
        assert sum(reference() is not None for reference in alive) <= 1
        probability = torch.full((5, 2, 2, 2), 0.2)
        alive.append(weakref.ref(probability))
        return Prediction(probability, None, 1)

    combine([make] * 4, "probability")
    assert len(alive) == 4
