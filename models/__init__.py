"""Networks: an encoder by name under a U-Net decoder."""

from collections.abc import Mapping

from torch import nn

from models.deepfinder2 import DeepFinder2Encoder
from models.unet import UNet

ENCODERS = {
    "deepfinder2": DeepFinder2Encoder,
}


def build_model(encoder_name: str, *, num_classes: int, norm_type: str = "batch") -> nn.Module:
    """U-Net ``(B, 1, Z, Y, X) -> logits (B, num_classes, Z, Y, X)`` with the encoder of that name."""
    return UNet(ENCODERS[encoder_name](norm_type=norm_type), num_classes=num_classes)


def model_from_description(description: Mapping) -> nn.Module:
    """The network whose arguments a checkpoint keeps."""
    return build_model(
        description["encoder_name"],
        num_classes=description["num_classes"],
        norm_type=description["norm_type"],
    )
