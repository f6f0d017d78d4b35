"""Pictures whose colors others are to take (system A6), as options hold them."""

import base64
import binascii
from typing import Annotated

import cv2
import numpy as np
import torch
from pydantic import BeforeValidator, PlainSerializer, PlainValidator

from colorization.color import AB_SCALE, rgb_to_lab
from colorization.pictures import Picture, decode, read_header, to_uint8

MAX_REFERENCES = 16
MAX_REFERENCE_MEGAPIXELS = 50
_LEAST_CHROMA = 1.0  # units of Lab in the mean; grays that JPEG tinted stay below
_SEEN = 64  # pixels of a side; noise of coding is averaged away


def _read_reference(value: object) -> bytes:
    """Take an encoded picture as bytes, or its base64; raises ValueError for none with colors."""
    if isinstance(value, str):
        try:
            value = base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ValueError(f"found text that is no base64 of a picture ({error})") from error
    if not isinstance(value, bytes):
        raise ValueError(f"found {type(value).__name__}; an encoded picture is needed")
    width, height = read_header(value, "the reference").size
    if width * height > MAX_REFERENCE_MEGAPIXELS * 1e6:
        raise ValueError(
            f"found a reference of {width} x {height} pixels; at most {MAX_REFERENCE_MEGAPIXELS} "
            "megapixels are taken: of a smaller one the colors are the same"
        )
    chroma = _mean_chroma(decode_reference(value))
    if chroma < _LEAST_CHROMA:
        raise ValueError(
            f"found a gray picture, its mean chroma is {chroma:.1f} units of Lab where it can be "
            "seen; one in the colors that are wanted is needed"
        )
    return value


def _several(value: object) -> object:
    """Take one picture for several, and text with commas for a list."""
    if isinstance(value, str):
        value = [one.strip() for one in value.split(",")]
    if isinstance(value, bytes):
        value = [value]
    if isinstance(value, (list, tuple)) and len(value) > MAX_REFERENCES:
        raise ValueError(f"found {len(value)} pictures, at most {MAX_REFERENCES} are taken")
    return value


# Bytes in Python, base64 in files and over HTTP.
EncodedReferences = Annotated[
    tuple[
        Annotated[
            bytes,
            PlainValidator(_read_reference),
            PlainSerializer(lambda data: base64.b64encode(data).decode(), when_used="json"),
        ],
        ...,
    ],
    BeforeValidator(_several),
]


def reference_name(index: int) -> str:
    """Return what instances that are given name a reference: `reference 1` is the first."""
    return f"reference {index + 1}"


def decode_reference(data: bytes) -> Picture:
    """Return a reference, upright and by its color profile; gray where it cannot be seen."""
    picture = decode(data, "the reference", managed=True)[1]
    visible = visible_part(picture)
    if visible is None:
        return picture
    grays = cv2.cvtColor(picture.rgb, cv2.COLOR_RGB2GRAY)
    return Picture(np.where(visible[..., None], picture.rgb, grays[..., None]), picture.alpha)


def visible_part(picture: Picture) -> np.ndarray | None:
    """Return where a picture (H, W) is more than half opaque; None for one without alpha."""
    if picture.alpha is None:
        return None
    return picture.alpha > np.iinfo(picture.alpha.dtype).max / 2


def _mean_chroma(picture: Picture) -> float:
    """Return the mean chroma of what can be seen of a picture, in units of Lab."""
    small = cv2.resize(to_uint8(picture.rgb), (_SEEN, _SEEN), interpolation=cv2.INTER_AREA)
    chroma = rgb_to_lab(torch.from_numpy(small).permute(2, 0, 1)[None])[0, 1:].norm(dim=0)
    visible = visible_part(picture)
    shares = np.ones(picture.rgb.shape[:2], np.float32) if visible is None else visible
    weights = cv2.resize(shares.astype(np.float32), (_SEEN, _SEEN), interpolation=cv2.INTER_AREA)
    seen = float(weights.sum())
    # What is hidden is gray by then, and has no part in the sum.
    return (chroma.sum() * AB_SCALE).item() / seen if seen else 0.0
