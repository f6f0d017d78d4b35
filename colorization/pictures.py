"""Picture files and bytes to arrays and back: whatever people have, as it is meant to be seen."""

import codecs
import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from colorization.deep_pictures import (
    bits_a_channel,
    global_settings,
    orient,
    read_deep_color,
    read_deep_gray,
)
from colorization.encoders import encode_deep_png, encode_tiff
from colorization.icc import deep_to_srgb, image_to_srgb
from colorization.jpeg import decode_jpeg, plain_size
from colorization.metadata import NO_METADATA, Metadata

MAX_MEGAPIXELS = 250
WRITABLE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
_READABLE_SUFFIXES = (".jfif", ".mpo", ".gif", ".bmp", ".dib", ".ico", ".avif", ".jp2", ".j2k")
_LARGEST_SIDE = {".jpg": 65500, ".jpeg": 65500, ".webp": 16383}
_NETPBM_SUFFIXES = (".pbm", ".pgm", ".ppm", ".pnm")
PICTURE_SUFFIXES = frozenset(
    (*WRITABLE_SUFFIXES, *_READABLE_SUFFIXES, *_NETPBM_SUFFIXES, ".psd", ".sgi")
)

# Named one by one because Pillow would run an external program for some (EPS) and takes text for
# others (TGA has no signature).
_FORMATS = (
    "JPEG",
    "MPO",
    "PNG",
    "TIFF",
    "WEBP",
    "GIF",
    "BMP",
    "DIB",
    "ICO",
    "AVIF",
    "JPEG2000",
)
_FORMATS += ("PPM", "PSD", "SGI")
_WANTED = "needed is a whole picture (JPEG, PNG, TIFF, WebP, GIF, BMP, AVIF or JPEG 2000)"


class UnreadablePicture(ValueError):
    """Not a picture that can be used: names the file, what was found and what would be right."""


@dataclass(frozen=True)
class Picture:
    """A picture as it is seen (orientation applied).

    `rgb` is (H, W, 3), uint8 or uint16 over its full range, sRGB; `alpha` is (H, W) of the same
    type, or None where the picture is opaque by kind.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None


def read_picture(source: Path | bytes, name: str | None = None) -> Picture:
    """Read a picture of any common kind: gray, color, palette, CMYK, 1 to 16 bits, with alpha.

    The EXIF orientation is applied, the first frame of an animation is taken, 16-bit PNG and TIFF
    keep 16 bits, float TIFF in [0, 1] becomes 16 bits. CMYK is converted without its color profile
    and other profiles are ignored (`decode` can follow them). `name` is what errors call the
    picture (default: the path).

    Raises UnreadablePicture for what is missing, empty, truncated, no picture, larger than
    MAX_MEGAPIXELS or of an unsupported kind.
    """
    data, name = _load_bytes(source, name)
    return decode(data, name)[1]


def decode(data: bytes, name: str, *, managed: bool = False) -> tuple[Image.Image, Picture]:
    """Read a picture as `read_picture` does; return it with Pillow's image of it, for its metadata.

    `managed`: pixels are converted to sRGB by the picture's color profile, where it has one that
    can be followed. The image's `info["turned"]` says whether it was stored on its side, PNG aside.
    Raises UnreadablePicture.
    """
    image = open_header(data, name)
    profile = image.info.get("icc_profile") if managed else None
    # Said before decoding, after which Pillow has turned a TIFF and forgotten it.
    image.info["turned"] = image.format != "PNG" and _is_turned(image)
    with _decoding(image, name):
        if image.mode in ("I", "F") or image.mode.startswith("I;"):
            rgb, alpha = read_deep_gray(image)
        elif bits_a_channel(image, data) > 8 and image.mode in ("LA", "RGB", "RGBA"):
            rgb, alpha = read_deep_color(image, data)
        else:
            return image, _read_8_bit(image, profile)
        return image, Picture(deep_to_srgb(rgb, profile) if profile else rgb, alpha)


def read_rgb(source: Path | bytes, name: str | None = None, short_side: int = 0) -> np.ndarray:
    """Read a picture as (H, W, 3) uint8, equal to `read_picture(...).rgb` rounded to 8 bits.

    The fast path of training data: JPEG is decoded by cv2, about twice as fast as by Pillow for
    large photographs, and with `short_side` at a half, a quarter or an eighth of its size as long
    as the short side keeps so many pixels.

    Raises UnreadablePicture as `read_picture` does.
    """
    data, name = _load_bytes(source, name)
    size = plain_size(data)
    if size is not None and size[0] * size[1] <= MAX_MEGAPIXELS * 1e6:
        rgb = decode_jpeg(data, size, short_side)
        if rgb is not None:
            return rgb
    image = open_header(data, name)
    # cv2's CMYK conversion is further from the truth than Pillow's.
    if image.format == "JPEG" and image.mode in ("L", "RGB"):
        rgb = decode_jpeg(data, image.size, short_side)
        # None is a damaged file: the way below says what is wrong with it.
        if rgb is not None:
            with _decoding(image, name):
                return orient(rgb, image.getexif().get(ExifTags.Base.Orientation, 1))
    return to_uint8(read_picture(data, name).rgb)


class Header(NamedTuple):
    """What an encoded picture says of itself before its pixels."""

    format: str  # Pillow's names: JPEG, PNG
    mode: str  # RGB, L, I;16
    size: tuple[int, int]  # width, height; for JPEG as it is seen, else as it is stored


def read_header(data: bytes, name: str) -> Header:
    """Read the header of an encoded picture; raises UnreadablePicture where it is none."""
    image = open_header(data, name)
    width, height = image.size
    # In a PNG the orientation may stand behind the pixels.
    if image.format == "JPEG" and _is_turned(image):
        width, height = height, width
    return Header(image.format or "", image.mode, (width, height))


def check_header(data: bytes, name: str) -> None:
    """Look at the header of an encoded picture; raises UnreadablePicture where it is none.

    `data` may end before the pixels do.
    """
    open_header(data, name)


def read_file(path: Path, name: str) -> bytes:
    """Read a picture's file; raises UnreadablePicture."""
    check_regular(path, name)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UnreadablePicture(f"{name}: no such file") from None
    except IsADirectoryError:
        raise UnreadablePicture(f"{name}: found a folder, needed is one picture") from None
    except OSError as error:
        raise UnreadablePicture(f"{name}: cannot be opened: {error.strerror}") from error


