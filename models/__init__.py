"""Networks: an encoder by name under a U-Net decoder.

Their modules import MONAI, which takes seconds, and are imported when the first network is built.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.unet import UNet

NORM_TYPES = ("batch", "instance", "mix")
OUTPUT_STRIDES = (1, 2)


@dataclass(frozen=True)
class EncoderKind:
    """A module and the class in it; sides of what the network takes are multiples of ``divisor``."""

    module: str
    class_name: str
    divisor: int
    has_dropout: bool = False

    def __call__(self, **arguments):
        """A new encoder."""
        return getattr(import_module(self.module), self.class_name)(**arguments)


ENCODERS = {
    "deepfinder2": EncoderKind("models.deepfinder2", "DeepFinder2Encoder", 8, has_dropout=True),
    "resnet18": EncoderKind("models.resnet", "ResNet18Encoder", 32),
    "resnet34": EncoderKind("models.resnet", "ResNet34Encoder", 32),
    "resnet50": EncoderKind("models.resnet", "ResNet50Encoder", 32),
    "resnet101": EncoderKind("models.resnet", "ResNet101Encoder", 32),
}


def build_model(
    encoder_name: str, *, num_classes: int, norm_type: str = "batch", output_stride: int = 1, dropout: float = 0.0
) -> "UNet":
    """U-Net ``(B, 1, Z, Y, X) -> logits (B, num_classes, Z/s, Y/s, X/s)``, s the output stride, over that encoder.

    ``dropout`` other than 0 is for encoders that have it.
    """
    from models.unet import UNet

    arguments = {"norm_type": norm_type, **({"dropout": dropout} if dropout else {})}
    return UNet(ENCODERS[encoder_name](**arguments), num_classes=num_classes, output_stride=output_stride)


def model_from_description(description: Mapping) -> "UNet":
    """The network whose arguments a checkpoint keeps; those from before there was an output stride have stride 1."""
    return build_model(
        description["encoder_name"],
        num_classes=description["num_classes"],
        norm_type=description["norm_type"],
        output_stride=description.get("output_stride", 1),
    )


def nearest_patch_size(encoder_name: str, patch_size_zyx: Sequence[int]) -> tuple[int, int, int]:
    """The patch size itself where a network with that encoder can train on it, else the nearest one.

    Sides are multiples of the encoder's divisor (halfway goes up), and the coarsest feature map has at least two
    voxels, without which a norm layer has no variance: where it would have one, the longest side given is doubled
    (the first of several, so that a patch that is square in the plane stays so).

    Parameters
    ----------
    encoder_name : a key of ENCODERS.
    patch_size_zyx : voxels; sides below 1 count as too small.
    """
    divisor = ENCODERS[encoder_name].divisor
    nearest = [divisor * max(1, (2 * side + divisor) // (2 * divisor)) for side in patch_size_zyx]
    if all(side == divisor for side in nearest):
        nearest[list(patch_size_zyx).index(max(patch_size_zyx))] *= 2
    return tuple(nearest)
