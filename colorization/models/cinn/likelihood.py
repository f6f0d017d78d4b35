"""How likely a flow makes colors, per dimension."""

import math

import torch
from torch import Tensor

from colorization.color import AB_SCALE


def negative_log_likelihood(z: Tensor, log_det: Tensor) -> Tensor:
    """Return |z|^2 / 2 - log|det J| a dimension, (B,): nats, without the normal's constant.

    `z` is (B, dimensions), `log_det` (B,). Ardizzone et al. 2019, equation 6.
    """
    return z.square().mean(1) / 2 - log_det / z.shape[1]


def bits_per_dimension(nll: Tensor, deviation: Tensor) -> Tensor:
    """Turn `negative_log_likelihood` of standardized ab into bits a dimension of CIE Lab's ab.

    One unit of Lab is one level, so that the number is what a code for ab rounded to integers
    takes, about: 0 bits are a density of 1 a unit. `deviation` (2,) is what scaled ab (ab / 110)
    was divided by.
    """
    scales = torch.log(deviation * AB_SCALE).mean()
    return (nll + math.log(2 * math.pi) / 2 + scales) / math.log(2)
