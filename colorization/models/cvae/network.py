"""What the networks of the conditional VAE have in common."""

from abc import ABC, abstractmethod
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from colorization.models.cvae.posterior import ColorEncoder, Posterior

Fusion = Annotated[
    Literal["add", "concatenate"],
    Field(description="how the latent joins the features, which are as many"),
]
# A quarter of it is the color encoder's first width.
Width = Annotated[
    int,
    Field(ge=4, le=128, multiple_of=4, description="channels of VGG's first block, published: 64"),
]


class CVAENetwork(nn.Module, ABC):
    """Features of the lightness, a posterior of the colors, and a decoder of both.

    Only training needs the posterior: without that part a network encodes and decodes as before.
    """

    posterior: ColorEncoder

    @abstractmethod
    def encode(self, lightness: Tensor) -> list[Tensor]:
        """Return the features of lightness (B, 1, H, W), those that the latent joins last."""

    @abstractmethod
    def decode(self, features: list[Tensor], latent: Tensor) -> Tensor:
        """Return RGB (B, 3, H, W) in [0, 1], float32, of features and a latent.

        The latent is (B, C*h*w) where the last features are (B, C, h, w).
        """

    def forward(self, lightness: Tensor, rgb: Tensor) -> tuple[Tensor, Posterior | None]:
        """Reconstruct pictures from their lightness and a sample of their posterior.

        `rgb` is (B, 3, H, W) in [-1, 1], of the training size; the reconstruction is in [0, 1].
        """
        posterior = self.posterior(rgb)
        return self.decode(self.encode(lightness), posterior.sample()), posterior


def latent_size(features: list[Tensor]) -> int:
    """Return how many dimensions the latent has that joins these features: as many as they have."""
    return features[-1][0].numel()
