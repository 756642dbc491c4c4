"""Which windows: the fewest voxels to compute, every side as the network takes it, smaller ones on demand."""

import math

import pytest

from inference.planning import SMALLEST_SIDE, Planner
from inference.settings import InferenceSettings

SETTINGS = InferenceSettings("auto", 0.25, "gaussian", None, "none", "fp32", max_overlap_voxels=40)


def planner(settings=SETTINGS, *, divisor=8, stride=1, num_views=1, on_gpu=False):
    return Planner(settings, divisor=divisor, stride=stride, num_views=num_views, on_gpu=on_gpu)


def computed(plan):
    return math.prod(plan.grid.window_zyx) * len(plan.grid)


@pytest.mark.parametrize("divisor", [8, 32])
@pytest.mark.parametrize("shape", [(184, 630, 630), (96, 192, 200), (40, 70, 64), (1, 1, 1)])
def test_whole_first_then_ever_more_to_compute_in_ever_smaller_windows(shape, divisor):
    plans = planner(divisor=divisor).plans(shape)
    assert plans[0].grid.window_zyx == tuple(-(-side // divisor) * divisor for side in shape)
    assert len(plans[0].grid) == 1 and len(set(plans)) == len(plans)
    assert [computed(plan) for plan in plans] == sorted(computed(plan) for plan in plans)
    for plan in plans:
        for side, width in zip(shape, plan.grid.window_zyx, strict=True):
            assert width % divisor == 0 and width >= min(side, SMALLEST_SIDE)


def test_a_slab_is_cut_where_it_costs_least():
    """A flat tomogram is cut across its long sides, in windows that reach through its depth."""
    halves = planner().plans((184, 630, 630))[1]
    assert halves.grid.window_zyx == (184, 336, 632) or halves.grid.window_zyx == (184, 632, 336)
    assert len(halves.grid) == 2


def test_the_overlap_is_the_share_up_to_what_is_enough():
    assert planner().plan((184, 630, 630), (128, 320, 64)).grid.overlap_zyx == (32, 40, 16)


@pytest.mark.parametrize(
    ("on_gpu", "window", "num_views", "batch_size"),
    [
        (False, (64, 64, 64), 8, 1),
        (True, (64, 64, 64), 8, 61),  # 16 million voxels
        (True, (192, 192, 192), 8, 2),
        (True, (192, 192, 192), 1, 1),  # there is only one
        (True, (640, 640, 640), 8, 1),
    ],
)
def test_a_gpu_gets_as_much_as_keeps_it_busy(on_gpu, window, num_views, batch_size):
    shape = window if num_views == 1 else (184, 630, 630)
    found = planner(num_views=num_views, on_gpu=on_gpu).plan(shape, window)
    assert found.batch_size == batch_size
    fixed = InferenceSettings("auto", 0.25, "gaussian", 3, "none", "fp32")
    assert planner(fixed, on_gpu=on_gpu).plan(shape, window).batch_size == 3


def test_smaller_until_there_is_no_half():
    """First the batch, which does not change the result, then the longest side, in multiples of the divisor."""
    settings = InferenceSettings((40, 24, 48), 0.25, "gaussian", 5, "none", "fp32")
    halving = planner(settings, stride=2)
    plan, found = halving.plan((100, 100, 100), settings.window), []
    while plan is not None:
        found.append((plan.batch_size, plan.grid.window_zyx))
        plan = halving.smaller(plan)
    assert found[:6] == [
        (5, (40, 24, 48)),
        (2, (40, 24, 48)),
        (1, (40, 24, 48)),
        (1, (40, 24, 24)),
        (1, (24, 24, 24)),
        (1, (16, 24, 24)),
    ]
    assert found[-1] == (1, (8, 8, 8))
