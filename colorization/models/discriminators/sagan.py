"""SAGAN's discriminator (Zhang et al. 2019), with self-attention before its answer (system C2)."""

from typing import Literal

from pydantic import Field
from torch import nn

from colorization.config import Config
from colorization.models.layers import SelfAttention, draw_normal, with_spectral_norm


class SAGANDiscriminatorConfig(Config):
    """`layers` stride-2 4x4 convolutions that double the channels, self-attention, the answer."""

    name: Literal["sagan"] = "sagan"
    width: int = Field(
        default=64, ge=4, le=128, description="channels of the first layer; each one doubles them"
    )
    layers: int = Field(default=5, ge=1, le=6, description="how often the sides are halved")
    spectral: bool = Field(default=True, description="spectral norm on every convolution")

    def smallest(self) -> int:
        """Return the smallest picture side; one pixel alone would attend to nothing."""
        return 2 * 2**self.layers

    def multiple(self) -> int:
        """Return what picture sides must be multiples of: any will do."""
        return 1

    def build(self, size: int, channels: int) -> "SAGANDiscriminator":
        """Build the network for pictures of this side and so many channels, lightness first."""
        return SAGANDiscriminator(self, size, channels)


class SAGANDiscriminator(nn.Sequential):
    """(B, channels, size, size) -> logits (B, 1, 1, 1), one a picture, high for real."""

    def __init__(self, config: SAGANDiscriminatorConfig, size: int, channels: int) -> None:
        layers: list[nn.Module] = []
        below = channels
        for level in range(config.layers):
            width = config.width * 2**level
            layers += [_convolution(config, below, width, 4, 2, 1), nn.LeakyReLU(0.2)]
            below = width
        layers.append(SelfAttention(below, spectral=config.spectral))
        layers.append(_convolution(config, below, 1, size >> config.layers))
        super().__init__(*layers)


def _convolution(
    config: SAGANDiscriminatorConfig,
    channels: int,
    out_channels: int,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
) -> nn.Conv2d:
    convolution = nn.Conv2d(channels, out_channels, kernel, stride, padding)
    draw_normal(convolution)
    return with_spectral_norm(convolution) if config.spectral else convolution
