"""A look at what was kept and what was dropped, on one picture."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

MOST_SHOWN = 24  # pictures of a section
_COLUMNS = 8
_CELL = 128  # pixels
_GAP = 8
_NAME = 16  # pixels below a picture
_TITLE = 32
_PAPER, _INK, _MISSING = (255, 255, 255), (0, 0, 0), (160, 160, 160)

Section = tuple[str, int, Sequence[tuple[str, np.ndarray | None]]]


def contact_sheet(sections: Sequence[Section]) -> np.ndarray:
    """Draw sections below each other, each a title, a number of pictures and some of them by name.

    A picture is sRGB (H, W, 3) uint8, or None where it cannot be read, which is drawn gray. Of each
    section the first MOST_SHOWN are drawn. Returns sRGB (H, W, 3) uint8.
    """
    rows = [-(-min(len(shown), MOST_SHOWN) // _COLUMNS) for _, _, shown in sections]
    row_height = _CELL + _NAME + _GAP
    size = (
        _GAP + _COLUMNS * (_CELL + _GAP),
        _GAP + len(sections) * _TITLE + sum(rows) * row_height,
    )
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    title_font, name_font = _font(18), _font(10)
    top = _GAP
    for (title, count, shown), height in zip(sections, rows, strict=True):
        draw.text((_GAP, top), f"{title} ({count:,})", _INK, title_font)
        top += _TITLE
        for place, (name, rgb) in enumerate(shown[:MOST_SHOWN]):
            row, column = divmod(place, _COLUMNS)
            left, upper = _GAP + column * (_CELL + _GAP), top + row * row_height
            thumbnail = _thumbnail(rgb)
            corner = ((_CELL - thumbnail.width) // 2, (_CELL - thumbnail.height) // 2)
            sheet.paste(thumbnail, (left + corner[0], upper + corner[1]))
            draw.text((left, upper + _CELL), _fitting(name, name_font), _INK, name_font)
        top += height * row_height
    return np.asarray(sheet)


def _font(size: int) -> ImageFont.FreeTypeFont:
    # Pillow's own font has Latin letters only.
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)


def _thumbnail(rgb: np.ndarray | None) -> Image.Image:
    if rgb is None:
        return Image.new("RGB", (_CELL, _CELL), _MISSING)
    picture = Image.fromarray(rgb)
    picture.thumbnail((_CELL, _CELL), Image.Resampling.BOX)
    return picture


def _fitting(name: str, font: ImageFont.FreeTypeFont) -> str:
    """Return a name, its beginning left out where it is too long: names differ at their ends."""
    # Bytes in file names that are no letters cannot be drawn, line breaks move other text.
    name = name.encode("utf-8", "replace").decode()
    name = "".join(letter if letter.isprintable() else "?" for letter in name)
    if font.getlength(name) <= _CELL:
        return name
    while name and font.getlength("..." + name) > _CELL:
        name = name[1:]
    return "..." + name
