"""deepfinder2: a residual encoder, with its decoder about a million parameters: enough for this task, and fast."""

from torch import Tensor, nn

from models.layers import call_in_safe_precision, norm_of_level, residual_unit
from models.unet import ResidualDecoder


class DeepFinder2Encoder(nn.Module):
    """Residual 3D encoder: every level but the last halves the resolution first.

    Parameters
    ----------
    norm_type : batch, instance or mix.
    dropout : probability after each normalisation, in training.

    Attributes
    ----------
    channels : feature channels per level.
    strides : factor by which each level is coarser than the one before it (the first: than the input).
    divisor : sides of the input must be multiples of it.
    decoder_type : class of the decoder that climbs back over its feature maps.
    """

    channels = (32, 48, 64, 64)
    strides = (2, 2, 2, 1)
    divisor = 8
    decoder_type = ResidualDecoder

    def __init__(self, *, norm_type: str = "batch", dropout: float = 0.0) -> None:
        super().__init__()
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
            volume = call_in_safe_precision(level, volume)
            features.append(volume)
        return features
