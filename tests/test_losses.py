"""Every loss: perfect below wrong, finite gradients, soft targets; and each by its definition."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional

from losses import HYBRID_LOSSES, LOSSES, SMOOTHED_LOSSES, TERM_WEIGHTS, build_loss, term_weights
from losses.targets import as_probabilities
from losses.tversky import tversky_distance

CLASSES = 4
WEIGHTS = (1.0, 20.0, 8.0, 5.0)
# Mean share of two mixed samples; any number off the corners will do.
SHARE = 0.3

every_loss = pytest.mark.parametrize("name", LOSSES)


def labels(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, CLASSES, (2, 5, 6, 7), generator=generator, dtype=torch.uint8)


def logits_for(target, confidence=12.0):
    return confidence * functional.one_hot(target.long(), CLASSES).movedim(-1, 1).float()


def random_logits(seed=0):
    return torch.randn(2, CLASSES, 5, 6, 7, generator=torch.Generator().manual_seed(seed))


def total(name, logits, target, class_weights=WEIGHTS):
    terms = build_loss(name, class_weights)(logits, target)
    return sum(term_weights(name).get(key, 1.0) * term for key, term in terms.items())


def loss_and_gradient(name, logits, target):
    logits = logits.clone().requires_grad_()
    loss = total(name, logits, target)
    loss.backward()
    return loss.detach(), logits.grad


# --- The contract, for every loss of the registry ----------------------------------------------------


@every_loss
def test_terms_are_named_scalars_without_weights(name):
    terms = build_loss(name, WEIGHTS)(random_logits().requires_grad_(), labels())
    assert all(isinstance(key, str) and term.ndim == 0 and term.requires_grad for key, term in terms.items())
    assert (len(terms) > 1) == (name in HYBRID_LOSSES)
    assert set(TERM_WEIGHTS.get(name, terms)) == set(terms)
    assert term_weights(name) == TERM_WEIGHTS.get(name, {})


@every_loss
def test_perfect_is_below_uncertain_below_wrong(name):
    target = labels()
    perfect, wrong = total(name, logits_for(target), target), total(name, logits_for((target + 1) % CLASSES), target)
    uncertain = total(name, torch.zeros_like(logits_for(target)), target)
    assert perfect < uncertain < wrong


@every_loss
def test_falls_all_the_way_from_wrong_to_right(name):
    target = labels()
    right, wrong = logits_for(target, 3.0), logits_for((target + 1) % CLASSES, 3.0)
    along = torch.stack([total(name, torch.lerp(wrong, right, step), target) for step in torch.linspace(0, 1, 21)])
    assert (along.diff() < 0).all()


@every_loss
def test_one_voxel_more_found_is_better(name):
    """Single-voxel particles of each class, found one by one."""
    target = torch.zeros(1, 4, 4, 4, dtype=torch.uint8)
    voxels = [(0, 0, 0, 1), (0, 1, 2, 3), (0, 3, 3, 0)]
    for label, voxel in enumerate(voxels, start=1):
        target[voxel] = label
    found = torch.zeros_like(target)
    values = [total(name, logits_for(found, 6.0), target)]
    for voxel in voxels:
        found[voxel] = target[voxel]
        values.append(total(name, logits_for(found, 6.0), target))
    assert (torch.stack(values).diff() < 0).all()


CORNERS = {
    "random": (random_logits(), labels()),
    "uncertain": (torch.zeros_like(random_logits()), labels()),
    "perfect": (logits_for(labels(), 1e4), labels()),
    "nearly perfect": (logits_for(labels(), 20.0), labels()),
    "totally wrong": (logits_for((labels() + 1) % CLASSES, 1e4), labels()),
    "a class absent": (random_logits(), labels().clamp(max=2)),
    "all background": (random_logits(), torch.zeros_like(labels())),
    "all background, perfect": (logits_for(torch.zeros_like(labels()), 1e4), torch.zeros_like(labels())),
    "one class only": (random_logits(), torch.full_like(labels(), 3)),
    "bfloat16": (random_logits().bfloat16(), labels()),
    "float16": (random_logits().half(), labels()),
}


@every_loss
@pytest.mark.parametrize("corner", CORNERS)
def test_gradients_are_finite(name, corner):
    loss, gradient = loss_and_gradient(name, *CORNERS[corner])
    assert torch.isfinite(loss) and torch.isfinite(gradient).all()
    assert loss.dtype == torch.float32


@every_loss
@pytest.mark.parametrize("confidence", [0.0, 1.0, 10.0])
def test_gradients_point_downhill(name, confidence):
    target = labels()
    logits = logits_for((target + 1) % CLASSES, confidence)
    loss, gradient = loss_and_gradient(name, logits, target)
    assert total(name, logits - 1e-2 * gradient / (gradient.norm() + 1e-12), target) <= loss + 1e-6


@every_loss
@pytest.mark.parametrize("soft", [False, True])
def test_gradients_are_the_slopes_of_the_values(name, soft):
    generator = torch.Generator().manual_seed(3)
    target = labels()[:1, :2, :2, :2]
    if soft:
        target = torch.softmax(torch.randn(1, CLASSES, 2, 2, 2, generator=generator), 1)
    logits = torch.randn(1, CLASSES, 2, 2, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(partial(total, name, target=target), (logits,))


@every_loss
def test_one_hot_and_labels_agree(name):
    target, logits = labels(), random_logits()
    loss, gradient = loss_and_gradient(name, logits, target)
    soft_loss, soft_gradient = loss_and_gradient(name, logits, as_probabilities(target, CLASSES))
    torch.testing.assert_close(soft_loss, loss)
    torch.testing.assert_close(soft_gradient, gradient)


@every_loss
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_labels_come_as_any_integer(name, dtype):
    assert total(name, random_logits(), labels().to(dtype)) == total(name, random_logits(), labels())


@every_loss
def test_soft_targets_lie_between_the_pure_ones(name):
    first, second = as_probabilities(labels(0), CLASSES), as_probabilities(labels(1), CLASSES)
    logits = logits_for(labels(0), 3.0)
    pure, mixed, other = (total(name, logits, t) for t in (first, 0.5 * first + 0.5 * second, second))
    assert pure < mixed < other


@every_loss
@pytest.mark.parametrize("corner", CORNERS)
def test_mixed_samples_have_finite_gradients_that_lead_somewhere(name, corner):
    logits, target = CORNERS[corner]
    first = as_probabilities(target, CLASSES)
    mixed = SHARE * first + (1 - SHARE) * first.flip(0)
    loss, gradient = loss_and_gradient(name, logits, mixed)
    assert torch.isfinite(loss) and torch.isfinite(gradient).all()
    if corner == "random":
        assert gradient.abs().max() > 0


@every_loss
def test_class_weights_matter_and_their_scale_does_not(name):
    """More weight on class 1 makes missing it dearer against missing class 2."""
    target, logits = labels(), logits_for(labels(), 4.0)
    without_1, without_2 = ((logits * (target != label).unsqueeze(1)) for label in (1, 2))
    for heavy, weights in ((1, (1.0, 9.0, 1.0, 1.0)), (2, (1.0, 1.0, 9.0, 1.0))):
        ratio = total(name, without_1, target, weights) / total(name, without_2, target, weights)
        assert (ratio > 2) if heavy == 1 else (ratio < 0.5)
    scaled = total(name, logits, target, tuple(7 * weight for weight in WEIGHTS))
    assert torch.allclose(scaled, total(name, logits, target), rtol=1e-5)


@every_loss
def test_half_precision_does_not_add_up_in_half_precision(name):
    """More voxels than float16 can count: 65536 of them weigh 20."""
    target = torch.ones(1, 64, 32, 32, dtype=torch.uint8)
    logits = torch.zeros(1, CLASSES, 64, 32, 32)
    torch.testing.assert_close(total(name, logits.half(), target), total(name, logits, target))


@every_loss
def test_memory_layout_does_not_matter(name):
    logits = random_logits()
    torch.testing.assert_close(
        total(name, logits.to(memory_format=torch.channels_last_3d), labels()), total(name, logits, labels())
    )


@every_loss
def test_a_small_network_learns_a_volume_by_heart(name):
    """A ball of class 1, a bar of class 2 and a plate of class 3, each in an image of its own, in noise.

    The network starts from "all is background". From an even start the Tversky losses, which leave the background
    out, get stuck where one particle class keeps all of it.
    """
    zyx = torch.stack(torch.meshgrid(*[torch.arange(16)] * 3, indexing="ij"))
    label = torch.zeros(16, 16, 16, dtype=torch.uint8)
    label[(zyx - 4).square().sum(0) <= 5] = 1
    label[11, 2:10, 10:13] = 2
    label[3:5, 10:14, 10:14] = 3
    with torch.random.fork_rng():
        torch.manual_seed(0)
        image = torch.stack([label == particle for particle in (1, 2, 3)]) + 0.2 * torch.randn(3, 16, 16, 16)
        network = torch.nn.Sequential(
            torch.nn.Conv3d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(8, CLASSES, 1)
        )
    with torch.no_grad():
        network[-1].bias.copy_(torch.tensor([4.0, 0.0, 0.0, 0.0]))
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-2)
    for _ in range(60):
        optimizer.zero_grad()
        total(name, network(image[None]), label[None]).backward()
        optimizer.step()
    found = network(image[None]).argmax(1)[0]
    for particle in (1, 2, 3):
        both, either = (found == particle) & (label == particle), (found == particle) | (label == particle)
        assert both.sum() / either.sum() > 0.6, f"class {particle}"


# --- Known values, computed by hand -------------------------------------------------------------------

# Three voxels and four classes: probabilities (voxel, class), and the true class of each voxel.
P = np.array([[0.1, 0.6, 0.2, 0.1], [0.5, 0.2, 0.2, 0.1], [0.3, 0.1, 0.5, 0.1]])
LABELS = np.array([1, 0, 2])
G = np.eye(CLASSES)[LABELS]
# The second voxel is a mixture of classes 0 and 2.
G_SOFT = np.array([[0.0, 1, 0, 0], [0.75, 0, 0.25, 0], [0, 0, 1, 0]])
W = np.array(WEIGHTS)


def term(name, target):
    """The loss's only term on the three voxels."""
    logits = torch.from_numpy(np.log(P)).T.reshape(1, CLASSES, 1, 1, 3)
    target = torch.from_numpy(target)
    target = target.view(1, 1, 1, 3) if target.ndim == 1 else target.T.reshape(1, CLASSES, 1, 1, 3)
    smoothing = 0.1 if name in SMOOTHED_LOSSES else 0.0
    return float(build_loss(name, WEIGHTS, smoothing)(logits, target)[name])