def check_regular(path: Path, name: str) -> None:
    """Raise UnreadablePicture for pipes and devices, whose reading might never end."""
    try:
        mode = path.stat().st_mode
    except OSError:  # opening it says why
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UnreadablePicture(f"{name}: found a pipe or a device, needed is a file")


def to_uint8(array: np.ndarray) -> np.ndarray:
    """Round uint16 over its full range to uint8; uint8 is returned as it is."""
    if array.dtype == np.uint8:
        return array
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)


def encode_picture(
    picture: Picture, suffix: str, metadata: Metadata = NO_METADATA, quality: int = 95
) -> bytes:
    """Encode a picture in the format of a suffix, one of WRITABLE_SUFFIXES in any case.

    PNG, TIFF and WebP are lossless, JPEG has the `quality` with colors at full resolution. JPEG and
    WebP hold 8 bits: 16 are rounded. JPEG holds no transparency: it is laid on white.

    Raises ValueError for another suffix and for a picture larger than the format can hold.
    """
    suffix = suffix.lower()
    if suffix not in WRITABLE_SUFFIXES:
        raise ValueError(f"cannot write {suffix or 'a name without suffix'}: use .png or .jpg")
    limit = _LARGEST_SIDE.get(suffix, 2**31)
    if max(picture.rgb.shape[:2]) > limit:
        height, width = picture.rgb.shape[:2]
        raise ValueError(
            f"{width} x {height} pixels do not fit into {suffix} files, whose sides have at most "
            f"{limit}: use .png"
        )
    if suffix in (".tif", ".tiff"):
        return encode_tiff(picture.rgb, picture.alpha, metadata)
    if suffix == ".png" and picture.rgb.dtype == np.uint16:
        return encode_deep_png(picture.rgb, picture.alpha, metadata)
    rgb = to_uint8(picture.rgb)
    alpha = None if picture.alpha is None else to_uint8(picture.alpha)
    buffer = io.BytesIO()
    said = metadata.for_pillow(suffix)
    if suffix in (".jpg", ".jpeg"):
        if alpha is not None:
            share = alpha[..., None].astype(np.float32) / 255
            rgb = np.rint(rgb * share + 255 * (1 - share)).astype(np.uint8)
        Image.fromarray(rgb).save(buffer, "JPEG", quality=quality, subsampling=0, **said)
        return buffer.getvalue()
    image = Image.fromarray(rgb if alpha is None else np.dstack((rgb, alpha)))
    if suffix == ".png":
        image.save(buffer, "PNG", **said)
    else:
        image.save(buffer, "WEBP", lossless=True, exact=True, **said)
    return buffer.getvalue()


