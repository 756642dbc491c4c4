"""GradNorm: balances gradient norms and training rates, keeps its sum, resumes exactly, survives an overflow."""

import math

import pytest
import torch
from torch.nn import functional

from losses.gradnorm import GradNorm

NAMES = ("small", "large")


def gradnorm(**settings):
    return GradNorm(NAMES, {"small": 1.0, "large": 1.0}, **{"learning_rate": 0.01, **settings})


def random_steps(count, seed=0):
    """Losses and norms as they may come: positive, over several orders of magnitude."""
    generator = torch.Generator().manual_seed(seed)
    return [tuple(torch.randn(2, generator=generator).exp() for _ in range(2)) for _ in range(count)]


def weights_after(balancer, steps):
    for losses, norms in steps:
        balancer.update(losses, norms)
    return torch.stack(list(balancer.weights.values()))


def train_two_tasks(balancer, steps, learning_rate=1e-4):
    """Two regressions from one shared linear layer, equal but for the scale of their losses: 1 and 100.

    Returns weighted gradient norms and losses, each (steps, 2), the losses as shares of the first.
    """
    generator = torch.Generator().manual_seed(0)
    shared = torch.zeros(6, 4, requires_grad=True)
    heads = torch.linalg.qr(torch.randn(6, 2, generator=generator)).Q.T
    truth = functional.normalize(heads @ torch.randn(6, 4, generator=generator), dim=1)
    weighted_norms, losses = [], []
    for _ in range(steps):
        small, large = (heads @ shared - truth).square().sum(1)
        terms = {"small": small, "large": 100 * large}
        norms = balancer.gradient_norms(terms, [shared])
        losses.append(torch.stack([terms[name] for name in NAMES]).detach())
        balancer.update(losses[-1], norms)
        weights = balancer.weights
        (gradient,) = torch.autograd.grad(sum(weights[name] * terms[name] for name in NAMES), [shared])
        with torch.no_grad():
            shared -= learning_rate * gradient
        weighted_norms.append(torch.stack([weights[name] for name in NAMES]) * norms)
    return torch.stack(weighted_norms), torch.stack(losses) / losses[0]


def test_gradients_of_two_losses_of_scale_1_and_100_become_equal():
    norms, _ = train_two_tasks(gradnorm(alpha=0.0), 300)
    assert norms[0, 1] / norms[0, 0] > 90
    assert norms[-50:, 1].mean() / norms[-50:, 0].mean() == pytest.approx(1.0, rel=0.1)


def test_two_losses_of_scale_1_and_100_train_at_one_rate():
    """What is left of either loss: much the same with GradNorm; without it the large one is long gone."""
    _, losses = train_two_tasks(gradnorm(learning_rate=0.03, alpha=1.5), 700)
    assert losses[-1].max() < 0.7 and losses[-1, 1] / losses[-1, 0] > 0.5
    _, without = train_two_tasks(gradnorm(learning_rate=0.0), 700)
    assert without[-1, 1] / without[-1, 0] < 1e-6


def test_a_fixed_point_is_where_weighted_norms_follow_the_training_rates():
    """Constant losses and norms: G_i must settle at mean(G) r_i^alpha."""
    balancer = gradnorm(learning_rate=0.002, alpha=1.5)
    balancer.update(torch.tensor([2.0, 8.0]), torch.tensor([1.0, 5.0]))
    losses, norms = torch.tensor([1.0, 6.0]), torch.tensor([1.0, 5.0])
    weights = torch.stack([weights_after(balancer, [(losses, norms)]) for _ in range(2000)])[-500:].mean(0)
    rates = (losses / torch.tensor([2.0, 8.0])) / torch.tensor([0.5, 0.75]).mean()
    weighted = weights * norms
    # Both aims cannot be met at once where the powers of the rates do not average to 1; their ratio is.
    assert weighted[0] < weighted[1]
    assert weighted[1] / weighted[0] == pytest.approx(float((rates[1] / rates[0]) ** 1.5), rel=0.1)


def test_first_step_by_hand():
    """Rates are equal at the start; G = (2 x 1, 1 x 10), mean 6: the first weight rises, the second falls."""
    balancer = GradNorm(NAMES, {"small": 2.0}, learning_rate=0.1)
    weights = weights_after(balancer, [(torch.tensor([3.0, 5.0]), torch.tensor([1.0, 10.0]))])
    assert weights.tolist() == pytest.approx([2.1, 0.9], rel=1e-5)


def test_slow_terms_gain_weight():
    """Equal norms throughout; only the second loss falls."""
    steps = [(torch.tensor([1.0, 0.97**k]), torch.ones(2)) for k in range(50)]
    small, large = weights_after(gradnorm(), steps)
    assert small > 1.1 and large < 0.9
    small, large = weights_after(gradnorm(alpha=0.0), steps)
    assert small == large == 1


def test_adam_is_that_of_torch():
    """Against torch.optim on the same slopes, with the same return to the sum."""
    balancer, reference = gradnorm(), torch.ones(2)
    optimizer = torch.optim.Adam([reference], lr=0.01)
    steps = random_steps(30)
    for losses, norms in steps:
        weighted = reference * norms
        rates = losses / steps[0][0]
        reference.grad = torch.sign(weighted - weighted.mean() * (rates / rates.mean()) ** 1.5) * norms
        optimizer.step()
        reference *= 2 / reference.sum()
        balancer.update(losses, norms)
    assert torch.allclose(torch.stack(list(balancer.weights.values())), reference, atol=1e-5)


