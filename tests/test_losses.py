"""Every loss: perfect below wrong, finite gradients, soft targets; and each by its definition."""

import pytest
import torch
from torch.nn import functional

from losses import LOSSES, build_loss, term_weights
from losses.targets import as_probabilities
from losses.tversky import tversky_index

CLASSES = 4
WEIGHTS = (1.0, 20.0, 8.0, 5.0)


def labels(seed=0):
    return torch.randint(0, CLASSES, (2, 5, 6, 7), generator=torch.Generator().manual_seed(seed))


def logits_for(target, confidence=12.0):
    return confidence * functional.one_hot(target, CLASSES).movedim(-1, 1).float()


def total(name, logits, target):
    terms = build_loss(name, WEIGHTS)(logits, target)
    return sum(term_weights(name).get(key, 1.0) * term for key, term in terms.items())


@pytest.mark.parametrize("name", LOSSES)
def test_perfect_is_below_wrong(name):
    target = labels()
    perfect, wrong = total(name, logits_for(target), target), total(name, logits_for((target + 1) % CLASSES), target)
    uncertain = total(name, torch.zeros_like(logits_for(target)), target)
    assert perfect < uncertain < wrong


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("confidence", [0.0, 1.0, 100.0, 1e4])
def test_gradients_are_finite_and_point_downhill(name, confidence):
    target = labels()
    logits = logits_for((target + 1) % CLASSES, confidence).requires_grad_()
    loss = total(name, logits, target)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()
    with torch.no_grad():
        assert total(name, logits - 1e-2 * logits.grad / (logits.grad.norm() + 1e-12), target) <= loss + 1e-6


@pytest.mark.parametrize("name", LOSSES)
def test_one_hot_and_labels_agree(name):
    target, logits = labels(), torch.randn(2, CLASSES, 5, 6, 7)
    assert torch.allclose(
        total(name, logits, target), total(name, logits, as_probabilities(target, CLASSES)), rtol=1e-5
    )


@pytest.mark.parametrize("name", LOSSES)
def test_soft_targets_lie_between_the_pure_ones(name):
    first, second = as_probabilities(labels(0), CLASSES), as_probabilities(labels(1), CLASSES)
    logits = logits_for(labels(0), 3.0)
    pure, mixed, other = (total(name, logits, t) for t in (first, 0.5 * first + 0.5 * second, second))
    assert pure < mixed < other


@pytest.mark.parametrize("name", LOSSES)
def test_classes_that_are_absent_do_no_harm(name):
    target = torch.zeros(1, 4, 4, 4, dtype=torch.long)
    assert torch.isfinite(total(name, logits_for(target), target))


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_logits(name):
    assert torch.isfinite(total(name, logits_for(labels()).bfloat16(), labels()))


def test_terms_are_named_and_unweighted():
    assert set(build_loss("ce_tversky", WEIGHTS)(logits_for(labels()), labels())) == {"ce", "tversky"}
    assert term_weights("ce_tversky") == {"ce": 2.0, "tversky": 1.0} and term_weights("ce") == {}


def test_cross_entropy_by_hand():
    """Two voxels, of class 1 (weight 20) and background (weight 1), smoothing 0.1 over four classes."""
    logits = torch.tensor([[0.0, 2.0, 0.0, -1.0], [3.0, 0.0, 1.0, 0.0]]).T.reshape(1, CLASSES, 1, 1, 2)
    target = torch.tensor([1, 0]).view(1, 1, 1, 2)
    log_p = torch.log_softmax(logits, 1)[0, :, 0, 0]
    first, second = (-(0.9 * log_p[label, k] + 0.1 * log_p[:, k].mean()) for k, label in enumerate((1, 0)))
    assert build_loss("ce", WEIGHTS)(logits, target)["ce"] == pytest.approx(float(20 * first + second) / 21, rel=1e-5)


def test_smoothing_does_not_pull_background_towards_heavy_classes():
    """On pure background the best prediction is the smoothed target, whatever the other classes weigh."""
    target = torch.zeros(1, 1, 1, 1, dtype=torch.long)
    best = torch.full((CLASSES,), 0.1 / CLASSES)
    best[0] += 0.9
    logits = best.log().view(1, CLASSES, 1, 1, 1).requires_grad_()
    build_loss("ce", WEIGHTS)(logits, target)["ce"].backward()
    assert logits.grad.abs().max() < 1e-6


def test_tversky_index_by_hand():
    """TP 2, FP 1, FN 3 -> 2 / (2 + 0.3 + 2.1)."""
    probability = torch.tensor([1.0, 1, 1, 0, 0, 0]).view(1, 1, 1, 1, 6)
    target = torch.tensor([1.0, 1, 0, 1, 1, 1]).view(1, 1, 1, 1, 6)
    assert float(tversky_index(probability, target)) == pytest.approx(2 / 4.4, rel=1e-4)


def test_a_miss_costs_more_than_a_false_alarm():
    target = torch.tensor([1.0, 1, 0, 0]).view(1, 1, 1, 1, 4)
    miss = tversky_index(torch.tensor([1.0, 0, 0, 0]).view(1, 1, 1, 1, 4), target)
    alarm = tversky_index(torch.tensor([1.0, 1, 1, 0]).view(1, 1, 1, 1, 4), target)
    assert miss < alarm
