"""Views: the algebra of orientations, the groups and the missing wedge, and what merged answers say."""

import itertools

import numpy as np
import pytest
import torch

from data.spatial_transforms import MODES
from tta.missing_wedge import missing_wedge
from tta.moments import RunningMoments
from tta.orientations import (
    DEFAULT_GROUPS,
    FRAMES,
    IDENTITY,
    ORIENTATIONS,
    QUARTER_TURN,
    TILT_AXES,
    apply,
    compose,
    generated,
    inverse,
    turned,
)
from tta.views import MERGES, SMALLEST_PROBABILITY, ViewMerger, undo, undo_box

ALL = ORIENTATIONS["oh"]
GROUPS = ("none", "d2", "d2h", "d4h", "oh")
SIZES = {"none": 1, "d2": 4, "d2h": 8, "d4h": 16, "oh": 48, "etfinder7": 7}


def seeded(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def is_group(orientations):
    """They compose only to one another; finite, so identity and inverses are among them."""
    group = set(orientations)
    return bool(group) and {compose(a, b) for a in group for b in group} == group


def is_rotation(orientation):
    matrix = np.diag([-1.0 if flip else 1.0 for flip in orientation.flips]) @ np.eye(3)[list(orientation.order)]
    return np.linalg.det(matrix) > 0


# --- Orientations -------------------------------------------------------------------------------------
@pytest.mark.parametrize("orientation", ALL, ids=str)
def test_undo_inverts_apply_and_apply_inverts_undo(orientation):
    volume = seeded(2, 3, 4, 5, 6)
    assert torch.equal(undo(apply(volume, orientation), orientation), volume)
    assert torch.equal(apply(undo(volume, orientation), orientation), volume)
    assert torch.equal(apply(volume[0, 0], orientation), apply(volume, orientation)[0, 0])


def test_apply_composes_as_compose_says():
    volume = seeded(2, 3, 4)
    for first, second in itertools.product(ALL, repeat=2):
        assert torch.equal(apply(apply(volume, first), second), apply(volume, compose(first, second)))


def test_a_quarter_turn_is_that_of_torch():
    volume = seeded(2, 3, 4)
    assert torch.equal(apply(volume, QUARTER_TURN), torch.rot90(volume, dims=(-2, -1)))


def test_inverse_is_the_identity_on_either_side():
    for one in ALL:
        assert compose(one, inverse(one)) == IDENTITY == compose(inverse(one), one)


# --- Groups -------------------------------------------------------------------------------------------
def test_every_group_is_named_here():
    assert set(ORIENTATIONS) == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_sizes_distinct_views_and_identity_first(name):
    volume = seeded(3, 3, 3)
    views = {tuple(apply(volume, one).flatten().tolist()) for one in ORIENTATIONS[name]}
    assert len(views) == len(ORIENTATIONS[name]) == SIZES[name]
    assert ORIENTATIONS[name][0] == IDENTITY


@pytest.mark.parametrize("name", GROUPS)
def test_groups_are_closed_and_hold_their_inverses(name):
    group = set(ORIENTATIONS[name])
    assert is_group(group)
    assert {inverse(one) for one in group} == group


def test_the_seven_published_views_are_no_group():
    assert not is_group(ORIENTATIONS["etfinder7"])
    assert set(ORIENTATIONS["etfinder7"]) < set(ORIENTATIONS["d4h"])
    assert generated(*ORIENTATIONS["etfinder7"]) == ORIENTATIONS["d4h"]
    assert not is_group([])


def test_the_seven_published_views_are_flips_and_turns():
    volume = seeded(4, 4, 4)
    expected = [volume, *(volume.flip(axis) for axis in range(3)), *(volume.rot90(k, (1, 2)) for k in (1, 2, 3))]
    views = {tuple(apply(volume, one).flatten().tolist()) for one in ORIENTATIONS["etfinder7"]}
    assert views == {tuple(view.flatten().tolist()) for view in expected}


def test_d2_are_the_rotations_of_d2h():
    assert set(ORIENTATIONS["d2"]) == set(filter(is_rotation, ORIENTATIONS["d2h"]))
    assert sum(map(is_rotation, ALL)) == 24


def test_d4h_are_all_orientations_that_keep_z():
    assert set(ORIENTATIONS["d4h"]) == {one for one in ALL if one.order[0] == 0}


def test_every_augmentation_mode_has_a_default_group():
    assert set(DEFAULT_GROUPS) == set(MODES)
    assert set(DEFAULT_GROUPS.values()) <= set(ORIENTATIONS)


# --- The missing wedge --------------------------------------------------------------------------------
def seen_missing(volume):
    """Where the spectrum of a volume is empty, bool in the order of fftn."""
    return np.abs(np.fft.fftn(volume.numpy())) < 0.5


def with_wedge(missing):
    """A volume of noise whose spectrum is 1 where measured and 0 where missing."""
    spectrum = np.fft.fftn(seeded(*missing.shape).double().numpy())
    return torch.from_numpy(np.fft.ifftn(np.where(missing, 0, spectrum / np.abs(spectrum))).real)


@pytest.mark.parametrize("tilt_axis", TILT_AXES)
@pytest.mark.parametrize("degrees", [45.0, 60.0])
@pytest.mark.parametrize("size", [8, 9])
def test_exactly_the_eight_of_d2h_leave_the_missing_wedge_unchanged(size, degrees, tilt_axis):
    missing = missing_wedge((size, size, size), degrees, tilt_axis)
    volume = with_wedge(missing)
    assert np.array_equal(seen_missing(volume), missing)
    unchanged = [one for one in ALL if np.array_equal(seen_missing(apply(volume, one)), missing)]
    assert tuple(unchanged) == ORIENTATIONS["d2h"] == turned(ORIENTATIONS["d2h"], tilt_axis)


@pytest.mark.parametrize("tilt_axis", TILT_AXES)
def test_turns_about_the_beam_carry_the_wedge_from_one_tilt_axis_to_the_other(tilt_axis):
    missing = missing_wedge((9, 9, 9), 60.0, tilt_axis)
    volume = with_wedge(missing)
    beam, tilt, across = FRAMES[tilt_axis].order
    places = {seen_missing(apply(volume, one)).tobytes() for one in turned(ORIENTATIONS["d4h"], tilt_axis)}
    exchanged = np.swapaxes(missing, tilt, across)
    assert places == {missing.tobytes(), np.ascontiguousarray(exchanged).tobytes()}
    # Beam and tilt axis by their meaning: straight along the beam is missing, along the others is measured.
    along = {axis: missing[tuple(1 if axis == other else 0 for other in range(3))] for axis in range(3)}
    assert along == {beam: True, tilt: False, across: False}
    assert (missing == np.take(missing, [0], axis=tilt)).all()


def test_at_45_degrees_beam_and_across_exchange_missing_and_measured_but_for_the_border():
    missing = missing_wedge((9, 9, 9), 45.0)
    exchanged = np.swapaxes(missing, 0, 2)
    k = np.abs(np.fft.fftfreq(9))
    border = np.broadcast_to(k[:, None, None] == k, missing.shape)
    assert not (missing & exchanged).any()
    assert np.array_equal(missing | exchanged, ~border)


def test_the_wedge_of_a_flat_volume_by_hand():
    # kz of 0, 1/4, 1/2, 1/4 and kx of 0, 1/6, 1/3, 1/2, 1/3, 1/6 cycles per voxel; tan 60 is 1.73.
    expected = [[0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0]]
    assert np.array_equal(missing_wedge((4, 1, 6), 60.0)[:, 0], np.array(expected, bool))


@pytest.mark.parametrize("degrees", [0.0, 90.0, -60.0])
def test_a_tilt_range_out_of_bounds_is_refused(degrees):
    with pytest.raises(ValueError, match="tilt range"):
        missing_wedge((4, 4, 4), degrees)


@pytest.mark.parametrize("tilt_axis", TILT_AXES)
def test_turned_views_are_the_views_of_the_turned_data(tilt_axis):
    volume, frame = seeded(3, 3, 3), FRAMES[tilt_axis]
    for name in SIZES:
        views = {tuple(undo(apply(apply(volume, frame), one), frame).flatten().tolist()) for one in ORIENTATIONS[name]}
        group = turned(ORIENTATIONS[name], tilt_axis)
        assert {tuple(apply(volume, one).flatten().tolist()) for one in group} == views
        assert group[0] == IDENTITY and is_group(group) == is_group(ORIENTATIONS[name])


def test_only_turns_about_a_beam_that_is_not_along_z_change_a_group():
    changed = {
        (name, axis) for name in SIZES for axis in TILT_AXES if turned(ORIENTATIONS[name], axis) != ORIENTATIONS[name]
    }
    assert changed == {("d4h", "z"), ("etfinder7", "z")}


# --- Merging ------------------------------------------------------------------------------------------
@pytest.fixture(params=[2**20, 12])
def slabs(request, monkeypatch):
    """In one piece, and plane by plane."""
    monkeypatch.setattr("tta.views.SLAB_ELEMENTS", {True: request.param, False: request.param})


def merged(answers, merge="probability", **options):
    """Probability and variance of answers to the same view."""
    merger = ViewMerger(merge, **options)
    for answer in answers:
        merger.add(answer)
    return merger.merged()


@pytest.mark.usefixtures("slabs")
@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("box", [None, (slice(1, 3), slice(0, 4), slice(2, 5))])
def test_a_voxelwise_network_gives_the_plain_answer(name, merge, box):
    volume = seeded(1, 3, 4, 5)
    plain = torch.cat([volume, volume**2, -volume])
    merger = ViewMerger(merge, box=box)
    for one in ORIENTATIONS[name]:
        view = apply(volume, one)
        merger.add(torch.cat([view, view**2, -view]), one)
    probability, variance = merger.merged()
    expected = torch.softmax(plain, dim=0)
    # In a mean of logarithms the two other classes count as the smallest probability at least.
    atol = 1e-5 if merge == "probability" else 2 * SMALLEST_PROBABILITY
    expected = expected if box is None else expected[(slice(None), *box)]
    torch.testing.assert_close(probability, expected, atol=atol, rtol=1e-5)
    assert variance.max() < 1e-12


@pytest.mark.parametrize("orientation", ALL, ids=str)
def test_a_box_of_the_volume_comes_back_without_the_rest(orientation):
    volume, box = seeded(2, 3, 4, 5, 6), (slice(1, 3), slice(0, 5), slice(2, 6))
    assert torch.equal(undo_box(apply(volume, orientation), orientation, box), volume[(..., *box)])


@pytest.mark.usefixtures("slabs")
@pytest.mark.parametrize("merge", MERGES)
def test_one_view_and_equal_views_are_that_view(merge):
    logits = 5 * seeded(3, 2, 3, 4)
    for count in (1, 2, 7):
        probability, variance = merged([logits] * count, merge)
        expected = torch.softmax(logits, dim=0)
        if merge == "logit":
            expected = expected.clamp(min=SMALLEST_PROBABILITY)
        torch.testing.assert_close(probability, expected / expected.sum(dim=0))
        assert not variance.any()


@pytest.mark.usefixtures("slabs")
@pytest.mark.parametrize("merge", MERGES)
def test_the_order_of_the_views_does_not_matter(merge):
    answers = [3 * seeded(2, 3, 2, 2, 2, seed=seed) for seed in range(9)]
    (probability, variance), (other, other_variance) = merged(answers, merge), merged(answers[::-1], merge)
    torch.testing.assert_close(probability, other)
    torch.testing.assert_close(variance, other_variance)
    torch.testing.assert_close(probability.sum(dim=1), torch.ones(2, 2, 2, 2))


@pytest.mark.usefixtures("slabs")
def test_two_views_by_hand():
    # Probabilities 0.5 and 0.9 of the second class, that is odds of 1 and 9.
    answers = [torch.tensor([0.0, odds]).log1p().view(2, 1, 1, 1) for odds in (0.0, 8.0)]
    by_probability, by_logit = merged(answers, "probability"), merged(answers, "logit")
    assert by_probability[0].flatten().tolist() == pytest.approx([0.3, 0.7])
    assert by_logit[0].flatten().tolist() == pytest.approx([0.25, 0.75])  # odds of sqrt(1 * 9)
    for _, variance in (by_probability, by_logit):
        assert variance.flatten().tolist() == pytest.approx([0.04, 0.04])


def test_a_common_offset_of_the_logits_says_nothing():
    answers = [seeded(3, 2, 2, 2, seed=seed) for seed in range(3)]
    shifted = [answer + 100 * k for k, answer in enumerate(answers)]
    torch.testing.assert_close(merged(shifted, "logit")[0], merged(answers, "logit")[0], atol=1e-4, rtol=0)


def test_half_precision_answers_are_merged_in_single():
    answers = [seeded(3, 2, 2, 2, seed=seed).bfloat16() for seed in range(5)]
    probability, variance = merged(answers)
    assert probability.dtype == variance.dtype == torch.float32
    exact = torch.stack([torch.softmax(answer.double(), dim=0) for answer in answers])
    torch.testing.assert_close(probability.double(), exact.mean(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(variance.double(), exact.var(0, correction=0), atol=1e-7, rtol=0)


def test_small_variances_survive_single_precision():
    values = (0.9 + 1e-4 * seeded(48, 100).double()).float()
    variance = torch.full((100,), torch.nan)
    moments = RunningMoments(torch.full((100,), torch.nan), variance)
    for value in values:
        moments.add(value.clone())
    assert moments.variance() is variance
    torch.testing.assert_close(variance.double(), values.double().var(0, correction=0), rtol=2e-3, atol=0)
    subtracted = values.square().mean(0) - values.mean(0).square()
    assert (subtracted.double() / variance.double() - 1).abs().max() > 1  # why it is not done so


@pytest.mark.parametrize("merge", MERGES)
def test_answers_stay_as_they_are(merge):
    logits = seeded(3, 2, 2, 2)
    before = logits.clone()
    merged([logits, 2 * logits], merge)
    assert torch.equal(logits, before)


def test_no_variance_where_none_is_asked_for():
    for merge in MERGES:
        probability, variance = merged([seeded(2, 2, 2, 2)], merge, with_variance=False)
        assert variance is None and probability.shape == (2, 2, 2, 2)


def test_an_unknown_merge_is_refused():
    with pytest.raises(ValueError, match="median"):
        ViewMerger("median")
