"""Large pictures shown to a model by overlapping tiles, and what it says put together again."""

from collections.abc import Callable

import torch
from torch import Tensor

from colorization.resizing import resize

DETAIL = 4  # tiles show the picture at up to so many times the size of the whole view
_WORTHWHILE = 1.5  # below this the whole view shows nearly as much
_CELL = 16  # of the whole view: tiles agree with it in the mean over so many pixels a side


def tiled_size(height: int, width: int, size: int) -> tuple[int, int] | None:
    """Return the size at which tiles show a picture to a model trained at `size`; None for pictures
    that are too small to gain by it."""
    short = min(height, width)
    scale = min(short, DETAIL * size) / short
    if min(short, DETAIL * size) < _WORTHWHILE * size:
        return None
    return max(1, round(height * scale)), max(1, round(width * scale))


def color_tiles(color: Callable[[Tensor], Tensor], lightness: Tensor, side: int) -> Tensor:
    """Color lightness (1, 1, H, W) by square tiles: (samples, 1, 2, H, W).

    `color` takes (n, 1, side, side) to (samples, n, 2, side, side). Tiles overlap by a half or
    more, and each counts the less the nearer a pixel is to its border, at which it counts nothing:
    where tiles disagree, one color changes to the other over half a tile.
    """
    height, width = lightness.shape[-2:]
    weight = _fade(min(side, height), lightness)[:, None] * _fade(min(side, width), lightness)
    total: Tensor | None = None
    weights = lightness.new_zeros(height, width)
    for top in _starts(height, side):
        for left in _starts(width, side):
            place = (..., slice(top, top + side), slice(left, left + side))
            ab = color(lightness[place])
            if total is None:
                total = ab.new_zeros(len(ab), 1, 2, height, width)
            total[place] += ab * weight
            weights[place] += weight
    assert total is not None
    return total / weights


def agree(tiles: Tensor, whole: Tensor) -> Tensor:
    """Give tiled colors (B, 2, H, W) the tints of the whole view's (B, 2, h, w), smoothly.

    A tile shows too little to tell an evening from a noon. What tiles add is what is finer than a
    cell of the whole view.
    """
    height, width = whole.shape[-2:]
    cells = max(1, round(height / _CELL)), max(1, round(width / _CELL))
    difference = resize(whole, cells) - resize(tiles, cells)
    size = (tiles.shape[-2], tiles.shape[-1])
    return (tiles + resize(difference / 2, size) * 2).clamp(-1, 1)


def _fade(length: int, like: Tensor) -> Tensor:
    """Return how much the pixels along a side count: nothing at the ends, 1 in the middle."""
    place = (torch.arange(length, device=like.device) + 0.5) / length
    return torch.sin(torch.pi * place) ** 2


def _starts(length: int, side: int) -> list[int]:
    """Return where tiles begin, evenly spread, each overlapping the one before by half or more."""
    if length <= side:
        return [0]
    count = -(-2 * (length - side) // side) + 1
    return [round(k * (length - side) / (count - 1)) for k in range(count)]
