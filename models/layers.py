"""Building blocks that all networks share."""

import torch
from monai.networks import blocks
from torch import Tensor, nn

ACTIVATION = ("LEAKYRELU", {"negative_slope": 0.1, "inplace": True})


def norm_of_level(norm_type: str, level: int) -> tuple[str, dict]:
    """MONAI's name of the norm layer at a level of the network (0 = finest).

    ``mix`` takes instance norm where intensities still vary from tomogram to tomogram (the first two levels: of a
    ResNet the stem and the first stage), batch norm deeper.
    """
    if norm_type == "instance" or (norm_type == "mix" and level < 2):
        return ("INSTANCE", {"affine": True})
    return ("BATCH", {})


class ResidualUnit(blocks.ResidualUnit):
    """MONAI's; where no gradient is wanted, the sum of both ways takes no memory of its own."""

    def forward(self, volume: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return super().forward(volume)
        return self.conv(volume).add_(self.residual(volume))


def residual_unit(
    in_channels: int,
    out_channels: int,
    *,
    stride: int,
    convolutions: int,
    norm: tuple,
    dropout: float,
    last: bool = False,
) -> nn.Module:
    """Residual block of 3^3 convolutions, the first with ``stride``; ``last`` leaves the final one linear."""
    return ResidualUnit(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=out_channels,
        strides=stride,
        subunits=convolutions,
        act=ACTIVATION,
        norm=norm,
        dropout=dropout,
        last_conv_only=last,
    )


def initialise_for_relu(module: nn.Module) -> None:
    """Draw the convolutions as He et al. (arXiv 1502.01852): variance is kept from layer to layer; biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def call_in_safe_precision(level: nn.Module, *maps: Tensor) -> Tensor:
    """``level(*maps)``, in fp32 where a CPU's autocast cannot be trusted.

    With bf16 on AVX-512 CPUs (torch 2.13, oneDNN) the weight gradients of 3^3 convolutions over maps two voxels deep
    are uninitialised memory. Levels that begin at most four voxels deep may hold such maps.
    """
    on_cpu = maps[0].device.type == "cpu"
    if on_cpu and torch.is_autocast_enabled("cpu") and max(volume.shape[2] for volume in maps) <= 4:
        with torch.autocast("cpu", enabled=False):
            return level(*(volume.float() for volume in maps))
    return level(*maps)
