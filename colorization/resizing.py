"""Pictures by strips of rows, and smaller or larger ones of them."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

STRIP_PIXELS = 2**18  # large pictures go by strips of rows of about this size: 3 MB of Lab


def strips(height: int, width: int) -> Iterator[slice]:
    """Yield the rows of each strip of a picture, from top to bottom."""
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def resize(channels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize scaled channels (B, C, H, W) to (height, width): bicubic, antialiased, in [-1, 1]."""
    if channels.shape[-2:] == size:
        return channels
    return _resize(channels, size).clamp(-1, 1)  # bicubic overshoots at edges


def resize_rows(
    rows: Callable[[slice], Tensor], height: int, width: int, size: tuple[int, int]
) -> Tensor:
    """Resize a picture of height and width whose rows (1, 1, n, W) are computed when asked for.

    Equals `resize` of the whole to rounding; no more than a strip of it is in memory.
    """
    narrow = [_resize(rows(strip), (-1, size[1])) for strip in strips(height, width)]
    resized = torch.cat(narrow, dim=-2)
    return resize(resized, size) if size != (height, width) else resized


def _resize(channels: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    height = channels.shape[-2] if height == -1 else height
    if channels.shape[-2:] == (height, width):
        return channels
    if width == 1 < height:  # torch's antialiasing on the CPU would repeat the first row
        return _resize(channels.mT.contiguous(), (width, height)).mT
    return F.interpolate(
        channels, (height, width), mode="bicubic", antialias=True, align_corners=False
    )
