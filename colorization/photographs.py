"""A picture file with what it says of itself, and its colored copy."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from colorization.coloring import ColorOptions
from colorization.config import dump
from colorization.foreground import MaskDoesNotFit
from colorization.inference import DEFAULTS, PictureColorizer
from colorization.instances import EVERY_PICTURE, InstancesDoNotFit
from colorization.metadata import PROCESSING_SOFTWARE, Metadata, read_metadata, signed
from colorization.pictures import (
    Picture,
    UnreadablePicture,
    decode,
    encode_picture,
    format_suffix,
    open_header,
    read_file,
)
from colorization.reference import reference_name

_MAKER = "colorization"
_VERSION = 1  # of what a model's colors are made into; a higher one makes finished files anew
_REFERENCE_VERSION = 2  # of how a reference's colors are taken; as above, for files with one


class Photograph(NamedTuple):
    """A picture, upright and sRGB, and what its copy is to keep."""

    picture: Picture
    metadata: Metadata
    suffix: str  # of the format that a copy is written in
    digest: str  # of the file
    note: str  # what was left out of the metadata and why; mostly empty

    @staticmethod
    def digest_of(data: bytes) -> str:
        """Return the digest of a file's content."""
        return hashlib.sha256(data).hexdigest()


def read_photograph(data: bytes, name: str | None = None) -> Photograph:
    """Decode a picture file, to sRGB by its color profile where it has one.

    Raises UnreadablePicture, which calls the picture `name`.
    """
    image, picture = decode(data, name or f"picture of {len(data)} bytes", managed=True)
    metadata, left_out = read_metadata(image)
    note = f"{name}: left out {left_out}" if left_out else ""
    return Photograph(
        picture, metadata, format_suffix(data) or ".png", Photograph.digest_of(data), note
    )


def write_photograph(
    colored: Picture, photograph: Photograph, record: str, suffix: str | None = None
) -> bytes:
    """Encode a colored copy with the metadata of the original, signed by a record.

    Raises UnreadablePicture where it does not fit into the format.
    """
    try:
        metadata = signed(photograph.metadata, record)
        return encode_picture(colored, suffix or photograph.suffix, metadata)
    except ValueError as error:
        raise UnreadablePicture(str(error)) from error


class Signature:
    """What a colorizer signs its pictures by: the same for the same weights, options and file."""

    def __init__(self, colorizer: PictureColorizer, options: ColorOptions) -> None:
        self._instances = options.instances
        told = dump(options)
        if not told["reference"]:  # as if there were no such option: files from before are known
            del told["reference"]
        instances = told.pop("instances")
        if instances is not None:  # others than a picture's own, and references', do not change it
            names = {reference_name(number) for number in range(len(options.reference))}
            given = instances["given"]
            part = None if given is None else {k: v for k, v in given.items() if k in names}
            told["instances"] = {**instances, "given": part}
        version = _REFERENCE_VERSION if options.reference else _VERSION
        settings = {"version": version, "size": colorizer.size, "options": told}
        self._start = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        self._start.update(colorizer.digest.encode())

    def record(self, digest: str, part: str = "", name: str = EVERY_PICTURE) -> str:
        """Return the record of a part of what a file with this digest is made into; `name` is what
        the options may call it."""
        signature = self._start.copy()
        signature.update(f"{digest} {part}".encode())
        if self._instances is not None and self._instances.given is not None:
            told = [dump(one) for one in self._instances.told(name)]
            signature.update(json.dumps(told, sort_keys=True).encode())
        return f"{_MAKER} {signature.hexdigest()[:20]}"


def is_record(text: object) -> bool:
    """Tell whether text found in a picture is a record of any colorizer."""
    return isinstance(text, str) and text.startswith(f"{_MAKER} ")


def signature_of(path: Path) -> str | None:
    """Return the record that a picture file is signed by; None where there is none."""
    try:
        image = open_header(read_file(path, str(path)), str(path))
    except UnreadablePicture:
        return None
    # Of a PNG Pillow would decode all pixels in search of what stands behind them.
    if image.format == "PNG" and "exif" not in image.info:
        return None
    try:
        found = image.getexif().get(PROCESSING_SOFTWARE)
    # Pillow's readers raise whatever the damage leads to; damaged EXIF is none of a colorizer's.
    except Exception:
        return None
    return found if isinstance(found, str) else None


def colorize_bytes(
    colorizer: PictureColorizer,
    data: bytes,
    options: ColorOptions = DEFAULTS,
    name: str | None = None,
) -> list[bytes]:
    """Color an encoded picture and encode it again, in the same size, once for each sample.

    PNG, TIFF and WebP come back in their format and lossless, JPEG as JPEG, everything else as PNG,
    with the original's metadata: byte for byte what the command line writes.
    Raises UnreadablePicture, which calls the picture `name`, and ConfigError for options that the
    model cannot follow.
    """
    photograph = read_photograph(data, name)
    signature = Signature(colorizer, options)
    try:
        return [
            write_photograph(colored, photograph, signature.record(photograph.digest, f"{sample}"))
            for sample, colored in enumerate(colorizer.samples(photograph.picture, options))
        ]
    except (MaskDoesNotFit, InstancesDoNotFit) as error:
        raise type(error)(f"{name}: {error}" if name else str(error)) from error
