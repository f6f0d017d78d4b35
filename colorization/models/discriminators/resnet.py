"""torchvision's ResNet-18 as a discriminator of whole pictures (system E1's alternative)."""

from functools import partial
from typing import Literal

from torch import Tensor, nn

from colorization.config import Config
from colorization.models.layers import Normalization, normalization


class ResNetDiscriminatorConfig(Config):
    """ResNet-18 with one class; starts from no weights."""

    name: Literal["resnet"] = "resnet"
    normalization: Normalization = "batch"

    def smallest(self) -> int:
        """Return the smallest picture side; norms over pixels need more than a last 1x1 pixel."""
        return 33 if self.normalization in ("batch", "instance") else 32

    def multiple(self) -> int:
        """Return what picture sides must be multiples of: any will do."""
        return 1

    def build(self, size: int, channels: int) -> "ResNetDiscriminator":
        """Build the network for pictures of this side and so many channels, lightness first."""
        del size
        return ResNetDiscriminator(self, channels)


class ResNetDiscriminator(nn.Module):
    """(B, channels, H, W) -> logits (B, 1, 1, 1), one a picture."""

    def __init__(self, config: ResNetDiscriminatorConfig, channels: int) -> None:
        super().__init__()
        from torchvision.models import resnet18

        norm = partial(normalization, config.normalization)
        self.network = resnet18(num_classes=1, norm_layer=norm)
        first = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
        self.network.conv1 = first

    def forward(self, pictures: Tensor) -> Tensor:
        """Answer with logits, high for real, one a picture."""
        return self.network(pictures).unflatten(1, (1, 1, 1))
