"""Pictures whose colors others are to take (system A6), as options hold them."""

from typing import Annotated

import cv2
import numpy as np
import torch
from pydantic import BeforeValidator, PlainValidator

from colorization.color import AB_SCALE, rgb_to_lab
from colorization.encoded_pictures import AS_TEXT, encoded_picture
from colorization.pictures import Picture, decode, to_uint8

MAX_REFERENCES = 16
MAX_REFERENCE_MEGAPIXELS = 50
_LEAST_CHROMA = 1.0  # units of Lab in the mean; grays that JPEG tinted stay below
_SEEN = 64  # pixels of a side; noise of coding is averaged away


def _read_reference(value: object) -> bytes:
    advice = "of a smaller one the colors are the same"
    data = encoded_picture(value, "reference", MAX_REFERENCE_MEGAPIXELS, advice)
    chroma = _mean_chroma(decode_reference(data))
    if chroma < _LEAST_CHROMA:
        raise ValueError(
            f"found a gray picture, its mean chroma is {chroma:.1f} units of Lab where it can be "
            "seen; one in the colors that are wanted is needed"
        )
    return data


def _several(value: object) -> object:
    """Take one picture for several, and text with commas for a list."""
    if isinstance(value, str):
        value = [one.strip() for one in value.split(",")]
    if isinstance(value, bytes):
        value = [value]
    if isinstance(value, (list, tuple)) and len(value) > MAX_REFERENCES:
        raise ValueError(f"found {len(value)} pictures, at most {MAX_REFERENCES} are taken")
    return value


EncodedReferences = Annotated[
    tuple[Annotated[bytes, PlainValidator(_read_reference), AS_TEXT], ...],
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
