"""The things in pictures as pictures of their own: what system A5's instance model trains on."""

import json
from collections.abc import Collection as Labels
from typing import NamedTuple

import numpy as np

from colorization.config import dump
from colorization.data.collection import Collection
from colorization.data.given_instances import GivenInstances
from colorization.data.splits import Split, digest_of
from colorization.instances import GivenInstance, InstancesDoNotFit
from colorization.pasting import square_crop

_MARK = "#"  # between the name of a picture and the number of the thing in it
_BEHIND = b"\0crop "  # between the content of a picture and what is cut out of it


class _Crop(NamedTuple):
    picture: int  # index in the collection
    given: GivenInstance


def picture_of(name: str) -> str:
    """Return the name of the picture that a crop of this name is from."""
    return name.rpartition(_MARK)[0]


class CropCollection(Collection):
    """The instances of a collection's pictures, each stretched to a square as models see crops.

    `a/b.jpg#2` is the third that is said to be in a/b.jpg. All crops of a picture go by its split:
    the same as that of the whole picture where this is prepared by itself.
    """

    def __init__(
        self,
        pictures: Collection,
        given: GivenInstances,
        min_score: float,
        min_side: int,
        labels: Labels[str] = (),
    ) -> None:
        """Take the instances that are sure and large enough, of these classes (none: of all)."""
        names: list[str] = []
        splits: list[Split | None] = []
        self._pictures, self._min_side = pictures, min_side
        self._crops: list[_Crop] = []
        self._last: tuple[int, bytes | None, np.ndarray | None] = (-1, None, None)
        for index, name in enumerate(pictures.names):
            for number, one in enumerate(given.told(name)):
                large = min(one.bbox[2:]) >= min_side
                if one.score > min_score and large and (not labels or one.label in labels):
                    names.append(f"{name}{_MARK}{number}")
                    splits.append(pictures.given[index])
                    # Of its mask nothing is needed, and there may be millions.
                    bare = one.model_copy(update={"segmentation": None})
                    self._crops.append(_Crop(index, bare))
        super().__init__(f"the instances of {pictures.place}", names, splits)

    def content(self, index: int) -> bytes:
        """Return the content of the picture and what is cut out of it."""
        picture, given = self._crops[index]
        last, content, rgb = self._last
        if last != picture or content is None:
            content = self._pictures.content(picture)
            self._last = (picture, content, rgb if last == picture else None)
        return content + _BEHIND + json.dumps(given.bbox).encode()

    def split_digest(self, content: bytes) -> bytes:
        """Return the digest of the picture, which is that of all its crops."""
        return digest_of(content.rpartition(_BEHIND)[0])

    def digest(self, index: int) -> bytes:
        """Return the digest of the picture that a crop is from."""
        return self.split_digest(self.content(index))

    def picture(self, index: int, short_side: int = 0) -> np.ndarray:
        """Cut a crop out of its picture; raises UnreadablePicture, also where it does not fit."""
        picture, given = self._crops[index]
        last, content, rgb = self._last
        if last != picture or rgb is None:
            rgb = self._pictures.picture(picture)
            self._last = (picture, content if last == picture else None, rgb)
        box = given.place(*rgb.shape[:2]).box
        if min(box.width, box.height) < self._min_side:
            raise InstancesDoNotFit(
                f"{self.names[index]}: {box.width} x {box.height} pixels of it lie within the "
                f"picture; {self._min_side} are needed"
            )
        return square_crop(rgb, box, short_side or max(box.width, box.height))

    def version(self, index: int) -> str:
        """Return the version of the picture, and what is cut out of it."""
        picture, given = self._crops[index]
        return f"{self._pictures.version(picture)} {json.dumps(dump(given))}"
