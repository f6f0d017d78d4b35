"""One source made of several: their sets side by side, the training pictures in given shares."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from colorization.data.picture_sets import PictureSet, PictureSets


def mixed(parts: Sequence[PictureSets], weights: Sequence[float]) -> PictureSets:
    """Mix sources: their training sets in shares of the weights, the others as they are.

    Names begin with the number of the part, as in `0/`. A part's pictures are not compared with
    another's: a picture that one part trains on may be in the validation or test set of another.
    `ray_jobs/prepare.py` reads all pictures and finds such pairs.
    """
    train = MixedSet([part.train for part in parts], _counts(parts, weights))
    shares = ", ".join(
        f"{weight / sum(weights):.1%} {part.description}"
        for weight, part in zip(weights, parts, strict=True)
    )
    digest = blake2b(digest_size=6)
    for weight, part in zip(weights, parts, strict=True):
        digest.update(f"{weight / sum(weights):.9g} {part.fingerprint} ".encode())
    return PictureSets(
        train=train,
        validation=MixedSet([part.validation for part in parts]),
        test=MixedSet([part.test for part in parts]),
        description=f"a mixture, {len(train)} training pictures an epoch: {shares}",
        fingerprint=digest.hexdigest(),
        measures_generalization=all(part.measures_generalization for part in parts),
        unreadable=[f"{i}/{name}" for i, part in enumerate(parts) for name in part.unreadable],
    )


def _counts(parts: Sequence[PictureSets], weights: Sequence[float]) -> list[int]:
    """Return how many pictures of each part make an epoch: the fewest in the shares of the weights
    that show every picture."""
    lengths = [len(part.train) for part in parts]
    scale = max(length / weight for length, weight in zip(lengths, weights, strict=True))
    # The least one of the two: rounding may not lose a picture.
    return [max(n, round(scale * weight)) for n, weight in zip(lengths, weights, strict=True)]


class MixedSet:
    """Sets one after the other; one that is to give more pictures than it has repeats them evenly,
    under one name."""

    def __init__(self, sets: Sequence[PictureSet], counts: Sequence[int] | None = None) -> None:
        """Take the sets and how many pictures each gives (default: those it has)."""
        self.sets = sets
        self._first = np.cumsum([0, *(counts or map(len, sets))])

    def __len__(self) -> int:
        return int(self._first[-1])

    def picture(self, index: int, short_side: int = 0) -> np.ndarray:
        """Return a picture of one of the sets; raises UnreadablePicture."""
        part, own = self._place(index)
        return self.sets[part].picture(own, short_side)

    def name(self, index: int) -> str:
        """Return the number of the set and the picture's name in it."""
        part, own = self._place(index)
        return f"{part}/{self.sets[part].name(own)}"

    def _place(self, index: int) -> tuple[int, int]:
        part = int(np.searchsorted(self._first, index, side="right")) - 1
        return part, int(index - self._first[part]) % len(self.sets[part])
