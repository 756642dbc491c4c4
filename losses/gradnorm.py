"""GradNorm: weights of the terms of a hybrid loss, such that all terms train at the same rate (arXiv 1711.02257)."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

BETAS = (0.9, 0.999)  # of Adam
ADAM_EPSILON = 1e-8
# The least share of the sum that a weight keeps: it must stay positive and able to come back.
LEAST_SHARE = 1e-4


class GradNorm:
    """Finds weights w_i for loss terms L_i from how fast each of them trains.

    With n_i the norm of the gradient of L_i at the last layer, G_i = w_i n_i and r_i the loss ratio L_i / L_i(0)
    relative to the mean ratio, the weights descend on sum_i |G_i - mean(G) r_i^alpha| with the second member held
    constant. Its slope in w_i is then sign(G_i - mean(G) r_i^alpha) n_i: no second derivatives. The network's
    optimiser never sees the weights, this loss never sees the network.

    The weights keep the sum of their initial values (the paper starts from ones and keeps their number), so the total
    loss keeps its scale when GradNorm is switched on. L_i(0) is the first usable loss.

    Parameters
    ----------
    names : of the terms; their order is that of all (T,) tensors
    weights : initial weight by name, 1 where not named
    learning_rate : of Adam on the weights; about the largest change of a weight in a step
    alpha : how strongly terms that train slowly are favoured; 0 makes the gradients equal
    """

    def __init__(
        self, names: Sequence[str], weights: Mapping[str, float], *, learning_rate: float, alpha: float = 1.5
    ) -> None:
        self.names = tuple(names)
        self.learning_rate = learning_rate
        self.alpha = alpha
        initial = torch.tensor([weights.get(name, 1.0) for name in self.names], dtype=torch.float32)
        self._state = {
            "weights": initial,
            "weight_sum": initial.sum(),
            "initial_losses": torch.full_like(initial, torch.nan),
            "step": torch.tensor(0.0),
            "mean_slope": torch.zeros_like(initial),
            "mean_square_slope": torch.zeros_like(initial),
        }

    @property
    def weights(self) -> dict[str, Tensor]:
        """Present weight of each term: scalars without gradient, which later updates leave as they are."""
        return dict(zip(self.names, self._state["weights"].unbind(), strict=True))

    def gradient_norms(
        self, terms: Mapping[str, Tensor], parameters: Iterable[Tensor], *, scale: Tensor | float = 1.0
    ) -> Tensor:
        """L2 norm of the gradient of each unweighted term with respect to all parameters together, shape (T,).

        The graph is kept for the backward pass that follows. In fp16 training pass the loss scale as ``scale``:
        gradients of unscaled terms vanish below 6e-8. The norms returned are without it.
        """
        parameters = list(parameters)
        norms = []
        for name in self.names:
            gradients = torch.autograd.grad(terms[name] * scale, parameters, retain_graph=True)
            norms.append(torch.cat([gradient.detach().float().flatten() for gradient in gradients]).norm() / scale)
        return torch.stack(norms)

    def update(self, losses: Tensor, norms: Tensor) -> None:
        """One step of the weights, on the device of the losses and without waiting for it.

        A step with a loss or a norm that is not finite (an overflow of fp16) changes nothing.

        Parameters
        ----------
        losses, norms : (T,), in the order of ``names``: the unweighted terms and their ``gradient_norms``. Of
            several processes all must pass the same, their mean.
        """
        losses, norms = losses.detach().float(), norms.detach().float()
        before = {key: value.to(losses.device, non_blocking=True) for key, value in self._state.items()}
        initial_losses = torch.where(before["initial_losses"].isnan(), losses, before["initial_losses"])
        ratios = losses / initial_losses
        weighted_norms = before["weights"] * norms
        aims = weighted_norms.mean() * (ratios / ratios.mean()) ** self.alpha
        slope = torch.sign(weighted_norms - aims) * norms

        # Adam squares the slope: one overflow there would hold the weights still for ever.
        usable = torch.isfinite(aims + slope**2).all()
        after = {**before, **self._adam_step(before, slope), "initial_losses": initial_losses}
        self._state = {key: torch.where(usable, after[key], before[key]) for key in before}

    def _adam_step(self, before: Mapping[str, Tensor], slope: Tensor) -> dict[str, Tensor]:
        """Adam (arXiv 1412.6980), then back to the sum; torch's own cannot leave out a step without asking the host."""
        step = before["step"] + 1
        mean = BETAS[0] * before["mean_slope"] + (1 - BETAS[0]) * slope
        mean_square = BETAS[1] * before["mean_square_slope"] + (1 - BETAS[1]) * slope**2
        unbiased_root = (mean_square / (1 - BETAS[1] ** step)).sqrt()
        weights = before["weights"] - self.learning_rate * mean / (1 - BETAS[0] ** step) / (
            unbiased_root + ADAM_EPSILON
        )
        weights = torch.maximum(weights, LEAST_SHARE * before["weight_sum"])
        weights = weights * (before["weight_sum"] / weights.sum())
        return {"weights": weights, "step": step, "mean_slope": mean, "mean_square_slope": mean_square}

    def state_dict(self) -> dict[str, Tensor]:
        """Weights, first losses and Adam's memory: all that a later step depends on besides the settings."""
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on exactly where ``state_dict`` was taken."""
        self._state = {key: state[key] for key in self._state}
