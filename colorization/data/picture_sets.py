"""What every source of pictures offers: three sets of pictures and an honest word about them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from colorization.config import Config


class PictureSet(Protocol):
    """Pictures that can be fetched by index, also by the worker processes of a loader."""

    def __len__(self) -> int: ...

    def picture(self, index: int, short_side: int = 0) -> np.ndarray:
        """Return sRGB (H, W, 3) uint8 of any size; raises UnreadablePicture.

        With `short_side` it may be smaller than it is stored, but not so much that its short side
        falls below so many pixels: decoding less is faster.
        """
        ...

    def name(self, index: int) -> str:
        """Return what tells a person which picture this is; unique within the set."""
        ...


@runtime_checkable
class PlanesSet(Protocol):
    """Pictures that may come with colors that parts of them have already (system A5)."""

    def planes(self, index: int, short_side: int = 0) -> np.ndarray:
        """Return what `planes_of` does of a picture; raises UnreadablePicture."""
        ...


def planes_of(pictures: PictureSet, index: int, short_side: int = 0) -> np.ndarray:
    """Return a picture's planes, (H, W, 3) or (H, W, 5) uint8; raises UnreadablePicture.

    sRGB, and behind it, where the set has them, the colors that parts of the picture have already,
    as `color.ab_to_bytes` writes them. `short_side` is as in `picture`.
    """
    if isinstance(pictures, PlanesSet):
        return pictures.planes(index, short_side)
    return pictures.picture(index, short_side)


class ColorStatistics(NamedTuple):
    """Mean and standard deviation of the scaled ab (ab / 110) of a training set."""

    mean: tuple[float, float]
    deviation: tuple[float, float]


@dataclass(frozen=True)
class PictureSets:
    """The three sets of a source; no picture (or part of one) belongs to two of them."""

    train: PictureSet
    validation: PictureSet
    test: PictureSet
    description: str  # for logs, tables and model cards
    fingerprint: str  # hex digits that stand for the contents and how they are split
    measures_generalization: bool  # False: scores show that the machinery works, no more
    unreadable: list[str] = field(default_factory=list)  # names found at opening, left out
    statistics: ColorStatistics | None = None  # where they were measured already
    short_side: int | None = None  # pixels that larger pictures were shrunk to, where they were


class Source(Config, ABC):
    """A kind of source: one member of the union `SourceConfig`."""

    @abstractmethod
    def open(self, max_unreadable: float) -> PictureSets:
        """Find the pictures and split them.

        Raises ConfigError where there are none, where a split comes out empty, or where more than
        the share `max_unreadable` of the pictures cannot be read.
        """


def some_names(names: Sequence[str], most: int = 5) -> str:
    """Write the first few names and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
