"""The cINN family: a flow makes colors of noise, given the lightness (Ardizzone et al. 2019)."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from colorization.config import Config
from colorization.models.cinn.condition import ConditionConfig
from colorization.models.cinn.convolutional_condition import ConvolutionalConditionConfig
from colorization.models.cinn.flow import Flow, FullyConnectedConfig, LevelConfig, check_levels
from colorization.models.cinn.likelihood import bits_per_dimension, negative_log_likelihood
from colorization.models.cinn.partly_colored import color_boxes
from colorization.models.colorizer import Colorizer, Progress, Turn, noise
from colorization.models.sides import side_refusal
from colorization.upsampling import joint_bilateral

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


class CINNConfig(Config):
    """One player, a flow with its condition network, that descends the colors' likelihood.

    The flow works on ab of `data.size / reduction`. Turns: "likelihood".
    """

    turn_kinds: ClassVar[tuple[str, ...]] = ("likelihood",)

    name: Literal["cinn"] = "cinn"
    condition: ConditionConfig = Field(
        default=ConvolutionalConditionConfig(), description="what tells the flow of the picture"
    )
    condition_on: Literal["lightness", "lab"] = Field(
        default="lightness",
        description="lab: colors that parts of the picture have already are seen too",
    )
    reduction: Literal[2, 4, 8] = Field(
        default=4, description="side of the picture / side of the colors that the flow makes"
    )
    flow: tuple[LevelConfig, ...] = Field(
        default=(
            LevelConfig(couplings=4, hidden=32),
            LevelConfig(couplings=6, hidden=64, kernels=(1, 3), keep=2),
            LevelConfig(couplings=6, hidden=128, kernels=(1, 3), clamp=0.6, keep=4),
        ),
        min_length=1,
        max_length=8,
        description="levels, each of half the last one's side",
    )
    fully_connected: FullyConnectedConfig = Field(
        default=FullyConnectedConfig(), description="couplings on what the levels leave"
    )
    init_scale: float = Field(
        default=0.02, gt=0, le=1, description="deviation of the couplings' weights at the start"
    )
    noise: float = Field(
        default=0.005,
        ge=0,
        le=1,
        description="deviation of noise on the standardized colors in training",
    )
    temperature: float = Field(
        default=1.0, ge=0, le=2, description="deviation of the latents that colors are made of"
    )

    def model_post_init(self, context: object) -> None:
        """Refuse levels that keep more than they have, and conditions that do not fit them."""
        check_levels(self.flow)
        if refusal := self.condition.refusal(len(self.flow)):
            raise ValueError(refusal)

    def refusal(self, size: int) -> str | None:
        """Say why pictures of this side cannot be trained on, if so."""
        multiple = self._factors()[-1]
        network = f"a flow of {len(self.flow)} levels with reduction {self.reduction}"
        return side_refusal(network, size, multiple, multiple)

    def weights(self) -> "list[WeightsEnum]":
        """List the pretrained weights that the model starts from."""
        return [weights] if (weights := self.condition.weights()) else []

    def build(self, size: int) -> "CINN":
        """Build the model for training pictures of this side."""
        return CINN(self, size, self._factors())

    def _factors(self) -> list[int]:
        """List the side of the picture / the side of each level of the flow."""
        return [self.reduction * 2**level for level in range(len(self.flow))]


class ConditionalFlow(nn.Module):
    """The condition network and the flow; the player."""

    def __init__(self, config: CINNConfig, size: int, factors: Sequence[int]) -> None:
        super().__init__()
        channels = 1 if config.condition_on == "lightness" else 3
        self.condition = config.condition.build(channels, size, factors)
        self.flow = Flow(
            config.flow,
            config.fully_connected,
            side=size // config.reduction,
            conditions=self.condition.channels,
            vector=config.condition.vector,
            init_scale=config.init_scale,
        )

    def forward(self, colors: Tensor, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Return the latents (B, dimensions) of colors, given a picture, and log|det J| (B,)."""
        return self.flow(colors, self.condition(picture))


