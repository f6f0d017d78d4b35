"""A U-Net whose encoder is VGG, with self-attention and spectral norm (system C2, Unet-SAGAN)."""

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from colorization.config import Config
from colorization.models.layers import (
    Normalization,
    SelfAttention,
    biased,
    normalization,
    with_spectral_norm,
)
from colorization.models.vgg import VGGEncoder, VGGKind, pretrained_refusal, vgg_weights

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


class VGGUNetSAGANConfig(Config):
    """VGG encoder, transposed convolutions with skips at every scale, self-attention before the
    last layer."""

    fixed_size: ClassVar[bool] = False

    name: Literal["vgg_unet_sagan"] = "vgg_unet_sagan"
    encoder: VGGKind = "vgg19"
    pretrained: bool = Field(
        default=False, description="start the encoder from torchvision's weights"
    )
    width: int = Field(
        default=64, ge=4, le=256, description="channels of the first block; at most 8x this"
    )
    self_attention: bool = Field(
        default=True, description="let every pixel look at all others before the last layer"
    )
    spectral: bool = Field(
        default=True, description="spectral norm on the decoder's and the attention's convolutions"
    )
    normalization: Normalization = "batch"

    def model_post_init(self, context: object) -> None:
        """Refuse pretrained weights where the network is another than the one they belong to."""
        if self.pretrained and (refusal := pretrained_refusal(self.width, self.normalization)):
            raise ValueError(refusal)

    def multiple(self, size: int) -> int:
        """Return what picture sides must be multiples of."""
        return 32

    def smallest(self) -> int:
        """Return the smallest picture side."""
        return 32

    def weights(self) -> "WeightsEnum | None":
        """Name the pretrained weights this network starts from, if any."""
        return vgg_weights(self.encoder, self.normalization) if self.pretrained else None

    def build(self, size: int, channels: int) -> "VGGUNetSAGAN":
        """Build the network for pictures of this side that answers with so many channels."""
        return VGGUNetSAGAN(self, channels)


class VGGUNetSAGAN(nn.Module):
    """(B, 1, H, W) lightness -> (B, channels, H, W) in (-1, 1); sides are multiples of 32.

    Self-attention and spectral norm in the generator: Zhang et al. 2019. The encoder has no
    spectral norm: it would divide the pretrained features by the largest singular value of each
    layer, and with batch norm behind it changes no answer.
    """

    def __init__(self, config: VGGUNetSAGANConfig, channels: int) -> None:
        super().__init__()
        self.encoder = VGGEncoder(
            config.encoder,
            1,
            width=config.width,
            normalization=config.normalization,
            pretrained=config.pretrained,
        )
        self.ups = nn.ModuleList()
        self.blocks = nn.ModuleList()
        widths = self.encoder.widths
        below = widths[-1]
        for width in reversed(widths):
            self.ups.append(_layer(config, nn.ConvTranspose2d, below, width, 4, stride=2))
            self.blocks.append(_layer(config, nn.Conv2d, 2 * width, width, 3, stride=1))
            below = width
        self.attention = (
            SelfAttention(below, config.spectral) if config.self_attention else nn.Identity()
        )
        last = nn.Conv2d(below, channels, 3, padding=1)
        self.last = with_spectral_norm(last) if config.spectral else last

    def forward(self, lightness: Tensor) -> Tensor:
        """Answer with colors in (-1, 1) for (B, 1, H, W) lightness."""
        *skips, features = self.encoder(lightness)
        for up, block, skip in zip(self.ups, self.blocks, reversed(skips), strict=True):
            features = block(torch.cat([up(features), skip], dim=1))
        return self.last(self.attention(features)).tanh()


def _layer(
    config: VGGUNetSAGANConfig,
    kind: type[nn.Conv2d] | type[nn.ConvTranspose2d],
    channels: int,
    width: int,
    kernel: int,
    *,
    stride: int,
) -> nn.Sequential:
    bias = biased(config.normalization)
    convolution = kind(channels, width, kernel, stride, padding=1, bias=bias)
    return nn.Sequential(
        with_spectral_norm(convolution) if config.spectral else convolution,
        normalization(config.normalization, width),
        nn.ReLU(inplace=True),
    )