def cross_entropy(p, g):
    smooth = 0.9 * g + 0.1 / CLASSES
    voxel_weight = g @ W
    return (-(smooth * np.log(p)).sum(1) * voxel_weight).sum() / voxel_weight.sum()


def focal(p, g):
    voxel_weight = g @ W
    return ((g * (1 - p) ** 2 * -np.log(p)).sum(1) * voxel_weight).sum() / voxel_weight.sum()


def index(p, g, power):
    tp = (p * g).sum(0)
    wrong = 0.3 * ((p * (1 - g)) ** power).sum(0) + 0.7 * (((1 - p) * g) ** power).sum(0)
    return ((tp + 1e-5) / (tp + wrong + 1e-5))[1:]


def particle_mean(values):
    return (values * W[1:]).sum() / W[1:].sum()


KNOWN = {
    "ce": cross_entropy,
    "focal": focal,
    "tversky": lambda p, g: particle_mean(1 - index(p, g, 1)),
    "focal_tversky": lambda p, g: particle_mean((1 - index(p, g, 1)) ** 0.75),
    "focal_tversky_pp": lambda p, g: particle_mean((1 - index(p, g, 2)) ** (4 / 3)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_value_on_labels_and_on_soft_targets(name):
    assert term(name, LABELS) == pytest.approx(KNOWN[name](P, G), rel=1e-6)
    assert term(name, G_SOFT) == pytest.approx(KNOWN[name](P, G_SOFT), rel=1e-6)


def test_known_values_cover_every_loss_of_one_term():
    assert set(KNOWN) == set(LOSSES) - set(HYBRID_LOSSES)


def test_hybrid_is_its_parts():
    terms = build_loss("ce_tversky", WEIGHTS, 0.1)(random_logits(), labels())
    assert terms["ce"] == build_loss("ce", WEIGHTS, 0.1)(random_logits(), labels())["ce"]
    assert terms["tversky"] == build_loss("tversky", WEIGHTS)(random_logits(), labels())["tversky"]
    assert term_weights("ce_tversky") == {"ce": 2.0, "tversky": 1.0} and HYBRID_LOSSES == ("ce_tversky",)


def test_smoothing_does_not_pull_background_towards_heavy_classes():
    """On pure background the best prediction is the smoothed target, whatever the other classes weigh."""
    target = torch.zeros(1, 1, 1, 1, dtype=torch.long)
    best = torch.full((CLASSES,), 0.1 / CLASSES)
    best[0] += 0.9
    logits = best.log().view(1, CLASSES, 1, 1, 1).requires_grad_()
    build_loss("ce", WEIGHTS, 0.1)(logits, target)["ce"].backward()
    assert logits.grad.abs().max() < 1e-6


def test_focal_forgives_what_is_nearly_right():
    """Against the cross-entropy a voxel at p = 0.9 counts a hundredth, one at 0.1 nearly all."""
    for p, share in ((0.9, 0.01), (0.1, 0.81)):
        logits = torch.tensor([p, 1 - p]).log().view(1, 2, 1, 1, 1)
        value = build_loss("focal", (1.0, 1.0))(logits, torch.zeros(1, 1, 1, 1, dtype=torch.uint8))["focal"]
        assert float(value) == pytest.approx(share * -np.log(p), rel=1e-5)


def test_tversky_distance_by_hand():
    """TP 2, FP 1, FN 3 -> 1 - 2 / (2 + 0.3 + 2.1)."""
    probability = torch.tensor([1.0, 1, 1, 0, 0, 0]).view(1, 1, 1, 1, 6)
    target = torch.tensor([1.0, 1, 0, 1, 1, 1]).view(1, 1, 1, 1, 6)
    assert float(tversky_distance(probability, target)) == pytest.approx(1 - 2 / 4.4, rel=1e-4)
    half = torch.tensor([0.5, 0.5]).view(1, 1, 1, 1, 2), torch.tensor([1.0, 0.0]).view(1, 1, 1, 1, 2)
    assert float(tversky_distance(*half, square_errors=True)) == pytest.approx(0.25 / (0.5 + 0.25), rel=1e-4)


@pytest.mark.parametrize("square_errors", [False, True])
def test_a_miss_costs_more_than_a_false_alarm(square_errors):
    target = torch.tensor([1.0, 1, 0, 0]).view(1, 1, 1, 1, 4)
    miss = tversky_distance(torch.tensor([1.0, 0, 0, 0]).view(1, 1, 1, 1, 4), target, square_errors=square_errors)
    alarm = tversky_distance(torch.tensor([1.0, 1, 1, 0]).view(1, 1, 1, 1, 4), target, square_errors=square_errors)
    assert miss > alarm


def test_tversky_distance_of_nothing_found_where_nothing_is():
    nothing, all_of_it = torch.zeros(1, 1, 2, 2, 2), torch.ones(1, 1, 2, 2, 2)
    assert tversky_distance(nothing, nothing) == 0
    assert tversky_distance(all_of_it, nothing) == pytest.approx(1, abs=1e-4)


def test_labels_become_one_hot():
    one_hot = as_probabilities(labels(), CLASSES)
    assert one_hot.dtype == torch.float32 and torch.equal(one_hot.argmax(1), labels().long())
    assert torch.equal(one_hot.sum(1), torch.ones(labels().shape)) and ((one_hot == 0) | (one_hot == 1)).all()
