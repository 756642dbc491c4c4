"""The U-Net (arXiv 1606.06650): an encoder, and a decoder that climbs back over its feature maps."""

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from monai.networks.nets.basic_unet import UpCat
from torch import Tensor, nn

from models.layers import ACTIVATION, call_in_safe_precision, initialise_for_relu, norm_of_level, residual_unit

# Logit of the background before training, those of the particles being 0.
BACKGROUND_LOGIT = 4.0


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


class ResidualDecoder(nn.ModuleList):
    """Join, go up, refine (as MONAI's UNet): every block ends one level finer, the last one with the logits.

    Parameters
    ----------
    encoder : the encoder whose feature maps it gets; has channels, strides, norm_type, dropout.
    num_classes : classes with the background.
    output_stride : 1, or the encoder's first stride: the last block then stays at that resolution.
    """

    def __init__(self, encoder: nn.Module, *, num_classes: int, output_stride: int) -> None:
        super().__init__()
        skips = len(encoder.channels) - 1
        outputs = (num_classes, *encoder.channels[: skips - 1])
        strides = (encoder.strides[0] // output_stride, *encoder.strides[1:])
        coarse_channels = encoder.channels[-1]
        for level in reversed(range(skips)):
            self.append(
                UpBlock(
                    coarse_channels + encoder.channels[level],
                    outputs[level],
                    stride=strides[level],
                    norm=norm_of_level(encoder.norm_type, level),
                    dropout=encoder.dropout,
                    last=level == 0,
                )
            )
            coarse_channels = outputs[level]

    @property
    def last_layer(self) -> nn.Module:
        return self[-1].refine

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Feature maps fine to coarse -> logits."""
        *skips, coarse = features
        for block, skip in zip(self, reversed(skips), strict=True):
            coarse = call_in_safe_precision(block, coarse, skip)
        return coarse


class UpsamplingDecoder(nn.Module):
    """Go up, join, convolve twice (as MONAI's FlexibleUNet) to the encoder's finest map; a linear head from there.

    The head reads one voxel of that map at a time: for the class logits of this voxel (output stride 2), or for
    those of the 2^3 voxels of the input that it covers (output stride 1). All else costs the same at both strides.

    Parameters
    ----------
    encoder : the encoder whose feature maps it gets; has channels, decoder_channels, strides (all 2), norm_type.
    num_classes : classes with the background.
    output_stride : 1 or 2.
    """

    def __init__(self, encoder: nn.Module, *, num_classes: int, output_stride: int) -> None:
        super().__init__()
        inputs = (encoder.channels[-1], *encoder.decoder_channels[:-1])
        levels = reversed(range(len(encoder.channels) - 1))
        self.blocks = nn.ModuleList(
            UpCat(
                spatial_dims=3,
                in_chns=in_channels,
                cat_chns=encoder.channels[level],
                out_chns=out_channels,
                act=("RELU", {"inplace": True}),
                norm=norm_of_level(encoder.norm_type, level),
                bias=False,
                upsample="nontrainable",
                interp_mode="nearest",
                align_corners=None,
                is_pad=False,
            )
            for level, in_channels, out_channels in zip(levels, inputs, encoder.decoder_channels, strict=True)
        )
        initialise_for_relu(self)
        step = encoder.strides[0] // output_stride
        self.head = nn.ConvTranspose3d(encoder.decoder_channels[-1], num_classes, kernel_size=step, stride=step)
        # Training starts from nearly equal probabilities, whatever the features are.
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    @property
    def last_layer(self) -> nn.Module:
        return self.head

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Feature maps fine to coarse -> logits."""
        *skips, coarse = features
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            coarse = call_in_safe_precision(block, coarse, skip)
        return self.head(coarse)


class UNet(nn.Module):
    """An encoder under the decoder that goes with it.

    Parameters
    ----------
    encoder : maps (B, 1, Z, Y, X) to feature maps fine to coarse.
    num_classes : classes with the background.
    output_stride : 1 for logits at the input's resolution, 2 for half of it.

    Attributes
    ----------
    divisor : sides of the input must be multiples of it.
    output_stride : voxel j of the logits lies at input voxel (j + 0.5) * output_stride - 0.5.
    last_layer : the module whose output the logits are.
    """

    def __init__(self, encoder: nn.Module, *, num_classes: int, output_stride: int = 1) -> None:
        super().__init__()
        self.divisor = encoder.divisor
        self.output_stride = output_stride
        self.encoder = encoder
        self.decoder = encoder.decoder_type(encoder, num_classes=num_classes, output_stride=output_stride)
        self._favour_background()

    @property
    def last_layer(self) -> nn.Module:
        return self.decoder.last_layer

    def _favour_background(self) -> None:
        """Before it has learnt anything, a network says background: nearly always right (arXiv 1708.02002)."""
        [bias] = [values for name, values in self.last_layer.named_parameters() if name.endswith("bias")]
        with torch.no_grad():
            bias.zero_()
            bias[0] = BACKGROUND_LOGIT

    def forward(self, volume: Tensor) -> Tensor:
        """Volume (B, 1, Z, Y, X), sides multiples of ``divisor`` -> logits (B, C, Z/s, Y/s, X/s), s the stride."""
        return self.decoder(self.encoder(volume))
