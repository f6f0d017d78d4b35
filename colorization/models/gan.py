"""The GAN family: a generator colors, a discriminator judges the picture with its lightness."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from colorization.config import Config
from colorization.distributed import current_ranks, mean_over_ranks
from colorization.losses import gradient_penalty
from colorization.models.adversarial import LSGAN, AdversarialLoss, Wasserstein
from colorization.models.augmentation import Augmentation, Augmenter
from colorization.models.colorizer import Colorizer, Progress, Turn, read_only
from colorization.models.discriminators import DiscriminatorConfig, PatchConfig
from colorization.models.generators import GeneratorConfig, ResNetUNetConfig
from colorization.models.output import OutputSpace, output_channels, target, to_ab
from colorization.models.sides import side_refusal

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


class GANConfig(Config):
    """Two players: the generator descends adversarial + lambda_l1 * L1 + lambda_mse * MSE.

    Turns: "l1" (the head start, the generator alone on L1) and "adversarial".
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
    lambda_mse: float = Field(
        default=0.0,
        ge=0,
        le=10000,
        description="weight of the squared error beside the adversarial loss",
    )
    generator_first: bool = Field(
        default=False, description="whether the generator moves before the discriminator"
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
        description="moves of the discriminator on the same pictures, for a move of the generator",
    )
    discriminator_every: int = Field(
        default=1, ge=1, le=20, description="the discriminator moves in every n-th step only"
    )
    generator_every: int = Field(
        default=1, ge=1, le=20, description="the generator moves in every n-th step only"
    )
    augmentation: Augmentation | None = Field(
        default=None, description="changes what the discriminator sees, for small sets"
    )
    output: OutputSpace = Field(default="ab", description="what the generator answers with")

    def model_post_init(self, context: object) -> None:
        """Refuse an augmentation that adapts to answers which have no threshold."""
        adapts = self.augmentation is not None and self.augmentation.name == "ada"
        if adapts and self.adversarial.threshold is None:
            raise ValueError(
                "augmentation ada adapts to how many real pictures the discriminator takes for "
                f"real; answers of {self.adversarial.name} have no threshold: take diffaugment, "
                "or bce, lsgan or hinge"
            )

    def refusal(self, size: int) -> str | None:
        """Say why pictures of this side cannot be trained on, if so."""
        generator, discriminator = self.generator, self.discriminator
        return side_refusal(
            f"discriminator {discriminator.name}",
            size,
            discriminator.smallest(),
            discriminator.multiple(),
        ) or side_refusal(
            f"generator {generator.name}", size, generator.smallest(), generator.multiple(size)
        )

    def weights(self) -> "list[WeightsEnum]":
        """List the pretrained weights that the model starts from."""
        return [weights] if (weights := self.generator.weights()) else []

    def build(self, size: int) -> "GAN":
        """Build the model for training pictures of this side."""
        return GAN(self, size)


class GAN(Colorizer):
    """The GAN family's model: see GANConfig."""

    players = ("generator", "discriminator")
    training_only = ("discriminator", "augmenter")

    def __init__(self, config: GANConfig, size: int) -> None:
        super().__init__()
        self.config = config
        self.multiple = config.generator.multiple(size)
        self.fixed_size = config.generator.fixed_size
        channels = output_channels(config.output)
        self.generator = config.generator.build(size, channels)
        self.discriminator = config.discriminator.build(size, 1 + channels)
        self.augmenter = config.augmentation.build() if config.augmentation else nn.Identity()

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
        rounds: list[Iterator[Turn]] = []
        if progress.step % self.config.discriminator_every == 0:
            rounds.append(self._discriminator_turns(lightness, real, fake.detach()))
        if generator_moves:
            rounds.insert(
                0 if self.config.generator_first else len(rounds),
                self._generator_turns(lightness, real, fake),
            )
        for turns in rounds:
            yield from turns

    def _discriminator_turns(self, lightness: Tensor, real: Tensor, fake: Tensor) -> Iterator[Turn]:
        real, fake = torch.cat([lightness, real], 1), torch.cat([lightness, fake.float()], 1)
        for _ in range(self.config.discriminator_steps):
            turn, answers_real = self._judge(self.augmenter(real), self.augmenter(fake))
            yield turn
            self._clip_weights()
            self._adapt(answers_real)

    def _judge(self, real: Tensor, fake: Tensor) -> tuple[Turn, Tensor]:
        loss_kind = self.config.adversarial
        answers_real = self.discriminator(real).float()
        answers_fake = self.discriminator(fake).float()
        loss = loss_kind.discriminator_loss(answers_real, answers_fake)
        terms = {"adversarial": loss, "real": answers_real.mean(), "fake": answers_fake.mean()}
        if isinstance(loss_kind, Wasserstein) and loss_kind.gradient_penalty > 0:
            with torch.autocast(real.device.type, enabled=False):
                penalty = gradient_penalty(self.discriminator, real, fake)
            loss = loss + loss_kind.gradient_penalty * penalty
            terms["gradient_penalty"] = penalty
        if isinstance(self.augmenter, Augmenter):
            terms["augmentation"] = self.augmenter.probability.clone()
        return Turn("discriminator", loss, terms), answers_real.detach()

    def _adapt(self, answers_real: Tensor) -> None:
        if isinstance(self.augmenter, Augmenter) and self.config.adversarial.threshold is not None:
            ranks = current_ranks(answers_real.device)
            share = mean_over_ranks(self.config.adversarial.looks_real(answers_real), ranks)
            self.augmenter.adapt(share, len(answers_real) * ranks.size)

    def _generator_turns(self, lightness: Tensor, real: Tensor, fake: Tensor) -> Iterator[Turn]:
        fake = fake.float()
        with read_only(self.discriminator):
            seen = self.augmenter(torch.cat([lightness, fake], 1))
            answers = self.discriminator(seen).float()
        adversarial = self.config.adversarial.generator_loss(answers)
        l1, mse = F.l1_loss(fake, real), F.mse_loss(fake, real)
        loss = adversarial + self.config.lambda_l1 * l1 + self.config.lambda_mse * mse
        yield Turn("generator", loss, {"adversarial": adversarial, "l1": l1, "mse": mse})

    @torch.no_grad()
    def _clip_weights(self) -> None:
        loss_kind = self.config.adversarial
        if isinstance(loss_kind, Wasserstein) and loss_kind.weight_clip > 0:
            for parameter in self.discriminator.parameters():
                parameter.clamp_(-loss_kind.weight_clip, loss_kind.weight_clip)

    def colorize(
        self,
        lightness: Tensor,
        samples: int = 1,
        temperature: float | None = None,
        seed: int = 0,
    ) -> Tensor:
        """Give (B, 1, H, W) lightness its ab: (samples, B, 2, H, W), all alike."""
        del temperature, seed
        ab = to_ab(self.generator(lightness), self.config.output)
        return ab.expand(samples, *ab.shape)
