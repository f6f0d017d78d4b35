"""Johnson's image transformation network, without skips (system E1)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from colorization.config import Config
from colorization.models.layers import Normalization, biased, normalization

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


class EncoderDecoderConfig(Config):
    """Two stride-2 convolutions, residual blocks at a quarter of the sides, two transposed ones."""

    fixed_size: ClassVar[bool] = False

    name: Literal["encoder_decoder"] = "encoder_decoder"
    width: int = Field(
        default=32, ge=4, le=256, description="channels at full size; 4x this in the blocks"
    )
    blocks: int = Field(default=5, ge=1, le=32, description="residual blocks")
    normalization: Normalization = "batch"

    @property
    def padding(self) -> int:
        """Pixels that are reflected at each border: what the unpadded convolutions take off."""
        return 8 * self.blocks

    def multiple(self, size: int) -> int:
        """Return what picture sides must be multiples of."""
        return 4

    def smallest(self) -> int:
        """Return the smallest picture side: more is reflected than a smaller picture has."""
        return self.padding + 4

    def weights(self) -> "WeightsEnum | None":
        """Name the pretrained weights this network starts from: none."""
        return None

    def build(self, size: int, channels: int) -> "EncoderDecoder":
        """Build the network for pictures of this side that answers with so many channels."""
        return EncoderDecoder(self, channels)


class EncoderDecoder(nn.Module):
    """(B, 1, H, W) lightness -> (B, channels, H, W) in (-1, 1); sides are multiples of 4.

    Johnson et al. 2016, supplementary material, table 1: five blocks and a padding of 40.
    """

    def __init__(self, config: EncoderDecoderConfig, channels: int) -> None:
        super().__init__()
        width, norm = config.width, config.normalization
        bias = biased(norm)
        self.encoder = nn.Sequential(
            nn.ReflectionPad2d(config.padding),
            nn.Conv2d(1, width, 9, padding=4, bias=bias),
            *_activation(norm, width),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=bias),
            *_activation(norm, 2 * width),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1, bias=bias),
            *_activation(norm, 4 * width),
        )
        self.blocks = nn.Sequential(*[_Residual(4 * width, norm) for _ in range(config.blocks)])
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(4 * width, 2 * width, 3, 2, 1, output_padding=1, bias=bias),
            *_activation(norm, 2 * width),
            nn.ConvTranspose2d(2 * width, width, 3, 2, 1, output_padding=1, bias=bias),
            *_activation(norm, width),
            nn.Conv2d(width, channels, 9, padding=4),
            nn.Tanh(),
        )

    def forward(self, lightness: Tensor) -> Tensor:
        """Answer with colors in (-1, 1) for (B, 1, H, W) lightness."""
        return self.decoder(self.blocks(self.encoder(lightness)))


class _Residual(nn.Module):
    """Two unpadded 3x3 convolutions beside a shortcut, which is cropped by 2 at each border."""

    def __init__(self, channels: int, norm: Normalization) -> None:
        super().__init__()
        bias = biased(norm)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, bias=bias),
            *_activation(norm, channels),
            nn.Conv2d(channels, channels, 3, bias=bias),
            normalization(norm, channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        return features[..., 2:-2, 2:-2] + self.layers(features)


def _activation(norm: Normalization, channels: int) -> list[nn.Module]:
    return [normalization(norm, channels), nn.ReLU(inplace=True)]
