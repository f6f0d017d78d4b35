"""The GAN family: a generator colors, a discriminator judges the picture with its lightness."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from colorization.config import Config
from colorization.losses import gradient_penalty
from colorization.models.adversarial import LSGAN, AdversarialLoss, Wasserstein
from colorization.models.colorizer import Colorizer, Progress, Turn, read_only
from colorization.models.discriminators import DiscriminatorConfig, PatchConfig
from colorization.models.generators import GeneratorConfig, ResNetUNetConfig
from colorization.models.output import OutputSpace, output_channels, target, to_ab
from colorization.models.unet import size_refusal

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


class GANConfig(Config):
    """Two players: the generator descends adversarial loss + lambda_l1 * L1, then is judged.

    Turns: "l1" (the head start, the generator alone on L1) and "adversarial" (the discriminator
    moves first).
    """

    turn_kinds: ClassVar[tuple[str, ...]] = ("l1", "adversarial")

    name: Literal["gan"] = "gan"
    generator: GeneratorConfig = Field(default=ResNetUNetConfig(), description="colors the picture")
    discriminator: DiscriminatorConfig = Field(
        default=PatchConfig(), description="judges the picture"
    )
    adversarial: AdversarialLoss = Field(
        default=LSGAN(), description="what the two players play for"
    )
    lambda_l1: float = Field(
        default=100.0, ge=0, le=10000, description="weight of L1 beside the adversarial loss"
    )
    learning_rate_ratio: float = Field(
        default=1.0,
        ge=0.01,
        le=100,
        description="learning rate of the discriminator / the generator's",
    )
    discriminator_steps: int = Field(
        default=1,
        ge=1,
        le=20,
        description="moves of the discriminator before each move of the generator",
    )
    discriminator_every: int = Field(
        default=1, ge=1, le=20, description="the discriminator moves in every n-th step only"
    )
    generator_every: int = Field(
        default=1, ge=1, le=20, description="the generator moves in every n-th step only"
    )
    output: OutputSpace = Field(default="ab", description="what the generator answers with")

    def refusal(self, size: int) -> str | None:
        """Say why pictures of this side cannot be trained on, if so."""
        smallest = self.discriminator.smallest()
        if size < smallest:
            return (
                f"data.size: found {size}; discriminator {self.discriminator.name} with "
                f"{self.discriminator.layers} layers needs {smallest} at least"
            )
        return size_refusal(self.generator, size)

    def weights(self) -> "list[WeightsEnum]":
        """List the pretrained weights that the model starts from."""
        return [weights] if (weights := self.generator.weights()) else []

    def build(self, size: int) -> "GAN":
        """Build the model for training pictures of this side."""
        return GAN(self, size)


class GAN(Colorizer):
    """The GAN family's model: see GANConfig."""

    players = ("generator", "discriminator")
    colorizing = ("generator",)

    def __init__(self, config: GANConfig, size: int) -> None:
        super().__init__()
        self.config = config
        self.multiple = config.generator.multiple(size)
        channels = output_channels(config.output)
        self.generator = config.generator.build(size, channels)
        self.discriminator = config.discriminator.build(1 + channels)

    def learning_rate_ratio(self, player: str) -> float:
        """Return the player's learning rate as a multiple of `train.learning_rate`."""
        return self.config.learning_rate_ratio if player == "discriminator" else 1.0

    def turns(self, lab: Tensor, progress: Progress) -> Iterator[Turn]:
        """Yield the moves of one step on scaled Lab (B, 3, H, W); one forward of the generator."""
        lightness, real = lab[:, :1], target(lab, self.config.output)
        if progress.turns == "l1":
            l1 = F.l1_loss(self.generator(lightness).float(), real)
            yield Turn("generator", l1, {"l1": l1})
            return
        generator_moves = progress.step % self.config.generator_every == 0
        with torch.set_grad_enabled(generator_moves):
            fake = self.generator(lightness)
        if progress.step % self.config.discriminator_every == 0:
            for _ in range(self.config.discriminator_steps):
                yield self._discriminator_turn(lightness, real, fake.detach())
                self._clip_weights()
        if generator_moves:
            yield self._generator_turn(lightness, real, fake)

    def _discriminator_turn(self, lightness: Tensor, real: Tensor, fake: Tensor) -> Turn:
        loss_kind = self.config.adversarial
        real, fake = torch.cat([lightness, real], 1), torch.cat([lightness, fake.float()], 1)
        answers_real = self.discriminator(real).float()
        answers_fake = self.discriminator(fake).float()
        loss = loss_kind.discriminator_loss(answers_real, answers_fake)
        terms = {"adversarial": loss, "real": answers_real.mean(), "fake": answers_fake.mean()}
        if isinstance(loss_kind, Wasserstein) and loss_kind.gradient_penalty > 0:
            with torch.autocast(real.device.type, enabled=False):
                penalty = gradient_penalty(self.discriminator, real, fake)
            loss = loss + loss_kind.gradient_penalty * penalty
            terms["gradient_penalty"] = penalty
        return Turn("discriminator", loss, terms)

    def _generator_turn(self, lightness: Tensor, real: Tensor, fake: Tensor) -> Turn:
        fake = fake.float()
        with read_only(self.discriminator):
            answers = self.discriminator(torch.cat([lightness, fake], 1)).float()
        adversarial = self.config.adversarial.generator_loss(answers)
        l1 = F.l1_loss(fake, real)
        loss = adversarial + self.config.lambda_l1 * l1
        return Turn("generator", loss, {"adversarial": adversarial, "l1": l1})

    @torch.no_grad()
    def _clip_weights(self) -> None:
        loss_kind = self.config.adversarial
        if isinstance(loss_kind, Wasserstein) and loss_kind.weight_clip > 0:
            for parameter in self.discriminator.parameters():
                parameter.clamp_(-loss_kind.weight_clip, loss_kind.weight_clip)

    def colorize(self, lightness: Tensor, samples: int = 1) -> Tensor:
        """Give (B, 1, H, W) lightness its ab: (samples, B, 2, H, W)."""
        ab = to_ab(self.generator(lightness), self.config.output)
        return ab.expand(samples, *ab.shape)
