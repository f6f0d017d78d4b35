"""The mapping of colors that makes their distribution another one."""

from typing import NamedTuple

import torch
from torch import Tensor

from colorization.color import AB_SCALE

_FAINTEST = 3 / AB_SCALE  # deviation that any colors are taken to have: 3 units of Lab


class ColorMapping(NamedTuple):
    """An affine mapping of the ab plane."""

    matrix: Tensor  # (2, 2)
    offset: Tensor  # (2,)

    def __call__(self, ab: Tensor) -> Tensor:
        """Map scaled ab (..., 2, H, W), kept within [-1, 1]."""
        mapped = torch.einsum("ij,...jhw->...ihw", self.matrix, ab) + self.offset[:, None, None]
        return mapped.clamp(-1, 1)


def mapping_between(colors: Tensor, wanted: Tensor) -> ColorMapping:
    """Return what gives colors (2, N) mean and covariance of those wanted (2, M), scaled ab.

    Of all affine mappings that do it is the one that moves colors least: the linear
    Monge-Kantorovich mapping (Pitie and Kokaram 2007). Colors that hardly vary are not
    spread without bounds: a deviation of 3 units of Lab is added to both.
    """
    (mean, spread), (wanted_mean, wanted_spread) = _moments(colors), _moments(wanted)
    root, inverse = _power(spread, 0.5), _power(spread, -0.5)
    matrix = inverse @ _power(root @ wanted_spread @ root, 0.5) @ inverse
    offset = wanted_mean - matrix @ mean
    return ColorMapping(matrix.to(colors), offset.to(colors))


def distance_between(colors: Tensor, wanted: Tensor) -> Tensor:
    """Return how far colors (2, N) are from those wanted (2, M) by mean and covariance.

    The Wasserstein distance of the normal distributions of both, which the mapping covers (Pitie
    and Kokaram 2007), of scaled ab.
    """
    (mean, spread), (wanted_mean, wanted_spread) = _moments(colors), _moments(wanted)
    root = _power(spread, 0.5)
    common = torch.trace(_power(root @ wanted_spread @ root, 0.5))
    apart = torch.trace(spread) + torch.trace(wanted_spread) - 2 * common
    return ((mean - wanted_mean).square().sum() + apart.clamp(min=0)).sqrt()


def _moments(colors: Tensor) -> tuple[Tensor, Tensor]:
    exact = colors.double()
    spread = torch.cov(exact, correction=0) + _FAINTEST**2 * torch.eye(2).to(exact)
    return exact.mean(1), spread


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Raise a symmetric positive definite matrix to a power."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values**exponent) @ vectors.T