class CINN(Colorizer):
    """The cINN family's model: see CINNConfig."""

    players = ("network",)
    fixed_size = True
    stochastic = True
    encodes = True
    standardizes = True
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: CINNConfig, size: int, factors: Sequence[int]) -> None:
        super().__init__()
        self.config = config
        self.multiple = size
        self.sees_colors = config.condition_on == "lab"
        self.network = ConditionalFlow(config, size, factors)
        # Until `standardize` is called, colors are what they are: ab / 110.
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("deviation", torch.ones(2))

    def standardize(self, mean: Tensor, deviation: Tensor) -> None:
        """Take in the mean and standard deviation (2,) of the training set's scaled ab."""
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    def turns(self, lab: Tensor, progress: Progress) -> Iterator[Turn]:
        """Yield the network's move on scaled Lab (B, 3, H, W).

        A model that sees colors is shown those of channels 4 and 5 where there are any, else the
        pictures' own in random boxes.
        """
        del progress
        colored = self._colored(lab)
        if self.sees_colors and colored is None:
            colored = color_boxes(lab[:, 1:])
        z, log_det = self.encode(lab, colored, self.config.noise)
        nll = negative_log_likelihood(z, log_det).mean()
        bits = bits_per_dimension(nll, self.deviation)
        yield Turn("network", nll, {"nll": nll, "bits_per_dimension": bits})

    def measure(self, lab: Tensor) -> dict[str, Tensor]:
        """Return the bits per dimension (B,) of scaled Lab pictures, noiseless.

        Nothing of them is colored but what channels 4 and 5 say, where there are any.
        """
        nll = negative_log_likelihood(*self.encode(lab, self._colored(lab)))
        return {"bits_per_dimension": bits_per_dimension(nll, self.deviation)}

    def encode(
        self, lab: Tensor, colored: Tensor | None = None, noise_deviation: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Return the latents (B, dimensions) of scaled Lab pictures and log|det J| (B,).

        `colored` is as in `colorize`; noise of `noise_deviation` is added to the
        standardized colors.
        """
        colors = F.avg_pool2d(lab[:, 1:3].float(), self.config.reduction)
        colors = (colors - _channelwise(self.mean)) / _channelwise(self.deviation)
        if noise_deviation > 0:
            colors = colors + noise_deviation * torch.randn_like(colors)
        return self.network(colors, self._picture(lab[:, :1], colored))

    def colorize(
        self,
        lightness: Tensor,
        samples: int = 1,
        temperature: float | None = None,
        seed: int = 0,
        *,
        colored: Tensor | None = None,
    ) -> Tensor:
        """Give (B, 1, H, W) lightness its ab: (samples, B, 2, H, W), upsampled along lightness.

        Other than in the base class: `colored` (B, 2, H, W) are colors that parts of the pictures
        have already, 0 elsewhere, or (samples, B, 2, H, W), each sample's own; None: there are
        none. Raises ValueError where the model is conditioned on lightness alone.
        """
        scale = self.config.temperature if temperature is None else temperature
        latents = scale * noise(samples, self.network.flow.size, lightness.device, seed)
        if colored is not None and colored.dim() == 5:
            each = [self.network.condition(self._picture(lightness, own)) for own in colored]
            pairs = zip(each, latents.split(1), strict=True)
            return torch.stack([self._decode(lightness, own, latent) for own, latent in pairs])
        conditions = self.network.condition(self._picture(lightness, colored))
        ab = self._decode(lightness, conditions, latents)
        return ab.unflatten(1, (samples, 2)).transpose(0, 1)

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Return how many dimensions the flow has."""
        del height, width
        return (self.network.flow.size,)

    def color_from(
        self, lightness: Tensor, latent: Tensor, *, colored: Tensor | None = None
    ) -> Tensor:
        """Give (B, 1, H, W) lightness the ab (B, 2, H, W) of latents.

        Other than in the base class: `colored` (B, 2, H, W) is as in `colorize`.
        """
        conditions = self.network.condition(self._picture(lightness, colored))
        return self._decode(lightness, conditions, latent[None])

    def latent_of(self, lab: Tensor) -> Tensor:
        """Return the latents (B, dimensions) of scaled Lab pictures.

        Nothing of them is shown as colored but what channels 4 and 5 say, where there are any.
        Decoded with another lightness they transfer its colors (Ardizzone et al. 2019).
        """
        return self.encode(lab, self._colored(lab))[0]

    def _decode(self, lightness: Tensor, conditions: Sequence[Tensor], latents: Tensor) -> Tensor:
        """Return the ab of all latents, (samples, size) or (samples, B, size) with one for each
        picture: (B, samples * 2, H, W)."""
        small = [
            # Not len(): a graph that is exported would have that number for good.
            self.network.flow.inverse(z.expand(lightness.shape[0], -1), conditions)
            for z in latents
        ]
        colors = torch.stack(small, dim=1)  # (B, samples, 2, h, w)
        colors = colors * _channelwise(self.deviation) + _channelwise(self.mean)
        # All samples of a picture at once: they share the weights.
        return joint_bilateral(colors.flatten(1, 2), lightness.float()).clamp(-1, 1)

    def _colored(self, lab: Tensor) -> Tensor | None:
        """Return the colors that parts of pictures have already, where they come with them."""
        return lab[:, 3:] if self.sees_colors and lab.shape[1] > 3 else None

    def _picture(self, lightness: Tensor, colored: Tensor | None) -> Tensor:
        """Return what the condition network sees."""
        if not self.sees_colors:
            if colored is not None:
                raise ValueError("this model is conditioned on lightness alone: no colors to see")
            return lightness
        if colored is None:
            colored = torch.zeros_like(lightness).expand(-1, 2, -1, -1)
        return torch.cat([lightness, colored], dim=1)


def _channelwise(values: Tensor) -> Tensor:
    return values.view(2, 1, 1)
