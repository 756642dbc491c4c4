"""The U-Net: an encoder, and a decoder that climbs back over its feature maps."""

import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn

from models.layers import ACTIVATION, norm_of_level, residual_unit


class UpBlock(nn.Module):
    """Join a coarse map with the encoder's map of the same size, go up by ``stride``, refine."""

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int, norm: tuple, dropout: float, last: bool
    ) -> None:
        super().__init__()
        self.up = Convolution(
            spatial_dims=3,
            in_channels=in_channels,
            out_channels=out_channels,
            strides=stride,
            is_transposed=True,
            act=ACTIVATION,
            norm=norm,
            dropout=dropout,
        )
        self.refine = residual_unit(
            out_channels, out_channels, stride=1, convolutions=1, norm=norm, dropout=dropout, last=last
        )

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        return self.refine(self.up(torch.cat((skip, coarse), dim=1)))


class UNet(nn.Module):
    """U-Net over an encoder's feature maps (arXiv 1606.06650, residual as in MONAI's UNet).

    Parameters
    ----------
    encoder : maps (B, 1, Z, Y, X) to feature maps fine to coarse; has channels, strides, norm_type, dropout.
    num_classes : classes with the background.

    Attributes
    ----------
    divisor : sides of the input must be multiples of it.
    """

    def __init__(self, encoder: nn.Module, *, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.divisor = encoder.divisor
        skips = len(encoder.channels) - 1
        outputs = (num_classes, *encoder.channels[: skips - 1])
        blocks, coarse_channels = [], encoder.channels[-1]
        for level in reversed(range(skips)):
            blocks.append(
                UpBlock(
                    coarse_channels + encoder.channels[level],
                    outputs[level],
                    stride=encoder.strides[level],
                    norm=norm_of_level(encoder.norm_type, level),
                    dropout=encoder.dropout,
                    last=level == 0,
                )
            )
            coarse_channels = outputs[level]
        self.decoder = nn.ModuleList(blocks)

    def forward(self, volume: Tensor) -> Tensor:
        """Volume (B, 1, Z, Y, X), sides multiples of ``divisor`` -> logits (B, C, Z, Y, X)."""
        *skips, coarse = self.encoder(volume)
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            coarse = block(coarse, skip)
        return coarse
