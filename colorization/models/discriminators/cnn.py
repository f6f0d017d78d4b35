"""A plain convolutional discriminator that judges whole pictures (system E1)."""

from typing import Literal

from pydantic import Field
from torch import nn

from colorization.config import Config
from colorization.models.layers import Normalization, biased, draw_normal, normalization


class CNNConfig(Config):
    """`layers` stride-2 4x4 convolutions that double the channels, then one over what is left."""

    name: Literal["cnn"] = "cnn"
    width: int = Field(
        default=64, ge=4, le=128, description="channels of the first layer; each one doubles them"
    )
    layers: int = Field(default=6, ge=1, le=6, description="how often the sides are halved")
    normalization: Normalization = "batch"

    def smallest(self) -> int:
        """Return the smallest picture side; norms over pixels need more than a last 1x1 pixel."""
        last = 2 if self.normalization in ("batch", "instance") else 1
        return last * 2**self.layers

    def multiple(self) -> int:
        """Return what picture sides must be multiples of: any will do."""
        return 1

    def build(self, size: int, channels: int) -> "CNNDiscriminator":
        """Build the network for pictures of this side and so many channels, lightness first."""
        return CNNDiscriminator(self, size, channels)


class CNNDiscriminator(nn.Sequential):
    """(B, channels, size, size) -> logits (B, 1, 1, 1), one a picture, high for real."""

    def __init__(self, config: CNNConfig, size: int, channels: int) -> None:
        layers: list[nn.Module] = []
        below = channels
        for level in range(config.layers):
            width = config.width * 2**level
            bias = level == 0 or biased(config.normalization)
            layers.append(nn.Conv2d(below, width, 4, 2, 1, bias=bias))
            if level > 0:  # the first layer has no norm (Radford et al. 2016)
                layers.append(normalization(config.normalization, width))
            layers.append(nn.LeakyReLU(0.2))
            below = width
        layers.append(nn.Conv2d(below, 1, size >> config.layers))
        super().__init__(*layers)
        self.apply(draw_normal)
