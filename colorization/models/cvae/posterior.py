"""What a picture's colors say about the latent: a normal distribution for each dimension of it."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Posterior(NamedTuple):
    """Independent normal distributions of the latent's dimensions, (B, latent) float32 each.

    Under autocast the layers that give them compute in bfloat16; from here on it is float32: a
    variance is an exponential, and the divergence sums thousands of small numbers.
    """

    mean: Tensor
    log_variance: Tensor

    def sample(self) -> Tensor:
        """Draw a latent (B, latent) that gradients pass through (Kingma and Welling 2014)."""
        return self.mean + (self.log_variance / 2).exp() * torch.randn_like(self.mean)

    def divergence(self) -> Tensor:
        """Return each picture's KL divergence to N(0, 1) in nats, summed over the latent: (B,).

        Kingma and Welling 2014, appendix B.
        """
        terms = 1 + self.log_variance - self.mean.square() - self.log_variance.exp()
        return terms.sum(1) / -2


class ColorEncoder(nn.Module):
    """RGB (B, 3, side, side) in [-1, 1] -> Posterior of `latent` dimensions.

    Five stride-2 3x3 convolutions from `width` channels, doubling, then a linear layer each for the
    means and the logarithms of the variances. `side` is a multiple of 32. Leaky ReLU, since few
    channels may all rest for good behind a plain one.
    """

    def __init__(self, side: int, latent: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        below = 3
        for level in range(5):
            channels = width * 2**level
            layers += [nn.Conv2d(below, channels, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
            below = channels
        self.convolutions = nn.Sequential(*layers)
        flat = below * (side // 32) ** 2
        self.mean = nn.Linear(flat, latent)
        self.log_variance = nn.Linear(flat, latent)

    def forward(self, rgb: Tensor) -> Posterior:
        """Answer with the distribution of the latent."""
        colors = self.convolutions(rgb).flatten(1)
        return Posterior(self.mean(colors).float(), self.log_variance(colors).float())
