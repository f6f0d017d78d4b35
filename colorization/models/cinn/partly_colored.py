"""Partly colored pictures, as a scene model gets them once instances are pasted in (system A5)."""

import torch
from torch import Tensor

MOST_BOXES = 4
SMALLEST, LARGEST = 0.25, 0.75  # sides of a box; A5's smallest detection is 64 pixels of 256


def color_boxes(ab: Tensor) -> Tensor:
    """Keep the colors of (B, 2, H, W) in 0 to 4 random boxes a picture; elsewhere they are 0.

    Drawn from torch's generator on the CPU.
    """
    batch, _, height, width = ab.shape
    draws = torch.rand(4, batch, MOST_BOXES)
    shares = SMALLEST + (LARGEST - SMALLEST) * draws[:2]
    starts = draws[2:] * (1 - shares)
    there = torch.arange(MOST_BOXES) < torch.randint(MOST_BOXES + 1, (batch, 1))
    rows = _within(height, starts[0], shares[0])
    columns = _within(width, starts[1], shares[1])
    boxes = there[..., None, None] & rows[..., :, None] & columns[..., None, :]
    return ab * boxes.any(1, keepdim=True).to(ab.device)


def _within(size: int, start: Tensor, share: Tensor) -> Tensor:
    """Tell which of `size` pixels lie in an interval given in shares: (...) -> (..., size)."""
    first = (start * size).round()
    last = first + (share * size).ceil()
    pixels = torch.arange(size)
    return (pixels >= first[..., None]) & (pixels < last[..., None])
