"""GradNorm: weights of the terms of a hybrid loss, such that all terms train at the same rate (arXiv 1711.02257)."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# The least share of the sum that a weight keeps: it must stay positive and able to come back.
LEAST_SHARE = 1e-4


class GradNorm:
    """Finds weights w_i for loss terms L_i from how fast each of them trains.

    With n_i the norm of the gradient of L_i at the last layer, G_i = w_i n_i and r_i the loss ratio L_i / L_i(0)
    relative to the mean ratio, the weights descend on sum_i |G_i - mean(G) r_i^alpha| with the second member held
    constant. Its slope in w_i is then sign(G_i - mean(G) r_i^alpha) n_i: no second derivatives. The network's
    optimiser does not change the weights, this loss does not change the network.

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
        self.alpha = alpha
        self._weights = torch.tensor([weights.get(name, 1.0) for name in self.names], dtype=torch.float32)
        self._weight_sum = self._weights.sum()
        self._initial_losses: Tensor | None = None
        self._optimizer = torch.optim.Adam([self._weights], lr=learning_rate)

    @property
    def weights(self) -> dict[str, Tensor]:
        """Present weight of each term: scalars on the CPU, which later updates leave as they are."""
        return dict(zip(self.names, self._weights.clone().unbind(), strict=True))

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
        """One step of the weights, on the CPU.

        A step with a loss or a norm that is not finite (an overflow of fp16) changes nothing.

        Parameters
        ----------
        losses, norms : (T,), in the order of ``names``: the unweighted terms and their ``gradient_norms``. Of
            several processes all must pass the same, their mean.
        """
        losses, norms = losses.detach().float().cpu(), norms.detach().float().cpu()
        initial_losses = losses if self._initial_losses is None else self._initial_losses
        ratios = losses / initial_losses
        weighted_norms = self._weights * norms
        aims = weighted_norms.mean() * (ratios / ratios.mean()) ** self.alpha
        slope = torch.sign(weighted_norms - aims) * norms
        if not torch.isfinite(aims + slope**2).all():  # Adam squares the slope
            return
        self._initial_losses, self._weights.grad = initial_losses, slope
        self._optimizer.step()
        self._weights.clamp_(min=LEAST_SHARE * self._weight_sum)
        self._weights.mul_(self._weight_sum / self._weights.sum())

    def state_dict(self) -> dict[str, Any]:
        """Weights, first losses and Adam's memory: all that a later step depends on besides the settings."""
        state = {
            "weights": self._weights,
            "initial_losses": self._initial_losses,
            "optimizer": self._optimizer.state_dict(),
        }
        return copy.deepcopy(state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where ``state_dict`` was taken, perhaps by an earlier version with an Adam of its own."""
        self._weights.copy_(state["weights"])
        if "optimizer" in state:
            self._initial_losses = state["initial_losses"]
            self._optimizer.load_state_dict(state["optimizer"])
        elif state["step"] > 0:
            self._initial_losses = state["initial_losses"].cpu()
            memory = {"step": state["step"], "exp_avg": state["mean_slope"], "exp_avg_sq": state["mean_square_slope"]}
            groups = self._optimizer.state_dict()["param_groups"]
            self._optimizer.load_state_dict({"state": {0: memory}, "param_groups": groups})
