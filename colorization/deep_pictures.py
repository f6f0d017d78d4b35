"""Pixels of more than 8 bits a channel, which Pillow reads in part and cv2 in part."""

import threading

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps

Pixels = tuple[np.ndarray, np.ndarray | None]  # (H, W, 3) and alpha (H, W), uint16

_MAX_16_BIT = 65535

# Held by whoever changes Pillow's pixel limit, Python's warning filters or cv2's log level.
global_settings = threading.Lock()


def bits_a_channel(image: Image.Image, data: bytes) -> int:
    """Return the bits a channel has in the file, which Pillow's mode hides."""
    if image.format == "PNG":
        return data[24]
    if image.format == "TIFF":
        return max(_tiff_tag(image, 258, (1,)))
    return 8


def _tiff_tag(image: Image.Image, tag: int, default: tuple[int, ...]) -> tuple[int, ...]:
    value = getattr(image, "tag_v2", {}).get(tag, default)
    return value if isinstance(value, tuple) else (value,)


def read_deep_gray(image: Image.Image) -> Pixels:
    """Decode gray of more than 8 bits, also float from 0 to 1; raises what the decoder raises, and
    ValueError for values out of range."""
    transparent = image.info.get("transparency")
    gray = np.asarray(ImageOps.exif_transpose(image))
    if image.mode == "F":
        if not (np.isfinite(gray).all() and gray.min() >= 0 and gray.max() <= 1):
            raise _out_of_range(gray, "float values from 0 to 1")
        gray = np.rint(gray * _MAX_16_BIT).astype(np.uint16)
    elif gray.min() < 0 or gray.max() > _MAX_16_BIT:
        raise _out_of_range(gray, f"whole values from 0 to {_MAX_16_BIT}")
    alpha = None
    if isinstance(transparent, int):
        alpha = np.where(gray == transparent, 0, _MAX_16_BIT).astype(np.uint16)
    (bits,) = _tiff_tag(image, 258, (16,))[:1]
    if bits < 16:  # 12-bit TIFF
        gray = np.rint(gray * (_MAX_16_BIT / (2**bits - 1)))
    if _tiff_tag(image, 262, (1,)) == (0,):  # white is zero, which Pillow ignores at this depth
        gray = _MAX_16_BIT - gray
    return np.repeat(gray.astype(np.uint16)[..., None], 3, axis=2), alpha


def _out_of_range(values: np.ndarray, wanted: str) -> ValueError:
    return ValueError(f"values from {values.min():g} to {values.max():g}; needed are {wanted}")


def read_deep_color(image: Image.Image, data: bytes) -> Pixels:
    """Decode 16-bit color with cv2, because Pillow reduces it to 8 bits; raises as above."""
    if _tiff_tag(image, 284, (1,)) == (2,):
        raise ValueError("16-bit color in separate planes; save it with interleaved channels")
    if image.format == "PNG":
        image.load()  # fails on damage without what cv2's libpng would write on the terminal
    with global_settings:
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        finally:
            cv2.utils.logging.setLogLevel(level)
    if pixels is None:
        raise ValueError("its data are incomplete or damaged")
    if pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise ValueError(f"{image.mode} of a depth other than 8 or 16 bits")
    if image.format == "PNG":  # cv2 turns TIFF by itself
        pixels = orient(pixels, image.getexif().get(ExifTags.Base.Orientation, 1))
    alpha = np.ascontiguousarray(pixels[..., 3]) if pixels.shape[2] == 4 else None
    return np.ascontiguousarray(pixels[..., 2::-1]), alpha


def orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation (1 to 8; anything else leaves the picture as it is)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
