"""Full-size pictures get the colors that a model found in small ones; their lightness stays."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from colorization.color import lab_to_rgb, rgb_to_lab
from colorization.coloring import ColorOptions
from colorization.pictures import Picture
from colorization.resizing import resize, strips
from colorization.upsampling import Bicubic, Bilateral, Guided, Upsampling, Whole

Stop = Callable[[], bool]


class Stopped(Exception):
    """Nobody wants a picture any more."""


def never() -> bool:
    """Go on with a picture to its end."""
    return False


class View(NamedTuple):
    """A picture as a model sees it, and the colors that it finds there."""

    lightness: Tensor  # (1, 1, h, w), of the picture itself
    ab: Tensor  # (samples, 2, h, w)


def pixels_to_lab(rgb: np.ndarray, device: torch.device) -> Tensor:
    """Return scaled Lab (1, 3, H, W) of sRGB (H, W, 3), uint8 or uint16."""
    if rgb.dtype != np.uint8:
        rgb = rgb.astype(np.float32) / np.iinfo(rgb.dtype).max
    return rgb_to_lab(torch.tensor(rgb, device=device).permute(2, 0, 1)[None])


@torch.inference_mode()
def give_colors(
    picture: Picture,
    view: View,
    sample: int,
    options: ColorOptions,
    mask: Tensor | None = None,
    stop: Stop = never,
) -> Picture:
    """Return a picture with the colors of a view in place of its own.

    They are upsampled and saturated as options say; `mask` (H, W) in [0, 1] is how much of them
    each pixel gets. Raises Stopped once `stop` says so, within a second or so.
    """
    height, width = picture.rgb.shape[:2]
    upsampling = _upsampling(view, sample, (height, width), options)
    colored = np.empty_like(picture.rgb)
    peak = np.iinfo(colored.dtype).max
    for rows in strips(height, width):
        if stop():
            raise Stopped
        lightness = pixels_to_lab(picture.rgb[rows], view.ab.device)[:, :1]
        ab = upsampling.rows(lightness, rows.start) * options.saturation
        if mask is not None:
            ab = ab * mask[rows].to(ab)
        rgb = lab_to_rgb(torch.cat((lightness, ab), dim=1), keep_lightness=True)[0]
        rgb = rgb.mul_(peak).round_().permute(1, 2, 0)
        colored[rows] = rgb.cpu().numpy().astype(colored.dtype)
    return Picture(colored, picture.alpha)


def _upsampling(
    view: View, sample: int, size: tuple[int, int], options: ColorOptions
) -> Upsampling:
    height, width = view.ab.shape[-2:]
    # Of a picture that is smaller than what the model saw, in one direction or both.
    smaller = min(height, size[0]), min(width, size[1])
    lightness = resize(view.lightness, smaller)
    ab = resize(view.ab[sample : sample + 1], smaller)
    if smaller == size:
        return Whole(ab)
    match options.upsampling:
        case "guided":
            return Guided(ab, lightness, size[0])
        case "bilateral":
            return Bilateral(ab, lightness, size[0])
        case "bicubic":
            return Bicubic(ab, size[0])
