"""deepfinder2: a residual encoder of about half a million parameters, enough for this task and fast."""

from collections.abc import Sequence

from torch import Tensor, nn

from models.layers import norm_of_level, residual_unit


class DeepFinder2Encoder(nn.Module):
    """Residual 3D encoder: every level but the last halves the resolution first.

    Parameters
    ----------
    channels : feature channels per level.
    norm_type : batch, instance or mix.
    dropout : probability after each normalisation.

    Attributes
    ----------
    channels : as given.
    strides : factor by which each level is coarser than the one before it (the first: than the input).
    divisor : sides of the input must be multiples of it.
    """

    def __init__(
        self, channels: Sequence[int] = (32, 48, 64, 64), *, norm_type: str = "batch", dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.strides = (2,) * (len(channels) - 1) + (1,)
        self.divisor = 2 ** (len(channels) - 1)
        self.norm_type = norm_type
        self.dropout = dropout
        inputs = (1, *self.channels[:-1])
        self.levels = nn.ModuleList(
            residual_unit(
                inputs[level],
                self.channels[level],
                stride=self.strides[level],
                convolutions=2,
                norm=norm_of_level(norm_type, level),
                dropout=dropout,
            )
            for level in range(len(self.channels))
        )

    def forward(self, volume: Tensor) -> list[Tensor]:
        """Volume (B, 1, Z, Y, X) -> feature maps, fine to coarse."""
        features = []
        for level in self.levels:
            volume = level(volume)
            features.append(volume)
        return features
