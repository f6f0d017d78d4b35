"""PatchGAN: a convolutional discriminator that judges overlapping patches (Isola et al. 2017)."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from colorization.config import Config
from colorization.models.layers import Normalization, biased, draw_normal, normalization


class PatchConfig(Config):
    """`layers` stride-2 4x4 convolutions from `width` channels, doubling, then two of stride 1."""

    name: Literal["patch"] = "patch"
    width: int = Field(
        default=64, ge=4, le=256, description="channels of the first layer; at most 8x this"
    )
    layers: int = Field(default=3, ge=1, le=6, description="how often the sides are halved")
    normalization: Normalization = "batch"
    gray_channels: Literal[1, 3] = Field(
        default=1,
        description="how often the lightness stands before the colors; 3: pix2pix's gray picture",
    )

    def smallest(self) -> int:
        """Return the smallest picture side that leaves an answer (two 4x4 stride-1 layers)."""
        return 3 * 2**self.layers

    def multiple(self) -> int:
        """Return what picture sides must be multiples of: any will do."""
        return 1

    def build(self, size: int, channels: int) -> "PatchDiscriminator":
        """Build the network for pictures of this side and so many channels, lightness first."""
        del size
        return PatchDiscriminator(self, channels)


class PatchDiscriminator(nn.Sequential):
    """(B, channels, H, W) -> logits (B, 1, h, w), one a patch; at 224 with 3 layers 26x26."""

    def __init__(self, config: PatchConfig, channels: int) -> None:
        layers: list[nn.Module] = []
        below = channels - 1 + config.gray_channels
        for level in range(config.layers + 1):
            width = config.width * min(2**level, 8)
            stride = 2 if level < config.layers else 1
            bias = level == 0 or biased(config.normalization)
            layers.append(nn.Conv2d(below, width, 4, stride, 1, bias=bias))
            if level > 0:  # the first layer has no norm, as published
                layers.append(normalization(config.normalization, width))
            layers.append(nn.LeakyReLU(0.2))
            below = width
        layers.append(nn.Conv2d(below, 1, 4, 1, 1))
        super().__init__(*layers)
        self.gray_channels = config.gray_channels
        self.apply(draw_normal)

    def forward(self, input: Tensor) -> Tensor:
        """Answer with logits, high for real, one a patch."""
        if self.gray_channels > 1:
            gray = input[:, :1].expand(-1, self.gray_channels, -1, -1)
            input = torch.cat([gray, input[:, 1:]], dim=1)
        return super().forward(input)
