"""What a picture file says beside its pixels: what stays true of a colored copy of it."""

import re
from dataclasses import dataclass, replace
from typing import Any

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from colorization.icc import srgb_profile

_BASE = ExifTags.Base
# Of the picture, its maker and its place in a collection; what describes the file's own pixels
# (size, strips, orientation, thumbnail) is left out.
_KEPT = (
    _BASE.DocumentName, _BASE.ImageDescription, _BASE.Make, _BASE.Model, _BASE.PageName,
    _BASE.Software, _BASE.DateTime, _BASE.Artist, _BASE.HostComputer, _BASE.Copyright,
    _BASE.Rating, _BASE.RatingPercent, _BASE.XPTitle, _BASE.XPComment, _BASE.XPAuthor,
    _BASE.XPKeywords, _BASE.XPSubject,
)  # fmt: skip
_LEFT_OUT = {_BASE.ExifInteroperabilityOffset, _BASE.ExifImageWidth, _BASE.ExifImageHeight}
_SRGB = 1
_MOST_EXIF, _MOST_XMP = 65_000, 65_000  # what a JPEG holds of each

_ORIENTATION = (
    re.compile(rb"""\s*tiff:Orientation\s*=\s*("[^"]*"|'[^']*')"""),
    re.compile(rb"<tiff:Orientation>[^<]*</tiff:Orientation>"),
)
_THUMBNAILS = re.compile(rb"<(xmp|xap):Thumbnails>.*?</\1:Thumbnails>", re.DOTALL)
_XMP_IN_PNG = "XML:com.adobe.xmp"

PROCESSING_SOFTWARE = 11  # EXIF's tag for what worked on a picture after the camera's software


@dataclass(frozen=True)
class Metadata:
    """What is put into a picture file beside pixels."""

    exif: bytes = b""  # with the prefix that JPEG wants
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None  # across, down
    tagged: bool = False  # as sRGB, by a profile

    def for_pillow(self, suffix: str) -> dict[str, Any]:
        """Return what `Image.save` takes for PNG, JPEG or WebP files, by suffix."""
        said: dict[str, Any] = {}
        if self.exif:
            said["exif"] = self.exif
        if self.tagged:
            said["icc_profile"] = srgb_profile()
        if self.dpi is not None and suffix != ".webp":
            said["dpi"] = self.dpi
        if self.xmp:
            if suffix == ".png":
                said["pnginfo"] = PngInfo()
                said["pnginfo"].add_itxt(_XMP_IN_PNG, self.xmp.decode("utf-8", "replace"))
            else:
                said["xmp"] = self.xmp
        return said


NO_METADATA = Metadata()


def read_metadata(image: Image.Image) -> tuple[Metadata, str]:
    """Return what stays true of a decoded picture's colored copy, and what had to be left out.

    Orientation is left out since the pixels are upright, sizes and thumbnails since they are of
    other pixels. The second value is empty or says what is damaged or too large.
    """
    left_out: list[str] = []
    turned = image.info.get("turned", False)
    exif = b""
    try:
        found = image.getexif()
        turned = turned or found.get(_BASE.Orientation, 1) in (5, 6, 7, 8)
        exif = _kept(found)
    # Pillow's readers and writers raise whatever the damage leads to.
    except Exception as error:
        left_out.append(f"EXIF, which is damaged ({error})")
    if len(exif) > _MOST_EXIF:
        left_out.append("EXIF, which is larger than 64 kB")
        exif = b""
    xmp = _xmp(image)
    if len(xmp) > _MOST_XMP:
        left_out.append("XMP, which is larger than 64 kB")
        xmp = b""
    metadata = Metadata(exif, xmp, _dpi(image, turned), bool(image.info.get("icc_profile")))
    return metadata, " and ".join(left_out)


def signed(metadata: Metadata, record: str) -> Metadata:
    """Return metadata that say what made the picture."""
    exif = Image.Exif()
    exif.load(metadata.exif or b"Exif\x00\x00")
    exif[PROCESSING_SOFTWARE] = record
    return replace(metadata, exif=_bytes(exif))


def _kept(found: Image.Exif) -> bytes:
    kept = Image.Exif()
    for tag in _KEPT:
        if (value := found.get(tag)) not in (None, "", b""):
            kept[tag] = value
    details = found.get_ifd(ExifTags.IFD.Exif)
    details = {tag: value for tag, value in details.items() if tag not in _LEFT_OUT}
    if details:
        details[_BASE.ColorSpace] = _SRGB
        kept[ExifTags.IFD.Exif] = details
    if place := found.get_ifd(ExifTags.IFD.GPSInfo):
        kept[ExifTags.IFD.GPSInfo] = dict(place)
    return _bytes(kept) if len(kept) else b""


def _bytes(exif: Image.Exif) -> bytes:
    content = exif.tobytes()
    return content if content.startswith(b"Exif\x00\x00") else b"Exif\x00\x00" + content


def _xmp(image: Image.Image) -> bytes:
    xmp = image.info.get("xmp") or image.info.get(_XMP_IN_PNG) or b""
    if isinstance(xmp, str):
        xmp = xmp.encode()
    if not isinstance(xmp, bytes):
        return b""
    for pattern in _ORIENTATION:
        xmp = pattern.sub(b"", xmp)
    return _THUMBNAILS.sub(b"", xmp)


def _dpi(image: Image.Image, turned: bool) -> tuple[float, float] | None:
    try:
        across, down = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):  # none said, or no numbers
        return None
    if not (1 <= across <= 10_000 and 1 <= down <= 10_000):
        return None
    return (down, across) if turned else (across, down)
