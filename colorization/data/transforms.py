"""Square pictures of one size out of pictures of any size."""

import cv2
import numpy as np


def training_crop(
    rgb: np.ndarray,
    size: int,
    crop_scale: tuple[float, float],
    flip: bool,
    rng: np.random.Generator,
) -> np.ndarray:
    """Cut a random square, mirror it in half of the cases, and resize it.

    `rgb` is (H, W, 3) uint8; the square's side is drawn from `crop_scale` (shares of the short
    side), its place uniformly. Returns (size, size, 3) uint8, contiguous. Draws only from `rng`.
    """
    height, width = rgb.shape[:2]
    short = min(height, width)
    side = max(1, round(short * rng.uniform(*crop_scale)))
    top = int(rng.integers(height - side + 1))
    left = int(rng.integers(width - side + 1))
    mirrored = flip and rng.random() < 0.5
    square = rgb[top : top + side, left : left + side]
    if mirrored:
        square = square[:, ::-1]
    return _resized(square, size)


def scoring_crop(rgb: np.ndarray, size: int) -> np.ndarray:
    """Cut the largest central square and resize it.

    `rgb` is (H, W, 3) uint8. Returns (size, size, 3) uint8, contiguous; a picture that is
    `size` x `size` passes unchanged.
    """
    height, width = rgb.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return _resized(rgb[top : top + side, left : left + side], size)


def _resized(square: np.ndarray, size: int) -> np.ndarray:
    square = np.ascontiguousarray(square)
    # INTER_AREA averages all pixels it covers: shrinking without it makes false colors of textures.
    how = cv2.INTER_AREA if square.shape[0] > size else cv2.INTER_CUBIC
    return cv2.resize(square, (size, size), interpolation=how)
