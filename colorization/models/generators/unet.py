"""pix2pix's U-Net (Isola et al. 2017), as deep as the picture allows."""

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from colorization.config import Config
from colorization.models.layers import Normalization, biased, draw_normal, normalization

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


class UNetGeneratorConfig(Config):
    """4x4 stride-2 convolutions down while the sides can be halved, transposed ones up, skips.

    256 pixels: the published 8 levels; 224: 5, since 7 pixels cannot be halved.
    """

    fixed_size: ClassVar[bool] = False

    name: Literal["unet"] = "unet"
    width: int = Field(
        default=64, ge=4, le=256, description="channels of the first level; at most 8x this"
    )
    dropout: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="going up, in the three levels outside of the innermost",
    )
    dropout_down: bool = Field(
        default=False, description="dropout going down too, in the levels of full width (8x)"
    )
    gray_channels: Literal[1, 3] = Field(
        default=1, description="3: the lightness is repeated, as if it were an RGB picture"
    )
    head: Literal["transposed", "upsample"] = Field(
        default="transposed",
        description="the last doubling: a transposed convolution, or nearest neighbours and a 4x4 "
        "convolution",
    )
    normalization: Normalization = "batch"

    def depth(self, size: int) -> int:
        """Return how often sides of `size` are halved: while they are even, at most 8 times."""
        return min(8, (size & -size).bit_length() - 1)

    def multiple(self, size: int) -> int:
        """Return what picture sides must be multiples of; 8 at least, for three levels."""
        return 2 ** max(3, self.depth(size))

    def smallest(self) -> int:
        """Return the smallest picture side."""
        return 8

    def weights(self) -> "WeightsEnum | None":
        """Name the pretrained weights this network starts from: none."""
        return None

    def build(self, size: int, channels: int) -> "UNetGenerator":
        """Build the network for pictures of this side that answers with so many channels."""
        return UNetGenerator(self, self.depth(size), channels)


class UNetGenerator(nn.Module):
    """(B, 1, H, W) lightness -> (B, channels, H, W) in (-1, 1); sides: multiples of 2^depth."""

    def __init__(self, config: UNetGeneratorConfig, depth: int, channels: int) -> None:
        super().__init__()
        self.gray_channels = config.gray_channels
        widths = [config.width * min(2**level, 8) for level in range(depth)]
        self.downs = nn.ModuleList()
        self.ups = nn.ModuleList()
        for level, width in enumerate(widths):
            outermost, innermost = level == 0, level == depth - 1
            below = config.gray_channels if outermost else widths[level - 1]
            plain = outermost or innermost  # no norm there, as published
            dropped_down = config.dropout_down and level >= 3
            self.downs.append(
                nn.Sequential(
                    nn.Identity() if outermost else nn.LeakyReLU(0.2),
                    nn.Conv2d(below, width, 4, 2, 1, bias=plain or biased(config.normalization)),
                    nn.Identity() if plain else normalization(config.normalization, width),
                    nn.Dropout(config.dropout) if dropped_down else nn.Identity(),
                )
            )
            entering = width if innermost else 2 * width
            if outermost:
                self.ups.append(nn.Sequential(nn.ReLU(), *_head(config, entering, channels)))
                continue
            dropped = depth - 4 <= level < depth - 1
            self.ups.append(
                nn.Sequential(
                    nn.ReLU(),
                    nn.ConvTranspose2d(entering, below, 4, 2, 1, bias=biased(config.normalization)),
                    normalization(config.normalization, below),
                    nn.Dropout(config.dropout) if dropped else nn.Identity(),
                )
            )
        self.apply(draw_normal)

    def forward(self, lightness: Tensor) -> Tensor:
        """Answer with colors in (-1, 1) for (B, 1, H, W) lightness."""
        skips: list[Tensor] = []
        features = lightness.expand(-1, self.gray_channels, -1, -1)
        for down in self.downs:
            features = down(features)
            skips.append(features)
        features = self.ups[-1](skips.pop())
        for up in reversed(self.ups[:-1]):
            features = up(torch.cat([features, skips.pop()], dim=1))
        return features


def _head(config: UNetGeneratorConfig, entering: int, channels: int) -> list[nn.Module]:
    if config.head == "transposed":
        return [nn.ConvTranspose2d(entering, channels, 4, 2, 1), nn.Tanh()]
    return [
        nn.Upsample(scale_factor=2),
        nn.ZeroPad2d((1, 0, 1, 0)),  # a 4x4 convolution takes a pixel off
        nn.Conv2d(entering, channels, 4, padding=1),
        nn.Tanh(),
    ]
