"""The cVAE whose decoder sees features of the lightness only where the latent joins (system A1)."""

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from colorization.config import Config
from colorization.models.cvae.network import CVAENetwork, Fusion, Width
from colorization.models.cvae.posterior import ColorEncoder
from colorization.models.vgg import VGGEncoder, pretrained_refusal, vgg_weights

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


class NaiveConfig(Config):
    """VGG-19's last features and the latent, through a linear layer and three transposed ones.

    At 128 pixels features and latent have 8,192 dimensions; both grow with the picture's area, and
    the linear layers with its square.
    """

    turn_kinds: ClassVar[tuple[str, ...]] = ("vae",)
    fixed_size: ClassVar[bool] = True

    name: Literal["naive"] = "naive"
    fusion: Fusion = "add"
    width: Width = 64
    pretrained: bool = Field(default=False, description="start VGG-19 from torchvision's weights")

    def model_post_init(self, context: object) -> None:
        """Refuse pretrained weights for a network of another width."""
        if self.pretrained and (refusal := pretrained_refusal(self.width, "none")):
            raise ValueError(refusal)

    def weights(self) -> "WeightsEnum | None":
        """Name the pretrained weights this network starts from, if any."""
        return vgg_weights("vgg19", "none") if self.pretrained else None

    def build(self, size: int) -> "NaiveNetwork":
        """Build the network for pictures of this side, a multiple of 32."""
        return NaiveNetwork(self, size)


class NaiveNetwork(CVAENetwork):
    """(B, 1, size, size) lightness and a latent -> RGB."""

    def __init__(self, config: NaiveConfig, size: int) -> None:
        super().__init__()
        width = config.width
        latent = 8 * width * (size // 32) ** 2
        self.concatenates = config.fusion == "concatenate"
        self.features = VGGEncoder("vgg19", 1, width=width, pretrained=config.pretrained)
        self.posterior = ColorEncoder(size, latent, width // 4)
        self.start = (2 * width, size // 8, size // 8)  # what the transposed convolutions see
        fused = latent * (2 if self.concatenates else 1)
        self.linear = nn.Linear(fused, 2 * width * (size // 8) ** 2)
        self.decoder = nn.Sequential(
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(width // 2, 3, 4, stride=2, padding=1),
        )

    def encode(self, lightness: Tensor) -> list[Tensor]:
        """Return VGG-19's features after its last pooling."""
        return self.features(lightness)[-1:]

    def decode(self, features: list[Tensor], latent: Tensor) -> Tensor:
        """Return RGB (B, 3, size, size) in [0, 1] of features and a latent."""
        flat = features[-1].flatten(1)
        fused = torch.cat([flat, latent], 1) if self.concatenates else flat + latent
        return self.decoder(self.linear(fused).unflatten(1, self.start)).float().sigmoid()
