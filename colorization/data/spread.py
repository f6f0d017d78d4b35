"""A few pictures of a set to be looked at, the same ones each time."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from colorization.data.picture_sets import PictureSet, planes_of
from colorization.pictures import UnreadablePicture


class Named(NamedTuple):
    """A picture, sRGB (H, W, 3) uint8, and what it is called."""

    name: str
    rgb: np.ndarray
    colored: np.ndarray | None = None  # (H, W, 2) uint8: colors that parts have already


def pictures_from_all_over(pictures: PictureSet, count: int) -> Iterator[Named]:
    """Yield up to `count` pictures from all over a set, as far as they can be read.

    One further at each, since sets may repeat themselves with a period.
    """
    count = min(count, len(pictures))
    chosen: set[int] = set()
    for i in range(count):
        at = (i * len(pictures) // count + i) % len(pictures)
        while at in chosen:
            at = (at + 1) % len(pictures)
        try:
            planes = planes_of(pictures, at)
        except UnreadablePicture:
            continue
        chosen.add(at)
        rgb = np.ascontiguousarray(planes[..., :3])
        yield Named(pictures.name(at), rgb, planes[..., 3:] if planes.shape[2] > 3 else None)
