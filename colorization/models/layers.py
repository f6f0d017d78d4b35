"""Layers that several networks share."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

Normalization = Literal["batch", "instance", "group", "none"]


def biased(kind: Normalization) -> bool:
    """Tell whether a convolution before a normalization of this kind has a bias.

    A norm takes it out again: its gradient would be round-off alone, which Adam scales up to
    whole steps, other ones on each number of ranks.
    """
    return kind == "none"


def normalization(kind: Normalization, channels: int) -> nn.Module:
    """Return a normalization layer for (B, channels, H, W)."""
    match kind:
        case "batch":
            return nn.BatchNorm2d(channels)
        case "instance":
            return nn.InstanceNorm2d(channels, affine=True)
        case "group":
            return nn.GroupNorm(math.gcd(32, channels), channels)
        case "none":
            return nn.Identity()


class PixelShuffleUp(nn.Sequential):
    """Double the sides: 1x1 convolution, ReLU, pixel shuffle, optional blur.

    The convolution starts as nearest-neighbour resize (ICNR, Aitken et al. 2017), and the blur
    averages 2x2 pixels (Sugawara et al. 2018): both against checkerboards.
    """

    def __init__(self, channels: int, out_channels: int, *, blur: bool) -> None:
        convolution = nn.Conv2d(channels, 4 * out_channels, 1)
        icnr_(convolution.weight)
        assert convolution.bias is not None
        nn.init.zeros_(convolution.bias)  # drawn for each of the 2x2 pixels it would be a pattern
        layers: list[nn.Module] = [convolution, nn.ReLU(inplace=True), nn.PixelShuffle(2)]
        if blur:
            layers += [nn.ReplicationPad2d((1, 0, 1, 0)), nn.AvgPool2d(2, stride=1)]
        super().__init__(*layers)


def icnr_(weight: Tensor, scale: int = 2) -> Tensor:
    """Draw a weight (C * scale^2, in, k, k) so that pixel shuffle gives nearest-neighbour resize.

    Aitken et al. 2017, section 3.
    """
    with torch.no_grad():
        start = torch.empty_like(weight[:: scale**2])
        nn.init.kaiming_normal_(start)
        return weight.copy_(start.repeat_interleave(scale**2, dim=0))


def draw_normal(module: nn.Module) -> None:
    """Start convolutions as N(0, 0.02) and norms as N(1, 0.02) (DCGAN, pix2pix); use with apply."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, (nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm)):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
