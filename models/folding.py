"""Networks rewritten for inference: a norm layer that only scales becomes part of the convolution before it."""

import copy
import warnings

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Where a block keeps a convolution and the norm that takes its output and nothing else: blocks of a U-Net, of a ResNet,
# and layers in a row.
PAIRS = (("conv", "adn.N"), ("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1"))


def fold_norms(network: nn.Module) -> nn.Module:
    """A copy with the same output, in which every batch norm is folded into the convolution that it follows.

    The network must be in evaluation mode, where a batch norm is a factor and an offset per channel. Instance norms,
    which depend on their input, stay. A batch norm whose convolution PAIRS does not name stays, too, with a warning.
    """
    network = copy.deepcopy(network)
    for block in network.modules():
        for conv_name, norm_name in PAIRS:
            conv, norm = _part(block, conv_name), _part(block, norm_name)
            if isinstance(conv, nn.Conv3d | nn.ConvTranspose3d) and isinstance(norm, nn.BatchNorm3d):
                folded = fuse_conv_bn_eval(conv, norm, transpose=isinstance(conv, nn.ConvTranspose3d))
                block.set_submodule(conv_name, folded)
                block.set_submodule(norm_name, nn.Identity())
    left = sum(isinstance(module, nn.BatchNorm3d) for module in network.modules())
    if left:
        warnings.warn(
            f"{left} batch norms are not folded into convolutions, inference takes longer: "
            "name their layers in models/folding.py",
            stacklevel=2,
        )
    return network


def _part(block: nn.Module, name: str) -> nn.Module | None:
    try:
        return block.get_submodule(name)
    except AttributeError:
        return None
