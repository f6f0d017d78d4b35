"""Pictures for a scene model to train on: what an instance model made of the things in them."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import NamedTuple, Protocol

import numpy as np

from colorization.color import ab_to_bytes
from colorization.coloring import ColorOptions
from colorization.data.collection import Collection
from colorization.data.curation.candidate import Candidate
from colorization.data.given_instances import GivenInstances
from colorization.inference import PictureColorizer
from colorization.instance_colors import Crops, partly_color, see_crops
from colorization.instances import find_instances
from colorization.pictures import Picture, UnreadablePicture

_TOGETHER = 8  # pictures whose crops pass through the model together, with the same noise
_Added = tuple[Candidate, np.ndarray | None]


class Deaths(Protocol):
    """Knows at what processes died that did this work before."""

    def gives_up(self, work: str) -> bool:
        """Tell whether processes died at a piece of work often enough."""
        ...

    def begin(self, work: str) -> None:
        """Take note of a piece of work before it is begun."""
        ...


class Seen(NamedTuple):
    """A picture that was looked at, as `candidate.look` returns it."""

    number: int  # in its collection
    candidate: Candidate
    rgb: np.ndarray | None  # sRGB (H, W, 3) uint8 as it is to be packed; None where it is dropped


class PartlyColoring:
    """Colors the instances of pictures as they will be colored when the pair is used.

    Crops are cut out of the pictures as they lie in their source, at their full size.
    """

    def __init__(
        self,
        instance: PictureColorizer,
        given: GivenInstances,
        min_score: float,
        min_side: int,
        labels: Sequence[str] = (),
    ) -> None:
        """Take the instance model, and which are colored: of these classes (none: of all)."""
        self._instance, self._given = instance, given
        self._min_score, self._min_side, self._labels = min_score, min_side, labels

    def add(
        self, collection: Collection, looked: Sequence[Seen], deaths: Deaths | None = None
    ) -> list[_Added]:
        """Return pictures with two planes more, (H, W, 5) as `planes_of` has them.

        One whose instances do not fit is dropped. What is drawn depends on the pictures that pass
        through the model together, and on nothing else; where `deaths` gives such a group up, its
        pictures go one by one, and one that is given up as well is dropped.
        """
        added: list[_Added] = []
        for start in range(0, len(looked), _TOGETHER):
            group = looked[start : start + _TOGETHER]
            if deaths is None:
                added += self._add(collection, group)
            elif not deaths.gives_up(work := _work(group)):
                deaths.begin(work)
                added += self._add(collection, group)
            else:
                for one in group:
                    added += self._alone(collection, one, deaths)
        return added

    def _alone(self, collection: Collection, one: Seen, deaths: Deaths) -> list[_Added]:
        work = f"{_work([one])} alone"
        if deaths.gives_up(work):
            reason = "processes that colored the things in it died"
            return [(replace(one.candidate, dropped="unreadable", reason=reason), None)]
        deaths.begin(work)
        return self._add(collection, [one])

    def _add(self, collection: Collection, looked: Sequence[Seen]) -> list[_Added]:
        crops = [self._look(collection, one) for one in looked]
        kept = [
            (one.rgb, found)
            for one, found in zip(looked, crops, strict=True)
            if one.rgb is not None and isinstance(found, Crops)
        ]
        contents = "".join(one.candidate.content for one in looked)
        seed = int.from_bytes(blake2b(contents.encode(), digest_size=7).digest())
        colored = partly_color(
            self._instance,
            [found for _, found in kept],
            [(rgb.shape[0], rgb.shape[1]) for rgb, _ in kept],
            ColorOptions(seed=seed),
        )
        pictures = iter(
            np.concatenate([rgb, ab_to_bytes(ab[0]).permute(1, 2, 0).cpu().numpy()], axis=2)
            for (rgb, _), ab in zip(kept, colored, strict=True)
        )
        return [
            (replace(one.candidate, dropped="unreadable", reason=found), None)
            if isinstance(found, str)
            else (one.candidate, None if one.rgb is None else next(pictures))
            for one, found in zip(looked, crops, strict=True)
        ]

    def _look(self, collection: Collection, one: Seen) -> Crops | str | None:
        """Return a picture's crops, or why it has none; None of one that is dropped already."""
        if one.rgb is None:
            return None
        name = one.candidate.name
        try:
            picture = Picture(collection.picture(one.number))
            options = self._given.options(name, self._min_score, self._min_side)
            found = find_instances(picture.rgb, options, name, labels=self._labels)
        except UnreadablePicture as error:
            return str(error)
        return see_crops(self._instance, picture, found)


def _work(group: Sequence[Seen]) -> str:
    return f"coloring {group[0].number} to {group[-1].number}"
