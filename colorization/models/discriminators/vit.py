"""A vision transformer that judges whole pictures (system B2)."""

from torch import Tensor, nn

from colorization.models.vit import ViTConfig, ViTTrunk


class ViTDiscriminatorConfig(ViTConfig):
    """A linear layer turns the class token into one answer a picture; starts from no weights."""

    def multiple(self) -> int:
        """Return what picture sides must be multiples of: the patch."""
        return self.patch

    def build(self, size: int, channels: int) -> "ViTDiscriminator":
        """Build the network for pictures of this side and so many channels, lightness first."""
        return ViTDiscriminator(self, size, channels)


class ViTDiscriminator(nn.Module):
    """(B, channels, H, W) -> logits (B, 1, 1, 1), one a picture; sides: multiples of the patch."""

    def __init__(self, config: ViTDiscriminatorConfig, size: int, channels: int) -> None:
        super().__init__()
        self.trunk = ViTTrunk(config, size, channels)
        self.head = nn.Linear(config.hidden, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Answer with logits, high for real, one a picture."""
        return self.head(self.trunk(pictures)[:, 0]).unflatten(1, (1, 1, 1))
