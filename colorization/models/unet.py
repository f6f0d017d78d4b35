"""A generator alone, trained on the mean absolute error of its colors (the U-Net family)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from colorization.config import Config
from colorization.models.colorizer import Colorizer, Progress, Turn
from colorization.models.generators import GeneratorConfig, ResNetUNetConfig
from colorization.models.output import OutputSpace, output_channels, target, to_ab
from colorization.models.sides import side_refusal

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


class UNetConfig(Config):
    """One player, the generator, that descends L1."""

    turn_kinds: ClassVar[tuple[str, ...]] = ("l1",)

    name: Literal["unet"] = "unet"
    generator: GeneratorConfig = Field(default=ResNetUNetConfig(), description="the network")
    output: OutputSpace = Field(default="ab", description="what the generator answers with")

    def refusal(self, size: int) -> str | None:
        """Say why pictures of this side cannot be trained on, if so."""
        kind = self.generator
        return side_refusal(f"generator {kind.name}", size, kind.smallest(), kind.multiple(size))

    def weights(self) -> "list[WeightsEnum]":
        """List the pretrained weights that the model starts from."""
        return [weights] if (weights := self.generator.weights()) else []

    def build(self, size: int) -> "UNet":
        """Build the model for training pictures of this side."""
        return UNet(self, size)


class UNet(Colorizer):
    """The U-Net family's model: see UNetConfig."""

    players = ("generator",)

    def __init__(self, config: UNetConfig, size: int) -> None:
        super().__init__()
        self.output: OutputSpace = config.output
        self.multiple = config.generator.multiple(size)
        self.fixed_size = config.generator.fixed_size
        self.generator = config.generator.build(size, output_channels(config.output))

    def turns(self, lab: Tensor, progress: Progress) -> Iterator[Turn]:
        """Yield the generator's move on scaled Lab (B, 3, H, W)."""
        answer = self.generator(lab[:, :1])
        l1 = F.l1_loss(answer.float(), target(lab, self.output))
        yield Turn("generator", l1, {"l1": l1})

    def colorize(
        self,
        lightness: Tensor,
        samples: int = 1,
        temperature: float | None = None,
        seed: int = 0,
    ) -> Tensor:
        """Give (B, 1, H, W) lightness its ab: (samples, B, 2, H, W), all alike."""
        del temperature, seed
        ab = to_ab(self.generator(lightness), self.output)
        return ab.expand(samples, *ab.shape)
