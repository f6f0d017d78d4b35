"""Square pictures of one size out of pictures of any size.

Planes beside RGB (`picture_sets.planes_of`) are cut, mirrored and resized with it.
"""

import math

import cv2
import numpy as np


def training_crop(
    planes: np.ndarray,
    size: int,
    crop_scale: tuple[float, float],
    flip: bool,
    rng: np.random.Generator,
) -> np.ndarray:
    """Cut a random square, mirror it in half of the cases, and resize it.

    `planes` are (H, W, C) uint8; the square's side is drawn from `crop_scale` (shares of the short
    side), its place uniformly. Returns (size, size, C) uint8, contiguous. Draws only from `rng`.
    """
    height, width = planes.shape[:2]
    short = min(height, width)
    side = max(1, round(short * rng.uniform(*crop_scale)))
    top = int(rng.integers(height - side + 1))
    left = int(rng.integers(width - side + 1))
    mirrored = flip and rng.random() < 0.5
    square = _resized(planes[top : top + side, left : left + side], size)
    return cv2.flip(square, 1) if mirrored else square


def scoring_crop(planes: np.ndarray, size: int) -> np.ndarray:
    """Cut the largest central square and resize it.

    `planes` are (H, W, C) uint8. Returns (size, size, C) uint8, contiguous; a picture that is
    `size` x `size` passes unchanged.
    """
    height, width = planes.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return _resized(planes[top : top + side, left : left + side], size)


def _resized(square: np.ndarray, size: int) -> np.ndarray:
    """Resize a square; returns (size, size, C) uint8, contiguous."""
    side = square.shape[0]
    if side == size:
        return np.ascontiguousarray(square)
    if square.shape[2] > 3:  # more than four at once are beyond cv2
        parts = (square[..., :3], square[..., 3:])
        return np.concatenate([_resized(np.ascontiguousarray(p), size) for p in parts], axis=2)
    if side < size:
        return cv2.resize(square, (size, size), interpolation=cv2.INTER_CUBIC)
    # Averages of all pixels that are covered: shrinking without them makes false colors of
    # textures. cv2 averages a whole number of pixels two or three times as fast as a broken one.
    whole = math.ceil(side / size) * size
    square = cv2.resize(square, (whole, whole), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
