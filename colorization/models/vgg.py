"""VGG's convolutional features: an encoder that several families share."""

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from colorization.models.layers import Normalization, biased, normalization
from colorization.models.pretrained import load_pretrained, one_channel

# torchvision is slow to import and is not needed to find that a setting is wrong.
if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

VGGKind = Literal["vgg16", "vgg19"]

PRETRAINED_WIDTH = 64  # of the first block, as published

_CONVOLUTIONS: dict[VGGKind, tuple[int, ...]] = {
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
_GROWTH = (1, 2, 4, 8, 8)


class VGGEncoder(nn.Module):
    """Features of VGG-16 or -19: five blocks of 3x3 convolutions, each closed by max-pooling.

    (B, channels, H, W) -> six tensors: each block's output before its pooling, `widths` channels at
    1, 1/2, 1/4, 1/8 and 1/16 of the sides, then the last one pooled, at 1/32. Simonyan and
    Zisserman 2015, configurations D and E.

    `pretrained` takes torchvision's weights, which have width 64 and normalization "none" or
    "batch"; a picture in one channel is seen as its repetition in three was. Raises ConfigError
    where they are not to be had.
    """

    def __init__(
        self,
        kind: VGGKind,
        channels: int,
        *,
        width: int = PRETRAINED_WIDTH,
        normalization: Normalization = "none",
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.widths = [width * growth for growth in _GROWTH]
        self.blocks = nn.ModuleList(
            _block(below, wide, convolutions, normalization)
            for (below, wide), convolutions in zip(
                pairwise([channels, *self.widths]), _CONVOLUTIONS[kind], strict=True
            )
        )
        if pretrained:
            self._load(load_pretrained(vgg_weights(kind, normalization)), channels)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return the features at 1, 1/2, 1/4, 1/8, 1/16 and 1/32 of the sides."""
        features: list[Tensor] = []
        entering = pictures
        for block in self.blocks:
            features.append(block(entering))
            entering = F.max_pool2d(features[-1], 2)
        return [*features, entering]

    def _load(self, theirs: dict[str, Tensor], channels: int) -> None:
        """Take over torchvision's `features`: the same layers, with the poolings counted in."""
        mine: dict[str, Tensor] = {}
        start = 0
        for number, block in enumerate(self.blocks):
            assert isinstance(block, nn.Sequential)
            for position, layer in enumerate(block):
                source = f"features.{start + position}"
                for name in layer.state_dict():
                    mine[f"blocks.{number}.{position}.{name}"] = theirs[f"{source}.{name}"]
                if isinstance(layer, nn.BatchNorm2d):  # ours has no bias before it
                    bias = theirs[f"features.{start + position - 1}.bias"]
                    mine[f"blocks.{number}.{position}.running_mean"] = (
                        theirs[f"{source}.running_mean"] - bias
                    )
            start += len(block) + 1
        if channels == 1:
            mine["blocks.0.0.weight"] = one_channel(mine["blocks.0.0.weight"])
        self.load_state_dict(mine)


def vgg_weights(kind: VGGKind, normalization: Normalization) -> "WeightsEnum":
    """Name torchvision's weights; those of normalization "batch" are others than "none"'s."""
    from torchvision.models import get_weight

    norm = "_BN" if normalization == "batch" else ""
    return get_weight(f"{kind.upper()}{norm}_Weights.IMAGENET1K_V1")


def pretrained_refusal(width: int, normalization: Normalization) -> str | None:
    """Say why torchvision's weights do not fit an encoder of this width and norm, if so."""
    if width != PRETRAINED_WIDTH:
        return f"found width {width}; pretrained VGG has width {PRETRAINED_WIDTH}"
    if normalization not in ("none", "batch"):
        return f"found normalization {normalization}; pretrained VGG has none or batch"
    return None


def _block(below: int, width: int, convolutions: int, kind: Normalization) -> nn.Sequential:
    layers: list[nn.Module] = []
    for entering in (below, *[width] * (convolutions - 1)):
        convolution = nn.Conv2d(entering, width, 3, padding=1, bias=biased(kind))
        # As torchvision starts it: without a norm smaller weights would fade out over 16 layers.
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
        layers.append(convolution)
        if kind != "none":
            layers.append(normalization(kind, width))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
