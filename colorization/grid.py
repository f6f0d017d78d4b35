"""The picture grid: gray, prediction and truth side by side, one row a picture."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from colorization.color import render
from colorization.pictures import replace_file

_GAP = 4
_FONT_SIZE = 11
_MIN_SIDE = 96  # tiny pictures are enlarged until their short side has this many pixels


def picture_grid(
    lightness: Tensor,
    ab_predicted: Tensor,
    ab_true: Tensor | None = None,
    names: Sequence[str] | None = None,
) -> Image.Image:
    """Draw pictures in rows: gray, prediction (a column for each sample), truth.

    `lightness` is (B, 1, H, W), `ab_predicted` (B, 2, H, W) or (samples, B, 2, H, W) and `ab_true`
    (B, 2, H, W), all scaled Lab; without a truth its column is left out. `names` stand above the
    rows. Tiny pictures are enlarged by a whole factor, so that their pixels stay what they are.

    Raises ValueError where the numbers of pictures or names differ.
    """
    samples = ab_predicted if ab_predicted.ndim == 5 else ab_predicted[None]
    columns = {"gray": torch.zeros_like(samples[0])}
    for number, sample in enumerate(samples, start=1):
        columns["prediction" if len(samples) == 1 else f"sample {number}"] = sample
    if ab_true is not None:
        columns["truth"] = ab_true
    count = len(lightness)
    if any(len(ab) != count for ab in columns.values()) or len(names or lightness) != count:
        raise ValueError(f"{count} lightness pictures, but another number of colors or names")

    height, width = lightness.shape[-2:]
    factor = max(1, -(-_MIN_SIDE // min(height, width)))
    height, width = height * factor, width * factor
    font = ImageFont.load_default(_FONT_SIZE)
    caption = math.ceil(font.getbbox("Åjg|")[3]) + 1
    row_height = height + _GAP + (caption if names else 0)
    size = (_GAP + len(columns) * (width + _GAP), caption + count * row_height)
    grid = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(grid)

    for column, (title, ab) in enumerate(columns.items()):
        left = _GAP + column * (width + _GAP)
        draw.text((left, 0), _fit(title, width, font), fill="black", font=font)
        rgb = render(lightness.detach().float(), ab.detach().float().to(lightness.device))
        for row, pixels in enumerate(rgb.permute(0, 2, 3, 1).cpu().numpy()):
            top = caption + row * row_height + (caption if names else 0)
            enlarged = np.repeat(np.repeat(pixels, factor, axis=0), factor, axis=1)
            grid.paste(Image.fromarray(enlarged), (left, top))
    for row, name in enumerate(names or ()):
        top = caption + row * row_height
        text = _fit(name, size[0] - 2 * _GAP, font)
        draw.text((_GAP, top), text, fill="dimgray", font=font)
    return grid


def write_grid(
    path: Path,
    lightness: Tensor,
    ab_predicted: Tensor,
    ab_true: Tensor | None = None,
    names: Sequence[str] | None = None,
) -> None:
    """Write `picture_grid` of the same arguments as a PNG that appears whole or not at all."""
    buffer = io.BytesIO()
    picture_grid(lightness, ab_predicted, ab_true, names).save(buffer, "PNG")
    replace_file(path, buffer.getvalue())


def _fit(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Shorten a text to a width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
