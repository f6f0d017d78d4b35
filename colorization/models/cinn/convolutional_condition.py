"""A condition network of stride-2 convolutions (system A3)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from colorization.config import Config

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


class ConvolutionalConditionConfig(Config):
    """3x3 stride-2 convolutions, each with batch norm and leaky ReLU."""

    name: Literal["convolutional"] = "convolutional"
    widths: tuple[Annotated[int, Field(ge=1, le=2048)], ...] = Field(
        default=(64, 128, 128),
        min_length=1,
        description="channels at the flow's levels in turn; the last holds for all further levels",
    )
    vector: int = Field(default=512, ge=2, le=4096, description="size of the last condition")

    def refusal(self, levels: int) -> str | None:
        """Say why a flow of so many levels cannot be conditioned, if so."""
        if len(self.widths) <= levels:
            return None
        return f"condition.widths: found {len(self.widths)} of them; the flow has {levels} levels"

    def weights(self) -> "WeightsEnum | None":
        """Name the pretrained weights this network starts from: none."""
        return None

    def build(self, channels: int, size: int, factors: Sequence[int]) -> "ConvolutionalCondition":
        """Build the network for pictures of so many channels; `factors` divide their sides."""
        del size
        return ConvolutionalCondition(self, channels, factors)


class ConvolutionalCondition(nn.Module):
    """(B, channels, H, W) -> a map for each level of the flow, then a vector (B, vector)."""

    def __init__(
        self, config: ConvolutionalConditionConfig, channels: int, factors: Sequence[int]
    ) -> None:
        super().__init__()
        further = len(factors) - len(config.widths)
        self.channels = [*config.widths, *(config.widths[-1] for _ in range(further))]
        self.levels = nn.ModuleList()
        below, done = channels, 1
        for width, factor in zip(self.channels, factors, strict=True):
            halvings = (factor // done).bit_length() - 1
            # On the way to the first level the channels double up to its width.
            inner = [max(1, width >> left) for left in reversed(range(halvings))]
            layers = [_halve(*pair) for pair in zip([below, *inner], inner, strict=False)]
            self.levels.append(nn.Sequential(*layers))
            below, done = width, factor
        self.last = nn.Sequential(
            _halve(below, 2 * below),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * below, config.vector),
        )

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return the conditions, the largest map first."""
        conditions: list[Tensor] = []
        for level in self.levels:
            pictures = level(pictures)
            conditions.append(pictures)
        return [*conditions, self.last(pictures)]


def _halve(channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(0.2),
    )
