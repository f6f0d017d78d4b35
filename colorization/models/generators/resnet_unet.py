"""A U-Net whose encoder is a torchvision ResNet (systems B1 and D1)."""

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from colorization.config import Config
from colorization.models.layers import Normalization, PixelShuffleUp, normalization
from colorization.models.pretrained import load_pretrained, one_channel

# torchvision is slow to import and is not needed to find that a setting is wrong.
if TYPE_CHECKING:
    from torchvision.models import WeightsEnum
    from torchvision.models.resnet import ResNet

_WEIGHTS = {
    "resnet18": "ResNet18_Weights.IMAGENET1K_V1",
    "resnet34": "ResNet34_Weights.IMAGENET1K_V1",
    "resnet50": "ResNet50_Weights.IMAGENET1K_V1",
}


class ResNetUNetConfig(Config):
    """ResNet encoder, pixel-shuffle decoder with ICNR start and skips at every scale."""

    fixed_size: ClassVar[bool] = False

    name: Literal["resnet_unet"] = "resnet_unet"
    encoder: Literal["resnet18", "resnet34", "resnet50"] = "resnet18"
    pretrained: bool = Field(
        default=False, description="start the encoder from torchvision's weights"
    )
    width: int = Field(default=64, ge=4, le=256, description="channels of the decoder at half size")
    blur: bool = Field(default=True, description="average 2x2 pixels after each pixel shuffle")
    normalization: Normalization = "batch"

    def model_post_init(self, context: object) -> None:
        """Refuse pretrained weights where the norm they were trained with is missing."""
        if self.pretrained and self.normalization != "batch":
            raise ValueError("pretrained ResNets were trained with normalization: batch")

    def multiple(self, size: int) -> int:
        """Return what picture sides must be multiples of."""
        return 32

    def smallest(self) -> int:
        """Return the smallest picture side; instance norm needs more than the last 1x1 pixel."""
        return 64 if self.normalization == "instance" else 32

    def weights(self) -> "WeightsEnum | None":
        """Name the pretrained weights this network starts from, if any."""
        if not self.pretrained:
            return None
        from torchvision.models import get_weight

        return get_weight(_WEIGHTS[self.encoder])

    def build(self, size: int, channels: int) -> "ResNetUNet":
        """Build the network for pictures of this side that answers with so many channels."""
        return ResNetUNet(self, channels)


class ResNetUNet(nn.Module):
    """(B, 1, H, W) lightness -> (B, channels, H, W) in (-1, 1); sides are multiples of 32."""

    def __init__(self, config: ResNetUNetConfig, channels: int) -> None:
        super().__init__()
        norm = partial(normalization, config.normalization)
        self.encoder = _encoder(config)
        depths = _channels(config)
        width = config.width
        widths = [4 * width, 4 * width, 2 * width, width]  # decoder at 1/16, 1/8, 1/4, 1/2
        self.middle = _double_convolution(depths[-1], depths[-1], norm)
        self.ups = nn.ModuleList()
        self.blocks = nn.ModuleList()
        below = depths[-1]
        for skip, wide in zip(reversed(depths[:-1]), widths, strict=True):
            self.ups.append(PixelShuffleUp(below, below // 2, blur=config.blur))
            self.blocks.append(_double_convolution(below // 2 + skip, wide, norm))
            below = wide
        self.full = PixelShuffleUp(below, width, blur=config.blur)
        self.last = nn.Sequential(
            nn.Conv2d(width + 1, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, channels, 1),
        )

    def forward(self, lightness: Tensor) -> Tensor:
        """Answer with colors in (-1, 1) for (B, 1, H, W) lightness."""
        encoder = self.encoder
        skips = [encoder.relu(encoder.bn1(encoder.conv1(lightness)))]
        features = encoder.maxpool(skips[0])
        for layer in (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4):
            features = layer(features)
            skips.append(features)
        features = self.middle(skips.pop())
        for up, block, skip in zip(self.ups, self.blocks, reversed(skips), strict=True):
            features = block(torch.cat([up(features), skip], dim=1))
        return self.last(torch.cat([self.full(features), lightness], dim=1)).tanh()


def _encoder(config: ResNetUNetConfig) -> "ResNet":
    from torchvision.models import get_model
    from torchvision.models.resnet import ResNet

    norm = partial(normalization, config.normalization)
    encoder = get_model(config.encoder, weights=None, norm_layer=norm)
    assert isinstance(encoder, ResNet)
    weights = config.weights()
    if weights is not None:
        encoder.load_state_dict(load_pretrained(weights))
    first = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    first.weight.data = one_channel(encoder.conv1.weight.data)
    encoder.conv1 = first
    del encoder.fc  # no class scores: no idle parameters
    return encoder


def _channels(config: ResNetUNetConfig) -> list[int]:
    """List the channels of the encoder's features at 1/2, 1/4, 1/8, 1/16 and 1/32."""
    growth = 4 if config.encoder == "resnet50" else 1
    return [64, *(growth * channels for channels in (64, 128, 256, 512))]


def _double_convolution(channels: int, out_channels: int, norm: partial[nn.Module]) -> nn.Module:
    layers: list[nn.Module] = []
    for size in (channels, out_channels):
        layers.append(nn.Conv2d(size, out_channels, 3, padding=1, bias=False))
        layers += [norm(out_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
