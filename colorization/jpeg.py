"""JPEG by cv2: its size without Pillow, its pixels at full or at reduced size."""

import struct

import cv2
import numpy as np

# Of gray, since those of color mean BGR, which does not go with RGB: only the size is taken.
_REDUCED = {
    1: 0,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}

_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive; others are rare
_MOST_SEGMENTS = 64  # before the frame, in files that are meant well


def plain_size(data: bytes) -> tuple[int, int] | None:
    """Return (width, height) of a plain JPEG, None for everything else.

    Plain is gray or of three channels, 8 bits, and shown as it is stored: without EXIF, which holds
    the orientation, and one picture only. Pillow takes ten times as long to find it out.
    """
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    for _ in range(_MOST_SEGMENTS):
        if len(data) < at + 10 or data[at] != 0xFF:
            return None
        kind = data[at + 1]
        if kind in _FRAMES:
            bits, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
            plain = bits == 8 and channels in (1, 3) and width and height
            return (width, height) if plain else None
        # Neither a table, an application's data nor a comment.
        if not (kind in (0xC4, 0xDB, 0xDD, 0xFE) or 0xE0 <= kind <= 0xEF):
            return None
        if data[at + 4 : at + 8] in (b"Exif", b"MPF\0"):
            return None
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def decode_jpeg(data: bytes, size: tuple[int, int], short_side: int) -> np.ndarray | None:
    """Decode a JPEG of `size` (width, height) as it is stored to (H, W, 3) uint8 sRGB.

    At a half, a quarter or an eighth of its size as long as the short side keeps `short_side`
    pixels; 0 means at its size. Returns None for a damaged file.
    """
    width, height = size
    scale = _reduction(min(size), short_side)
    flags = _REDUCED[scale] | cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    rgb = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if rgb is None or rgb.shape != (-(-height // scale), -(-width // scale), 3):
        return None
    return rgb


def _reduction(found: int, wanted: int) -> int:
    """Return the largest reduction that leaves a short side of `found` pixels the `wanted`."""
    return max(scale for scale in _REDUCED if scale == 1 or (wanted and found // scale >= wanted))
