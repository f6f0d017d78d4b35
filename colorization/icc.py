"""Pixels to sRGB by the color profile (ICC) that a picture carries.

A profile that is damaged, belongs to another kind of pixels or cannot be followed is passed over:
the picture is then taken for sRGB, as viewers do.
"""

import io
import struct
from typing import Any

import numpy as np
from PIL import Image, ImageCms

_SPACES = {"RGB": "RGB ", "RGBA": "RGB ", "L": "GRAY", "CMYK": "CMYK"}

# Linear sRGB from XYZ of the profiles' white, D50 (Bradford; as in the profile of sRGB itself).
_SRGB_TO_XYZ = (
    (0.4360747, 0.3850649, 0.1430804),
    (0.2225045, 0.7168786, 0.0606169),
    (0.0139322, 0.0971045, 0.7141733),
)
_STRIP = 2**20
_MADE = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)  # a profile's date in its header (ICC.1, 7.2.8)


def srgb_profile() -> bytes:
    """Return a profile of sRGB, to be put into pictures: the same bytes at all times."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + _MADE + profile[36:]  # else the second in which it was asked for


def image_to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert a picture of 8 bits a channel to sRGB, RGB or with alpha RGBA."""
    alpha = None
    if image.mode in ("P", "PA", "LA", "RGBA") and image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A")
    base = {"P": "RGB", "PA": "RGB", "RGBA": "RGB", "LA": "L", "1": "L"}
    pixels = image.convert(base[image.mode]) if image.mode in base else image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if _space(source) != _SPACES.get(pixels.mode) or _is_srgb(source):
            return image
        converted = ImageCms.profileToProfile(
            pixels,
            source,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):  # see above
        return image
    assert converted is not None
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    return _space(profile) == "RGB " and describe(profile).startswith("sRGB")


def describe(profile: ImageCms.ImageCmsProfile) -> str:
    """Return what a profile calls itself."""
    core: Any = profile.profile  # whose type Pillow does not tell
    return core.profile_description or ""


def _space(profile: ImageCms.ImageCmsProfile) -> str:
    core: Any = profile.profile
    return core.xcolor_space


def deep_to_srgb(rgb: np.ndarray, profile: bytes) -> np.ndarray:
    """Convert uint16 (H, W, 3) to sRGB by a profile of curves, and a matrix if it is of color.

    Pillow's color management knows 8 bits alone; working spaces of 16 bits (Adobe RGB, ProPhoto,
    Display P3) are of this kind. Gray pictures have three equal channels here.
    """
    try:
        curves, matrix = _curves_and_matrix(profile)
    # Offsets that lead out of the data, sizes that are none: as many kinds as those of damage.
    except (struct.error, ValueError, KeyError, IndexError, OverflowError):
        return rgb
    if matrix is None:
        return _to_srgb_levels(curves[0])[rgb]
    to_linear = np.linalg.inv(np.array(_SRGB_TO_XYZ)) @ matrix
    converted = np.empty_like(rgb)
    encode = _to_srgb_levels(np.linspace(0, 1, 65536))
    rows = max(1, _STRIP // max(1, rgb.shape[1]))
    for top in range(0, len(rgb), rows):
        strip = rgb[top : top + rows]
        light = np.stack([curves[i][strip[..., i]] for i in range(3)], axis=-1)
        linear = np.clip(light @ to_linear.T.astype(np.float32), 0, 1)
        # Where the curve is steep a table of light is too coarse.
        dark = _srgb_curve(linear)
        bright = encode[np.rint(linear * 65535).astype(np.uint16)]
        converted[top : top + rows] = np.where(
            linear < 0.05, np.rint(dark * 65535).astype(np.uint16), bright
        )
    return converted


def _to_srgb_levels(linear: np.ndarray) -> np.ndarray:
    return np.rint(_srgb_curve(np.clip(linear, 0, 1)) * 65535).astype(np.uint16)


def _srgb_curve(linear: np.ndarray) -> np.ndarray:
    return np.where(
        linear > 0.0031308,
        1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055,
        12.92 * linear,
    )


def _curves_and_matrix(profile: bytes) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Read light by level (65536 each) of each channel and the matrix from light to XYZ."""
    space = profile[16:20]
    (count,) = struct.unpack_from(">I", profile, 128)
    tags: dict[bytes, bytes] = {}
    for k in range(min(count, 100)):
        name, offset, size = struct.unpack_from(">4sII", profile, 132 + 12 * k)
        tags[name] = profile[offset : offset + size]
    if space == b"GRAY":
        return [_curve(tags[b"kTRC"])], None
    if space != b"RGB ":
        raise ValueError(f"a profile of {space!r}")
    curves = [_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")]
    columns = [struct.unpack_from(">3i", tags[name], 8) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    return curves, np.array(columns).T / 65536


def _curve(tag: bytes) -> np.ndarray:
    """Return light (65536,) by level of a curve, a table or a formula of ICC.1:2010, 10.15."""
    level = np.linspace(0, 1, 65536)
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        if count == 0:
            light = level
        elif count == 1:
            light = level ** (struct.unpack_from(">H", tag, 12)[0] / 256)
        else:
            table = np.frombuffer(tag, ">u2", count, 12) / 65535
            light = np.interp(level, np.linspace(0, 1, count), table)
    elif tag[:4] == b"para":
        light = _formula(tag, level)
    else:
        raise ValueError(f"a curve of kind {tag[:4]!r}")
    return np.clip(light, 0, 1).astype(np.float32)


def _formula(tag: bytes, level: np.ndarray) -> np.ndarray:
    (kind,) = struct.unpack_from(">H", tag, 8)
    numbers = struct.unpack_from(f">{(1, 3, 4, 5, 7)[kind]}i", tag, 12)
    gamma, a, b, c, d, e, f = (*(number / 65536 for number in numbers), *[0.0] * 7)[:7]
    match kind:
        case 0:
            return level**gamma
        case 1 | 2:
            if a == 0:
                raise ValueError("a curve without slope")
            power = np.maximum(a * level + b, 0) ** gamma
            rest = c if kind == 2 else 0.0
            return np.where(level >= -b / a, power + rest, rest)
        case _:
            power = np.maximum(a * level + b, 0) ** gamma
            return np.where(level >= d, power + e, c * level + f)
