"""VGG squeezed into a short vector, and transposed convolutions back (system C1)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from colorization.config import Config
from colorization.models.layers import Normalization, biased, normalization
from colorization.models.vgg import VGGEncoder, VGGKind, pretrained_refusal, vgg_weights

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


class VGGAutoencoderConfig(Config):
    """VGG encoder, a linear layer to the latent vector, the encoder mirrored; no skips."""

    fixed_size: ClassVar[bool] = True

    name: Literal["vgg_autoencoder"] = "vgg_autoencoder"
    encoder: VGGKind = "vgg16"
    pretrained: bool = Field(
        default=False, description="start the encoder from torchvision's weights"
    )
    width: int = Field(
        default=64, ge=4, le=256, description="channels of the first block; at most 8x this"
    )
    latent: int = Field(
        default=100, ge=1, le=8192, description="numbers that all of the picture goes through"
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
        """Return the smallest picture side; instance norm needs more than the first 1x1 pixel."""
        return 64 if self.normalization == "instance" else 32

    def weights(self) -> "WeightsEnum | None":
        """Name the pretrained weights this network starts from, if any."""
        return vgg_weights(self.encoder, self.normalization) if self.pretrained else None

    def build(self, size: int, channels: int) -> "VGGAutoencoder":
        """Build the network for pictures of this side that answers with so many channels."""
        return VGGAutoencoder(self, size, channels)


class VGGAutoencoder(nn.Module):
    """(B, 1, size, size) lightness -> (B, channels, size, size) in (-1, 1).

    The decoder is DCGAN's (Radford et al. 2016, figure 1) with VGG's widths in reverse: one
    transposed convolution from the latent vector to size / 32, then five that double the sides.
    """

    def __init__(self, config: VGGAutoencoderConfig, size: int, channels: int) -> None:
        super().__init__()
        self.encoder = VGGEncoder(
            config.encoder,
            1,
            width=config.width,
            normalization=config.normalization,
            pretrained=config.pretrained,
        )
        widths = self.encoder.widths
        side = size // 32
        self.to_latent = nn.Linear(widths[-1] * side**2, config.latent)
        bias = biased(config.normalization)
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(config.latent, widths[-1], side, bias=bias),
            normalization(config.normalization, widths[-1]),
            nn.ReLU(inplace=True),
        ]
        below = widths[-1]
        for width in reversed(widths):
            layers.append(nn.ConvTranspose2d(below, width, 4, stride=2, padding=1, bias=bias))
            layers += [normalization(config.normalization, width), nn.ReLU(inplace=True)]
            below = width
        self.decoder = nn.Sequential(*layers, nn.Conv2d(below, channels, 3, padding=1), nn.Tanh())

    def forward(self, lightness: Tensor) -> Tensor:
        """Answer with colors in (-1, 1) for (B, 1, size, size) lightness."""
        latent = self.to_latent(self.encoder(lightness)[-1].flatten(1))
        return self.decoder(latent[..., None, None])