def write_picture(picture: Picture, path: Path) -> None:
    """Write a picture in the format of the path's suffix; the file appears whole or not at all.

    Raises ValueError for a suffix that cannot be written and OSError where the disk refuses.
    """
    replace_file(path, encode_picture(picture, path.suffix))


def replace_file(path: Path, content: bytes) -> None:
    """Write a file in one step, with the folders above it: readers see all of it or the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid4().hex}.part")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def format_suffix(data: bytes) -> str | None:
    """Return the suffix of the writable format that encoded bytes are in, None for others."""
    if data.startswith(b"\xff\xd8\xff"):
        return ".jpg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return ".png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    if data.startswith((b"II*\0", b"MM\0*")):
        return ".tif"
    return None


def _load_bytes(source: Path | bytes, name: str | None) -> tuple[bytes, str]:
    if not isinstance(source, Path):
        return source, name or f"picture of {len(source)} bytes"
    name = name or str(source)
    return read_file(source, name), name


def open_header(data: bytes, name: str) -> Image.Image:
    """Read the header only; raises UnreadablePicture for what is none, or of too many pixels."""
    Image.init()
    with global_settings, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            known = [kind for kind in _FORMATS if kind in Image.OPEN]
            image = Image.open(io.BytesIO(data), formats=known)
            if image.format != "PNG":  # whose EXIF may stand behind the pixels
                image.getexif()  # kept by the image; read here for its warnings
        except UnidentifiedImageError as error:
            raise UnreadablePicture(f"{name}: found {_describe(data)}; {_WANTED}") from error
        # Pillow's readers raise whatever the damage leads to; none of it may end a folder's run.
        except Exception as error:
            found = f"a damaged header ({error})"
            raise UnreadablePicture(f"{name}: found {found}; {_WANTED}") from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    megapixels = image.width * image.height / 1e6
    if megapixels > MAX_MEGAPIXELS:
        raise UnreadablePicture(
            f"{name}: found {image.width} x {image.height} pixels ({megapixels:.0f} megapixels); "
            f"at most {MAX_MEGAPIXELS} megapixels are read, make it smaller first"
        )
    return image


def _is_turned(image: Image.Image) -> bool:
    return image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)


@contextmanager
def _decoding(image: Image.Image, name: str) -> Iterator[None]:
    """Turn what a decoder says about damaged data into UnreadablePicture."""
    try:
        yield
    except (UnreadablePicture, MemoryError):
        raise
    # The same as for headers: the kinds of error are as many as the kinds of damage.
    except Exception as error:
        found = f"a {image.format} picture that is damaged or of an unknown kind ({error})"
        raise UnreadablePicture(f"{name}: found {found}; {_WANTED}") from error


def _describe(data: bytes) -> str:
    start = data[:512].lstrip().lower()
    if not data:
        return "an empty file"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if start.startswith(b"%pdf"):
        return "a PDF document"
    if start[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
        return "a HEIC picture (convert it to JPEG)"
    if (suffix := format_suffix(data)) is not None:
        return f"a {suffix[1:].upper()} header without a picture that can be read"
    try:  # incremental, because the cut may fall inside a letter
        text = codecs.getincrementaldecoder("utf-8")().decode(data[:512])
    except UnicodeDecodeError:
        return "data that is no picture"
    readable = all(letter.isprintable() or letter.isspace() for letter in text)
    return "text" if readable else "data that is no picture"


def _read_8_bit(image: Image.Image, profile: bytes | None) -> Picture:
    image = ImageOps.exif_transpose(image)
    if profile:
        image = image_to_srgb(image, profile)
    if not image.has_transparency_data:
        return Picture(np.asarray(image.convert("RGB")))
    rgba = np.asarray(image.convert("RGBA"))
    return Picture(np.ascontiguousarray(rgba[..., :3]), np.ascontiguousarray(rgba[..., 3]))
