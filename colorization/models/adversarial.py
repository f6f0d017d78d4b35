"""The adversarial losses a GAN may be trained with, each with its own settings."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from colorization import losses
from colorization.config import Config

Smoothing = Annotated[float, Field(ge=0, lt=0.5, description="real labels are 1 - this")]


class Judgement(Config):
    """What the losses share: the answer above which a picture is taken for a real one."""

    threshold: ClassVar[float | None]  # None: answers are scores without a zero

    def looks_real(self, answers: Tensor) -> Tensor:
        """Return the mean of 1 for each answer that says real and -1 for each that says fake.

        Raises ValueError for a loss without a threshold. r_t of Karras et al. 2020, equation 1,
        where the answers are those to real pictures.
        """
        if self.threshold is None:
            raise ValueError(f"{type(self).__name__} has no answer that parts real from fake")
        return (answers - self.threshold).sign().mean()


class BCE(Judgement):
    """Cross entropy on logits (Goodfellow et al. 2014)."""

    threshold: ClassVar[float | None] = 0.0

    name: Literal["bce"] = "bce"
    label_smoothing: Smoothing = 0.0
    label_noise: float = Field(
        default=0.0,
        ge=0,
        lt=0.5,
        description="labels are drawn once a batch (on each rank): real ones from [1 - this, 1], "
        "fake ones from [0, this]",
    )

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss of its answers to real and fake pictures."""
        return losses.bce_discriminator(real, fake, self.label_smoothing, self.label_noise)

    def generator_loss(self, fake: Tensor) -> Tensor:
        """Return the generator's loss of the answers to its pictures."""
        return losses.bce_generator(fake)


class LSGAN(Judgement):
    """Least squares (Mao et al. 2017)."""

    threshold: ClassVar[float | None] = 0.5

    name: Literal["lsgan"] = "lsgan"
    label_smoothing: Smoothing = 0.0

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss of its answers to real and fake pictures."""
        return losses.lsgan_discriminator(real, fake, self.label_smoothing)

    def generator_loss(self, fake: Tensor) -> Tensor:
        """Return the generator's loss of the answers to its pictures."""
        return losses.lsgan_generator(fake)


class Hinge(Judgement):
    """Hinge (Lim and Ye 2017); a margin below 1 is its form of label smoothing."""

    threshold: ClassVar[float | None] = 0.0

    name: Literal["hinge"] = "hinge"
    margin: float = Field(default=1.0, gt=0, le=1, description="how far answers are pushed apart")

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss of its answers to real and fake pictures."""
        return losses.hinge_discriminator(real, fake, self.margin)

    def generator_loss(self, fake: Tensor) -> Tensor:
        """Return the generator's loss of the answers to its pictures."""
        return losses.raise_score(fake)


class Wasserstein(Judgement):
    """Wasserstein critic, kept Lipschitz by a gradient penalty or by clipped weights."""

    threshold: ClassVar[float | None] = None

    name: Literal["wasserstein"] = "wasserstein"
    gradient_penalty: float = Field(
        default=10.0,
        ge=0,
        le=1000,
        description="weight of the penalty (Gulrajani et al. 2017); 0: none",
    )
    weight_clip: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="bound of the critic's weights (Arjovsky et al. 2017); 0: none",
    )

    def model_post_init(self, context: object) -> None:
        """Refuse a critic that nothing, or that both ways, keep Lipschitz."""
        if (self.gradient_penalty > 0) == (self.weight_clip > 0):
            raise ValueError(
                "wasserstein needs one of gradient_penalty and weight_clip above 0, found "
                f"gradient_penalty={self.gradient_penalty:g} and weight_clip={self.weight_clip:g}"
            )

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the critic's loss of its answers to real and fake pictures, without penalty."""
        return losses.wasserstein_discriminator(real, fake)

    def generator_loss(self, fake: Tensor) -> Tensor:
        """Return the generator's loss of the answers to its pictures."""
        return losses.raise_score(fake)


AdversarialLoss = Annotated[BCE | LSGAN | Hinge | Wasserstein, Field(discriminator="name")]
