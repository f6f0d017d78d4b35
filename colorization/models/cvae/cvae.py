"""The conditional VAE family: colors from features of the lightness and a latent."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from colorization.config import Config
from colorization.models.colorizer import Colorizer, Progress, Turn, noise
from colorization.models.cvae.kl_schedules import ConstantWeight, KLSchedule
from colorization.models.cvae.naive import NaiveConfig
from colorization.models.cvae.network import latent_size
from colorization.models.cvae.unet import UNetConfig
from colorization.models.output import target, to_ab
from colorization.models.sides import side_refusal

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

NetworkConfig = Annotated[NaiveConfig | UNetConfig, Field(discriminator="name")]

_SIDE = 32  # VGG-19 and the color encoder halve the sides five times
_ACTIVE = 0.01  # variance of a posterior mean from which a dimension is in use (Burda et al. 2016)


class CVAEConfig(Config):
    """One player, the network, that descends reconstruction error + kl_weight * KL divergence.

    The error is the squared one of RGB in [0, 1], averaged over elements; the divergence is summed
    over the latent's dimensions and averaged over the batch. Turns: "vae" and, where the network
    has them, "unet" (features and decoder alone, without a latent).
    """

    name: Literal["cvae"] = "cvae"
    network: NetworkConfig = Field(default=NaiveConfig(), description="features and decoder")
    kl_weight: float = Field(
        default=9.6e-3,
        ge=0,
        le=10000,
        description="weight of the KL divergence: too large, no picture forms; too small, all "
        "samples are alike",
    )
    kl_schedule: KLSchedule = Field(
        default=ConstantWeight(), description="of the KL divergence's weight, over each stage"
    )
    temperature: float = Field(
        default=1.0, ge=0, le=2, description="deviation of the latents drawn to colorize"
    )

    @property
    def turn_kinds(self) -> tuple[str, ...]:
        """Name the turns that a stage may play."""
        return self.network.turn_kinds

    def refusal(self, size: int) -> str | None:
        """Say why pictures of this side cannot be trained on, if so."""
        return side_refusal(f"network {self.network.name}", size, _SIDE, _SIDE)

    def weights(self) -> "list[WeightsEnum]":
        """List the pretrained weights that the model starts from."""
        return [weights] if (weights := self.network.weights()) else []

    def build(self, size: int) -> "CVAE":
        """Build the model for training pictures of this side."""
        return CVAE(self, size)


class CVAE(Colorizer):
    """The cVAE family's model: see CVAEConfig."""

    players = ("network",)
    training_only = ("network.posterior",)
    multiple = _SIDE
    stochastic = True

    def __init__(self, config: CVAEConfig, size: int) -> None:
        super().__init__()
        self.config = config
        self._size = size
        self.fixed_size = config.network.fixed_size
        self.network = config.network.build(size)

    def idle(self, turns: str) -> tuple[str, ...]:
        """Name what has to do with the latent, in turns that have none."""
        if turns != "unet":
            return ()
        parts = [name for name, _ in self.network.named_children()]
        return tuple(f"network.{part}" for part in parts if part in ("posterior", "fusion"))

    def turns(self, lab: Tensor, progress: Progress) -> Iterator[Turn]:
        """Yield the network's move on scaled Lab (B, 3, H, W)."""
        network, rgb = self.config.network, target(lab, "rgb")
        truth = (rgb + 1) / 2
        if isinstance(network, UNetConfig) and progress.turns == "unet":
            answer, _ = self.network(lab[:, :1])
            error, gray = F.mse_loss(answer, truth), F.mse_loss(_gray(answer), _gray(truth))
            loss = error + network.gray_weight * gray
            yield Turn("network", loss, {"reconstruction": error, "gray": gray})
            return
        answer, posterior = self.network(lab[:, :1], rgb)
        error, kl = F.mse_loss(answer, truth), posterior.divergence().mean()
        growth = self.config.kl_schedule.factor(progress.step, progress.steps)
        weight = self.config.kl_weight * growth
        yield Turn(
            "network",
            error + weight * kl,
            {
                "reconstruction": error,
                "kl": kl,
                "kl_per_dimension": kl / posterior.mean.shape[1],
                "kl_weight": kl.new_tensor(weight),
            },
        )

    def colorize(
        self,
        lightness: Tensor,
        samples: int = 1,
        temperature: float | None = None,
        seed: int = 0,
    ) -> Tensor:
        """Give (B, 1, H, W) lightness its ab: (samples, B, 2, H, W), one latent a sample."""
        if temperature is None:
            temperature = self.config.temperature
        features = self.network.encode(lightness)
        latents = temperature * noise(samples, latent_size(features), lightness.device, seed)
        return torch.stack([self._decode(features, z) for z in latents])

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of the features that the latent joins."""
        parameter = next(self.parameters())
        return tuple(self.network.encode(parameter.new_zeros(1, 1, height, width))[-1].shape[1:])

    def color_from(self, lightness: Tensor, latent: Tensor) -> Tensor:
        """Give (B, 1, H, W) lightness the ab (B, 2, H, W) of one latent."""
        return self._decode(self.network.encode(lightness), latent.flatten())

    def _decode(self, features: list[Tensor], z: Tensor) -> Tensor:
        # Not len(): a graph that is exported would have that number for good.
        rgb = self.network.decode(features, z.expand(features[-1].shape[0], -1))
        return to_ab(2 * rgb - 1, "rgb")

    def measure(self, lab: Tensor) -> dict[str, Tensor]:
        """Return the divergence and the posterior means of scaled Lab pictures (B, 3, H, W).

        Nothing where the posterior was taken out, since only training needs it, and of pictures of
        another size than the training's, which alone it takes.
        """
        if not hasattr(self.network, "posterior") or lab.shape[-1] != self._size:
            return {}
        posterior = self.network.posterior(target(lab, "rgb"))
        mean = posterior.mean.double()
        return {"kl": posterior.divergence(), "mean": mean, "squared_mean": mean.square()}

    def summarize(self, means: dict[str, Tensor]) -> dict[str, float]:
        """Return `kl`, `kl_per_dimension` and `active_units`.

        The units are the dimensions whose posterior mean varies by more than 0.01 over the pictures
        (Burda et al. 2016, section 5.2).
        """
        if not means:
            return {}
        variance = means["squared_mean"] - means["mean"].square()
        kl = means["kl"].item()
        return {
            "kl": kl,
            "kl_per_dimension": kl / variance.numel(),
            "active_units": (variance > _ACTIVE).sum().item(),
        }


def _gray(rgb: Tensor) -> Tensor:
    """Return the luma (B, H, W) of RGB (ITU-R BT.601)."""
    red, green, blue = rgb.unbind(1)
    return 0.299 * red + 0.587 * green + 0.114 * blue
