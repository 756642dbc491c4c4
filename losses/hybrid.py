"""Several losses side by side, each keeping its name: whoever weighs them does so outside."""

from collections.abc import Mapping

from torch import Tensor, nn


class Hybrid(nn.Module):
    """The terms of several losses in one dict."""

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)

    def forward(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """As each part: logits (B, C, Z, Y, X), target -> {name: scalar} of all parts."""
        terms: dict[str, Tensor] = {}
        for part in self.parts.values():
            terms.update(part(logits, target))
        return terms
