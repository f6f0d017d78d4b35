"""The cVAE whose features are a U-Net's, trained by itself first (system A2)."""

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from colorization.config import Config
from colorization.models.cvae.mirrored_decoder import MirroredDecoder
from colorization.models.cvae.network import CVAENetwork, Fusion, Width
from colorization.models.cvae.posterior import ColorEncoder, Posterior
from colorization.models.layers import Normalization
from colorization.models.vgg import VGGEncoder, pretrained_refusal, vgg_weights

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


class UNetConfig(Config):
    """U-Net on VGG-19's plan; the latent joins its innermost features.

    Turns: "unet" trains the U-Net alone, without a latent, and "vae" the whole. The published
    description names no normalization; 32 layers without one hardly begin to learn, hence batch.
    """

    turn_kinds: ClassVar[tuple[str, ...]] = ("unet", "vae")
    fixed_size: ClassVar[bool] = False

    name: Literal["unet"] = "unet"
    fusion: Fusion = "add"
    width: Width = 64
    normalization: Normalization = "batch"
    pretrained: bool = Field(
        default=False, description="start the encoder from torchvision's weights"
    )
    gray_weight: float = Field(
        default=1.0,
        ge=0,
        le=100,
        description="weight of the grays' squared error beside the colors' in the turns unet",
    )

    def model_post_init(self, context: object) -> None:
        """Refuse pretrained weights for a network that they do not fit."""
        if self.pretrained and (refusal := pretrained_refusal(self.width, self.normalization)):
            raise ValueError(refusal)

    def weights(self) -> "WeightsEnum | None":
        """Name the pretrained weights this network starts from, if any."""
        return vgg_weights("vgg19", self.normalization) if self.pretrained else None

    def build(self, size: int) -> "UNetNetwork":
        """Build the network for training pictures of this side, a multiple of 32."""
        return UNetNetwork(self, size)


class UNetNetwork(CVAENetwork):
    """(B, 1, H, W) lightness and a latent -> RGB; sides are multiples of 32.

    The posterior alone is bound to the training size.
    """

    def __init__(self, config: UNetConfig, size: int) -> None:
        super().__init__()
        self.encoder = VGGEncoder(
            "vgg19",
            1,
            width=config.width,
            normalization=config.normalization,
            pretrained=config.pretrained,
        )
        self.decoder = MirroredDecoder(self.encoder.widths, config.normalization)
        channels = self.encoder.widths[-1]
        self.posterior = ColorEncoder(size, channels * (size // 32) ** 2, config.width // 4)
        self.fusion = _concatenation(channels) if config.fusion == "concatenate" else None

    def encode(self, lightness: Tensor) -> list[Tensor]:
        """Return the skipped features, then the innermost."""
        return self.encoder(lightness)

    def decode(self, features: list[Tensor], latent: Tensor) -> Tensor:
        """Return RGB (B, 3, H, W) in [0, 1] of features and a latent."""
        *skipped, innermost = features
        latent = latent.view_as(innermost)
        if self.fusion is None:
            fused = innermost + latent
        else:
            fused = self.fusion(torch.cat([innermost, latent], 1))
        return self.decoder([*skipped, fused])

    def forward(
        self, lightness: Tensor, rgb: Tensor | None = None
    ) -> tuple[Tensor, Posterior | None]:
        """Reconstruct pictures; without `rgb` as the U-Net that has no latent."""
        if rgb is None:
            return self.decoder(self.encode(lightness)), None
        return super().forward(lightness, rgb)


def _concatenation(channels: int) -> nn.Conv2d:
    """Return the 1x1 convolution that takes features and latent back to the features' channels.

    It starts as addition, so that a decoder trained without a latent knows what it is shown.
    """
    convolution = nn.Conv2d(2 * channels, channels, 1)
    with torch.no_grad():
        identity = torch.eye(channels)[..., None, None]
        convolution.weight.copy_(torch.cat([identity, identity], 1))
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution
