"""Small pictures for looking: samples side by side, and before beside after."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from colorization.outputs import Compare
from colorization.pictures import Picture, to_uint8

SAMPLE_SIDE = 512  # of a sample on its sheet at most
COMPARED_SIDE = 1600  # of each picture of a comparison at most
_GAP = 4
_SHAPE = 1.4  # of a sheet, its width by its height


def small_copy(picture: Picture, longest: int) -> np.ndarray:
    """Return 8-bit pixels (h, w, 3) on white, no side longer than `longest`."""
    height, width = picture.rgb.shape[:2]
    scale = min(1.0, longest / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    rgb = picture.rgb
    alpha = picture.alpha
    if scale < 1:
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        alpha = None if alpha is None else cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    rgb = to_uint8(rgb)
    if alpha is None:
        return rgb
    share = to_uint8(alpha)[..., None].astype(np.float32) / 255
    return np.rint(rgb * share + 255 * (1 - share)).astype(np.uint8)


def contact_sheet(samples: Sequence[np.ndarray]) -> np.ndarray:
    """Lay pictures (h, w, 3) of one size out in rows, on white."""
    height, width = samples[0].shape[:2]
    columns = min(
        range(1, len(samples) + 1), key=lambda n: _ugliness(n, len(samples), width, height)
    )
    rows = -(-len(samples) // columns)
    shape = (rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3)
    sheet = np.full(shape, 255, np.uint8)
    for number, sample in enumerate(samples):
        top, left = (number // columns) * (height + _GAP), (number % columns) * (width + _GAP)
        sheet[top : top + height, left : left + width] = sample
    return sheet


def _ugliness(columns: int, count: int, width: int, height: int) -> float:
    """Tell how far a sheet is from the shape of a screen, and how much of it is empty."""
    rows = -(-count // columns)
    shape = abs(math.log(columns * width / (rows * height) / _SHAPE))
    return shape + 2 * (columns * rows - count) / (columns * rows)


def comparison(before: np.ndarray, after: np.ndarray, kind: Compare) -> np.ndarray:
    """Show a picture (h, w, 3) before and after: side by side, or each a half of one picture."""
    if kind == "before-after":
        return _beside(before, after)
    half = before.shape[1] // 2
    split = after.copy()
    split[:, :half] = before[:, :half]
    line = max(1, before.shape[1] // 400)
    split[:, max(0, half - line) : half + line] = 255
    return split


def _beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Lay two pictures of one height side by side."""
    gap = np.full((left.shape[0], _GAP, 3), 255, np.uint8)
    return np.concatenate([left, gap, right], axis=1)
