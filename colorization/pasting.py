"""Crops that were colored by themselves, pasted back: partly colored pictures (system A5)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from colorization.foreground import feather
from colorization.instances import Box, Detection, scaled_mask
from colorization.resizing import resize

FADE = 1 / 32  # of a picture's short side: over so much the colors of a crop fade at its edge


def square_crop(rgb: np.ndarray, box: Box, most: int) -> np.ndarray:
    """Cut a box out of (H, W, 3) and stretch it to a square, as models of one size see crops.

    The square's side is that of the box's longer one, `most` at the most.
    """
    crop = torch.from_numpy(np.ascontiguousarray(box.cut(rgb)))
    side = min(most, max(box.width, box.height))
    scaled = crop.permute(2, 0, 1)[None].float() / 127.5 - 1
    square = (resize(scaled, (side, side)) + 1) * 127.5
    return square.round()[0].permute(1, 2, 0).to(torch.uint8).numpy()


def paste(
    found: Sequence[Detection],
    colors: Sequence[Tensor],
    picture: tuple[int, int],
    size: tuple[int, int],
) -> Tensor:
    """Put the colors of crops into a picture that has none.

    `colors` holds, for each instance, the ab (samples, 2, any, any) of its box; `picture` is the
    height and width that boxes are in, `size` those of the result (samples, 2, *size). Within a
    mask colors fade toward its edge, but not toward the picture's; where instances overlap they are
    averaged; outside of all masks they are 0.
    """
    total = torch.zeros(size, device=colors[0].device)
    pasted = torch.zeros(*colors[0].shape[:2], *size, device=colors[0].device)
    for one, ab in zip(found, colors, strict=True):
        top, left = one.box.top, one.box.left
        rows = _scaled(top, top + one.box.height, size[0] / picture[0], size[0])
        columns = _scaled(left, left + one.box.width, size[1] / picture[1], size[1])
        part = (rows.stop - rows.start, columns.stop - columns.start)
        inside = np.zeros(size, bool)
        inside[rows, columns] = scaled_mask(one.mask, *part)
        # All of the fading within: beyond the box the crop has no colors.
        kept = np.clip(2 * feather(inside, 2 * FADE * min(size)) - 1, 0, 1)
        weights = torch.from_numpy(kept).to(total)[rows, columns]
        total[rows, columns] += weights
        pasted[..., rows, columns] += weights * resize(ab, part)
    return pasted / total.clamp(min=1)


def _scaled(start: int, stop: int, scale: float, length: int) -> slice:
    """Return the pixels of a line of so many that a part covers at another size, one at least."""
    first = min(round(start * scale), length - 1)
    return slice(first, max(first + 1, round(stop * scale)))