def test_weights_keep_their_sum_and_stay_positive():
    balancer = GradNorm(NAMES, {"small": 2.0, "large": 1.0}, learning_rate=0.2)
    for losses, norms in random_steps(200):
        balancer.update(losses, norms * torch.tensor([1e-3, 1e3]))
        small, large = balancer.weights.values()
        assert float(small + large) == pytest.approx(3, rel=1e-5) and small > 0 and large > 0


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_the_scale_of_losses_and_norms_does_not_matter(scale):
    steps = random_steps(50)
    scaled = [(losses * scale, norms * scale) for losses, norms in steps]
    assert torch.allclose(weights_after(gradnorm(), scaled), weights_after(gradnorm(), steps), atol=1e-3)


@pytest.mark.parametrize(
    ("where", "bad"),
    # The square of 1e30 is not finite, and Adam squares.
    [("loss", math.nan), ("loss", math.inf), ("norm", math.nan), ("norm", math.inf), ("norm", 1e30)],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_step_that_overflowed_changes_nothing(bad, where, first):
    wrong = torch.tensor([1.0, bad])
    bad_step = (wrong, torch.ones(2)) if where == "loss" else (torch.ones(2), wrong)
    steps = random_steps(20)
    cut = 0 if first else 10
    disturbed = weights_after(gradnorm(), [*steps[:cut], bad_step, *steps[cut:]])
    assert torch.equal(disturbed, weights_after(gradnorm(), steps)) and torch.isfinite(disturbed).all()


def test_interrupted_is_uninterrupted_bit_for_bit(tmp_path):
    steps = random_steps(60)
    first = gradnorm()
    weights_after(first, steps[:25])
    torch.save(first.state_dict(), tmp_path / "state.pt")
    weights_after(first, steps[25:30])
    second = gradnorm()
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(weights_after(second, steps[25:]), weights_after(gradnorm(), steps))


def test_a_state_of_an_earlier_version_goes_on_as_well():
    """Before torch's Adam, the moments stood in the state by themselves, and first losses not seen yet were NaN."""
    steps = random_steps(60)
    first = gradnorm()
    weights_after(first, steps[:25])
    state = first.state_dict()
    adam = state["optimizer"]["state"][0]
    earlier = {
        "weights": state["weights"],
        "weight_sum": state["weights"].sum(),
        "initial_losses": state["initial_losses"],
        "step": adam["step"],
        "mean_slope": adam["exp_avg"],
        "mean_square_slope": adam["exp_avg_sq"],
    }
    second = gradnorm()
    second.load_state_dict(earlier)
    assert torch.equal(weights_after(second, steps[25:]), weights_after(gradnorm(), steps))
    fresh = gradnorm()
    fresh.load_state_dict(
        {**earlier, "weights": torch.ones(2), "step": torch.tensor(0.0), "initial_losses": torch.full((2,), math.nan)}
    )
    assert torch.equal(weights_after(fresh, steps), weights_after(gradnorm(), steps))


def test_a_state_is_not_changed_by_later_steps(tmp_path):
    balancer = gradnorm()
    weights_after(balancer, random_steps(5))
    state, weights = balancer.state_dict(), balancer.weights
    kept = {name: float(weight) for name, weight in weights.items()}
    weights_after(balancer, random_steps(5))
    assert {name: float(weight) for name, weight in weights.items()} == kept
    again = gradnorm()
    again.load_state_dict(state)
    assert {name: float(weight) for name, weight in again.weights.items()} == kept


def test_gradient_norms_by_hand():
    """Terms 3 a and (a + b)^2 at a = 1, b = 1: gradients (3, 0) and (4, 4); the graph serves again afterwards."""
    a, b = torch.ones((), requires_grad=True), torch.ones(1, requires_grad=True)
    terms = {"large": (a + b).square().sum(), "small": 3 * a + 0 * b.sum()}
    for scale in (1.0, 1024.0, torch.tensor(2.0**16)):
        norms = gradnorm().gradient_norms(terms, iter([a, b]), scale=scale)
        assert norms.tolist() == pytest.approx([3, 4 * math.sqrt(2)]) and not norms.requires_grad
    sum(terms.values()).backward()
    assert (a.grad, b.grad.item()) == (7, 4)


def test_scale_saves_gradients_of_half_precision():
    """Of a mean over many voxels each half-precision gradient is too small to be seen."""
    weight = torch.full((1,), 0.5, requires_grad=True)
    outputs = weight.half() * torch.ones(1000, dtype=torch.half)
    term = outputs.float().mean() * 1e-5
    terms = {"small": term, "large": term}
    assert gradnorm().gradient_norms(terms, [weight])[0] == 0
    assert float(gradnorm().gradient_norms(terms, [weight], scale=2.0**16)[0]) == pytest.approx(1e-5, rel=1e-2)


def test_weights_are_plain_scalars():
    weights = gradnorm().weights
    assert list(weights) == list(NAMES)
    assert all(weight.ndim == 0 and not weight.requires_grad for weight in weights.values())
