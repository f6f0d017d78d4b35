"""What the parts of the server say to each other about a picture that is to be colored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ColoringRequest:
    """An encoded picture, and how it is to be colored."""

    picture: bytes
    options: Mapping[str, Any]  # by the flat names of `color_flags`
    suffix: str | None = None  # of the format of the answer; None: the picture's own


@dataclass(frozen=True)
class Colored:
    """A picture's colorings, encoded, and the model that made them."""

    pictures: Sequence[bytes]
    suffix: str
    model: str
    version: str


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered by a picture: an HTTP status and a reason for a person."""

    status: int
    reason: str


Answer = Colored | Refusal
