"""A vision transformer whose patches are colored by a pixel shuffle (systems B3 and B4)."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field
from torch import Tensor, nn

from colorization.models.vit import ViTConfig, ViTTrunk

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

_PRETRAINED = {"patch": 16, "hidden": 768, "depth": 12, "heads": 12, "mlp": 3072}


class ViTGeneratorConfig(ViTConfig):
    """ViT-B/16 or smaller; three convolutions and a pixel shuffle color its patches.

    B3's and B4's trunk was pretrained on ImageNet-21k's masked pictures; torchvision's weights are
    another pretraining, classes of ImageNet-1k.
    """

    fixed_size: ClassVar[bool] = False

    pretrained: bool = Field(
        default=False, description="start the trunk from torchvision's ViT-B/16"
    )

    def model_post_init(self, context: object) -> None:
        """Refuse pretrained weights for other measures than theirs."""
        super().model_post_init(context)
        if self.pretrained and self.model_dump(include=set(_PRETRAINED)) != _PRETRAINED:
            measures = ", ".join(f"{key}: {value}" for key, value in _PRETRAINED.items())
            raise ValueError(f"the pretrained ViT-B/16 has {measures}")

    def multiple(self, size: int) -> int:
        """Return what picture sides must be multiples of: the patch."""
        return self.patch

    def weights(self) -> "WeightsEnum | None":
        """Name the pretrained weights this network starts from, if any."""
        if not self.pretrained:
            return None
        from torchvision.models import ViT_B_16_Weights

        return ViT_B_16_Weights.IMAGENET1K_V1

    def build(self, size: int, channels: int) -> "ViTGenerator":
        """Build the network for pictures of this side that answers with so many channels."""
        return ViTGenerator(self, size, channels)


class ViTGenerator(nn.Module):
    """(B, 1, H, W) lightness -> (B, channels, H, W) in (-1, 1); sides: multiples of the patch."""

    def __init__(self, config: ViTGeneratorConfig, size: int, channels: int) -> None:
        super().__init__()
        hidden = config.hidden
        self.trunk = ViTTrunk(config, size, 1, config.weights())
        self.head = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels * config.patch**2, 3, padding=1),
            nn.PixelShuffle(config.patch),
        )
        self.patch = config.patch

    def forward(self, lightness: Tensor) -> Tensor:
        """Answer with colors in (-1, 1) for (B, 1, H, W) lightness."""
        tokens = self.trunk(lightness)[:, 1:].transpose(1, 2)  # the class token is not colored
        rows = lightness.shape[-2] // self.patch
        return self.head(tokens.unflatten(2, (rows, -1))).tanh()
