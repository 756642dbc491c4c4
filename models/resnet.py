"""resnet18 to resnet101: residual 3D encoders of MONAI's blocks (arXiv 1512.03385, in 3D 1711.09577)."""

from monai.networks.layers.utils import get_norm_layer
from monai.networks.nets.resnet import ResNetBlock, ResNetBottleneck
from torch import Tensor, nn

from models.layers import call_in_safe_precision, initialise_for_relu, norm_of_level
from models.unet import UpsamplingDecoder


class ResNetEncoder(nn.Module):
    """Stem of 7^3 with stride 2, max-pool, four residual stages; a subclass names the block and how many per stage.

    Layers are named as in MONAI's ResNet, so that weights can be exchanged with it.

    Parameters
    ----------
    norm_type : batch, instance or mix.

    Attributes
    ----------
    channels : feature channels of the stem and the four stages.
    decoder_channels : of the four decoder levels, coarse to fine.
    strides, divisor, decoder_type : see DeepFinder2Encoder.
    """

    strides = (2, 2, 2, 2, 2)
    divisor = 32
    decoder_type = UpsamplingDecoder
    decoder_channels = (256, 128, 64, 32)
    widths = (64, 128, 256, 512)
    block: type[ResNetBlock | ResNetBottleneck]
    blocks_per_stage: tuple[int, int, int, int]

    def __init__(self, *, norm_type: str = "batch") -> None:
        super().__init__()
        self.norm_type = norm_type
        outputs = tuple(width * self.block.expansion for width in self.widths)
        self.channels = (self.widths[0], *outputs)
        self.conv1 = nn.Conv3d(1, self.widths[0], kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = get_norm_layer(norm_of_level(norm_type, 0), spatial_dims=3, channels=self.widths[0])
        self.act = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d(kernel_size=3, stride=2, padding=1)
        self.layer1 = self._stage(0, stride=1)
        self.layer2 = self._stage(1, stride=2)
        self.layer3 = self._stage(2, stride=2)
        self.layer4 = self._stage(3, stride=2)
        initialise_for_relu(self)

    def _stage(self, stage: int, *, stride: int) -> nn.Sequential:
        width, inputs, outputs = self.widths[stage], self.channels[stage], self.channels[stage + 1]
        # The stem is level 0.
        norm = norm_of_level(self.norm_type, stage + 1)
        shortcut = None
        if stride != 1 or inputs != outputs:
            shortcut = nn.Sequential(
                nn.Conv3d(inputs, outputs, kernel_size=1, stride=stride, bias=False),
                get_norm_layer(norm, spatial_dims=3, channels=outputs),
            )
        return nn.Sequential(
            self.block(inputs, width, stride=stride, downsample=shortcut, norm=norm),
            *(self.block(outputs, width, norm=norm) for _ in range(self.blocks_per_stage[stage] - 1)),
        )

    def forward(self, volume: Tensor) -> list[Tensor]:
        """Volume (B, 1, Z, Y, X) -> feature maps at 1/2, 1/4, 1/8, 1/16 and 1/32 of its resolution."""
        features = [self.act(self.bn1(self.conv1(volume)))]
        coarse = self.maxpool(features[0])
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            coarse = call_in_safe_precision(stage, coarse)
            features.append(coarse)
        return features


class ResNet18Encoder(ResNetEncoder):
    block, blocks_per_stage = ResNetBlock, (2, 2, 2, 2)


class ResNet34Encoder(ResNetEncoder):
    block, blocks_per_stage = ResNetBlock, (3, 4, 6, 3)


class ResNet50Encoder(ResNetEncoder):
    block, blocks_per_stage = ResNetBottleneck, (3, 4, 6, 3)


class ResNet101Encoder(ResNetEncoder):
    block, blocks_per_stage = ResNetBottleneck, (3, 4, 23, 3)
