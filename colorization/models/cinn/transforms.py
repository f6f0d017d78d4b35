"""The parts of a flow beside FrEIA's coupling blocks, in FrEIA's calling convention.

FrEIA has a Haar transform and a permutation too. Its Haar is a convolution, which autocast and TF32
would round, and multiplies its input in place on the way back; its permutation reseeds numpy's
global generator. Both keep what is fixed as parameters. These have buffers and are exact.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Shape = tuple[int, ...]
REBALANCE = 0.5  # by which wavelet components are scaled (Ardizzone et al. 2019, colorization)


class Haar(nn.Module):
    """Split each channel into four of half the sides: average, horizontal, vertical, diagonal.

    (C, H, W) -> (4C, H/2, W/2), channel by channel, times `REBALANCE`; equals FrEIA's
    HaarDownsampling. Raises ValueError for odd sides.
    """

    def __init__(self, dims_in: Sequence[Shape]) -> None:
        super().__init__()
        channels, height, width = dims_in[0]
        if height % 2 or width % 2:
            raise ValueError(f"Haar wavelets need even sides, found {height}x{width}")
        self._dims_out = [(4 * channels, height // 2, width // 2)]
        self._log_det = channels * height * width * math.log(REBALANCE)

    def output_dims(self, input_dims: Sequence[Shape]) -> list[Shape]:
        """Return the shape that leaves, given the one that enters."""
        del input_dims
        return list(self._dims_out)

    def forward(
        self, x: Sequence[Tensor], rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], float]:
        """Return the transform (back with `rev`) and its log-determinant."""
        del jac
        if rev:
            return (F.pixel_shuffle(_hadamard(x[0]) * (0.5 / REBALANCE), 2),), -self._log_det
        return (_hadamard(F.pixel_unshuffle(x[0], 2)) * (0.5 * REBALANCE),), self._log_det


def _hadamard(x: Tensor) -> Tensor:
    """Turn each four channels a, b, c, d to their sum and differences; twice is four times x."""
    a, b, c, d = x.unflatten(1, (-1, 4)).unbind(2)
    parts = (a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d)
    return torch.stack(parts, dim=2).flatten(1, 2)


class Permutation(nn.Module):
    """Put the channels in a random order, drawn once from torch's generator and kept."""

    order: Tensor
    back: Tensor

    def __init__(self, dims_in: Sequence[Shape]) -> None:
        super().__init__()
        order = torch.randperm(dims_in[0][0])
        self.register_buffer("order", order)
        self.register_buffer("back", order.argsort())

    def output_dims(self, input_dims: Sequence[Shape]) -> list[Shape]:
        """Return the shape that leaves, given the one that enters."""
        return list(input_dims)

    def forward(
        self, x: Sequence[Tensor], rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], float]:
        """Return the channels in their new order (in the old one with `rev`); the volume stays."""
        del jac
        return (x[0][:, self.back if rev else self.order],), 0.0


class Subnetwork(nn.Sequential):
    """What gives a coupling its scales and shifts: two layers with a ReLU between, all N(0, scale).

    `kernel` None: linear layers on (B, channels); else convolutions. They may compute in a lower
    precision under autocast; the answer is float32, and so is all else in a flow.
    """

    def __init__(
        self, channels: int, out_channels: int, *, hidden: int, kernel: int | None, scale: float
    ) -> None:
        first, last = (
            nn.Linear(*sizes) if kernel is None else nn.Conv2d(*sizes, kernel, padding=kernel // 2)
            for sizes in pairwise((channels, hidden, out_channels))
        )
        super().__init__(first, nn.ReLU(inplace=True), last)
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0.0, scale)

    def forward(self, input: Tensor) -> Tensor:
        """Answer in float32."""
        return super().forward(input).float()
