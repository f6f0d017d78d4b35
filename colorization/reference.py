"""Colors from reference pictures, through the latents that a flow has for them (system A6)."""

import base64
import binascii
import math
from collections.abc import Callable
from typing import Annotated

import cv2
import torch
from pydantic import BeforeValidator, PlainSerializer, PlainValidator
from torch import Tensor

from colorization.color import AB_SCALE, rgb_to_lab
from colorization.matching import Features, features, most_alike
from colorization.models.colorizer import Colorizer, noise
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
    chroma = _mean_chroma(_decode(value))
    if chroma < _LEAST_CHROMA:
        raise ValueError(
            f"found a gray picture, its mean chroma is {chroma:.1f} units of Lab; one in the "
            "colors that are wanted is needed"
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


def _decode(data: bytes) -> Picture:
    return decode(data, "the reference", managed=True)[1]


def _mean_chroma(picture: Picture) -> float:
    small = cv2.resize(to_uint8(picture.rgb), (_SEEN, _SEEN), interpolation=cv2.INTER_AREA)
    ab = rgb_to_lab(torch.from_numpy(small).permute(2, 0, 1)[None])[:, 1:]
    return (ab.norm(dim=1).mean() * AB_SCALE).item()


class References:
    """Latents of the reference pictures that were asked for last, for pictures to be colored."""

    def __init__(self, model: Colorizer, see: Callable[[Picture], Tensor]) -> None:
        """Take a model that `encodes`, and what shows it a picture: its Lab (1, 3, h, w)."""
        self._model = model
        self._see = see
        self._encoded: tuple[tuple[bytes, ...], Tensor, list[Features]] | None = None

    def latents(
        self,
        references: tuple[bytes, ...],
        lightness: Tensor,
        samples: int,
        temperature: float | None,
        seed: int,
    ) -> Tensor:
        """Return latents for pictures of lightness (B, 1, h, w): (samples, B, *latent_shape).

        Each picture takes those of the reference whose brightness and texture are most like its
        own. The first sample's are the reference's own; the others' lie at an angle of
        `temperature` * 45 degrees from them toward a draw of `seed`, and so are as likely as any: 0
        is the reference, 1 (None) half of it and half noise, 2 noise alone.
        """
        encoded, described = self._encode(references)
        nearest = [most_alike(_features(one), described) for one in lightness]
        own = encoded[nearest]
        angle = (1.0 if temperature is None else temperature) * math.pi / 4
        drawn = noise(samples, own[0].numel(), own.device, seed).view(samples, 1, *own.shape[1:])
        mixed = math.cos(angle) * own + math.sin(angle) * drawn
        return torch.cat([own[None], mixed[1:]])

    def _encode(self, references: tuple[bytes, ...]) -> tuple[Tensor, list[Features]]:
        encoded = self._encoded
        if encoded is None or encoded[0] != references:
            seen = [self._see(_decode(data)) for data in references]
            with torch.autocast(seen[0].device.type, enabled=False):
                latents = torch.cat([self._model.latent_of(lab) for lab in seen])
            encoded = references, latents, [_features(lab[0, :1]) for lab in seen]
            self._encoded = encoded
        return encoded[1:]


def _features(lightness: Tensor) -> Features:
    return features(lightness[0].cpu().numpy())
