"""All pictures that a source holds, and how they become training, validation and test sets."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple

import numpy as np
from pydantic import AfterValidator, Field

from colorization.config import ConfigError
from colorization.data.picture_sets import PictureSets, Source, some_names
from colorization.data.splits import (
    PROBE,
    SPLITS,
    SharesText,
    Split,
    content_digest,
    digest_of,
    fingerprint,
    parse_shares,
    split_all,
)
from colorization.pictures import UnreadablePicture, check_header, read_rgb

_READERS = 16  # threads that check headers: they wait for the disk, not for a processor


class Instance(NamedTuple):
    """A thing in a picture."""

    label: str  # name of its class: person
    share: float  # of the picture's area that it covers, in [0, 1]
    score: float = 1.0  # how sure a detector is, in [0, 1]


class Collection(ABC):
    """All pictures of a source, in an order that is the same on every machine.

    Worker processes get a copy of it: it must survive pickling and being forked.
    """

    def __init__(
        self, place: str, names: Sequence[str], given: Sequence[Split | None] | None = None
    ) -> None:
        """Take what messages call the whole, each picture's name (unique), and the splits that the
        source itself decides, if it does."""
        self.place = place
        self.names = names
        self.given = given or [None] * len(names)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """Return a picture's name."""
        return self.names[index]

    @abstractmethod
    def content(self, index: int) -> bytes:
        """Return what a picture's hash is taken of: the file's bytes, or the pixels where there is
        no file. Raises UnreadablePicture."""

    @abstractmethod
    def picture(self, index: int, short_side: int = 0) -> np.ndarray:
        """Decode a picture as `PictureSet.picture` does; raises UnreadablePicture."""

    @abstractmethod
    def version(self, index: int) -> str:
        """Return what changes when a picture's content does, without reading it: size and time of
        change of every file that it is made of."""

    def digest(self, index: int) -> bytes:
        """Return `digest_of` a picture's content; raises UnreadablePicture where a look at its
        beginning shows that it is none."""
        return digest_of(self.content(index))

    def split_digest(self, content: bytes) -> bytes:
        """Return the digest that the split of a picture of this content goes by."""
        return digest_of(content)

    def instances(self, index: int) -> list[Instance] | None:
        """Return the things that are known to be in a picture; None where nobody looked."""
        del index
        return None


class EncodedCollection(Collection):
    """Pictures that are encoded files, wherever these lie."""

    def picture(self, index: int, short_side: int = 0) -> np.ndarray:
        """Decode a picture."""
        return read_rgb(self.content(index), self.names[index], short_side)

    def ends(self, index: int) -> tuple[bytes, bytes, int]:
        """Return the first and the last PROBE bytes of a file and its length; collections that can
        read a part of a file do. Raises UnreadablePicture."""
        content = self.content(index)
        return content[:PROBE], content[-PROBE:], len(content)

    def digest(self, index: int) -> bytes:
        """Return the digest of the file's bytes after a look at its header."""
        start, end, length = self.ends(index)
        try:
            check_header(start, self.names[index])
        except UnreadablePicture:
            check_header(self.content(index), self.names[index])  # some headers stand at the end
        return content_digest(start, end, length)


def file_version(path: Path) -> str:
    """Return a file's size and time of change; of one that cannot be reached why."""
    try:
        status = path.stat()
    except OSError as error:
        return str(error.strerror)
    return f"{status.st_size} {status.st_mtime_ns}"


def ends_of(file: BinaryIO, start: int, length: int) -> tuple[bytes, bytes, int]:
    """Return what `EncodedCollection.ends` does of `length` bytes from `start` on in a file."""
    file.seek(start)
    first = file.read(min(PROBE, length))
    file.seek(start + max(0, length - PROBE))
    return first, file.read(min(PROBE, length)), length


@dataclass(frozen=True)
class Subset:
    """Some pictures of a collection."""

    collection: Collection
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def picture(self, index: int, short_side: int = 0) -> np.ndarray:
        """Decode a picture; raises UnreadablePicture."""
        return self.collection.picture(self.indices[index], short_side)

    def name(self, index: int) -> str:
        """Return the picture's name in the collection."""
        return self.collection.name(self.indices[index])


def _pattern(text: str | None) -> str | None:
    try:
        re.compile(text or "")
    except re.error as error:
        raise ValueError(f"found {text!r}, which is no regular expression: {error}") from None
    return text


class CollectedSource(Source):
    """A source that holds a collection of pictures."""

    split: SharesText = Field(
        default="0.8/0.1/0.1",
        description="shares for training, validation and test, where the source does not say",
    )
    groups: Annotated[str | None, AfterValidator(_pattern)] = Field(
        default=None,
        description="regular expression; pictures whose names match it with equal groups share a "
        r"split: (\d+)_[LR] for stereo pairs 0001_L.png, 0001_R.png",
    )
    licence: str = Field(default="not given", description="what the pictures may be used for")

    @abstractmethod
    def collect(self) -> Collection:
        """Find all pictures; raises ConfigError where there are none or they cannot be listed."""

    def group(self, name: str) -> str | None:
        """Return the declared group of a picture, None where it belongs to none."""
        if self.groups is None or (match := re.search(self.groups, name)) is None:
            return None
        return "\0".join(part or "" for part in (match.groups() or (match.group(),)))

    def open(self, max_unreadable: float) -> PictureSets:
        """Find the pictures, look at their headers, and split them.

        Splits that the source itself has are kept; what they lack is taken out of training. The
        others are decided by a hash of the content of each picture, or of one for a declared group:
        a picture stays in its split when others are added, and copies of one land in one split.
        Raises ConfigError where there are no pictures, where more than the share `max_unreadable`
        cannot be read, or where a split comes out empty.
        """
        found = self.collect()
        with ThreadPoolExecutor(_READERS) as pool:
            digests = list(pool.map(lambda index: _digest(found, index), range(len(found))))
        unreadable = [found.name(i) for i, digest in enumerate(digests) if digest is None]
        if len(unreadable) > max_unreadable * len(found):
            raise ConfigError(
                f"data.max_unreadable: {len(unreadable)} of {len(found)} pictures in {found.place} "
                f"cannot be read, {max_unreadable:g} of them may be: {some_names(unreadable)}"
            )
        readable = [(i, digest) for i, digest in enumerate(digests) if digest is not None]
        groups = [self.group(found.name(i)) for i, _ in readable]
        given: list[Split | None] = [found.given[i] for i, _ in readable]
        _check_groups(found.place, groups, given)
        shares = parse_shares(self.split)
        split = split_all([digest for _, digest in readable], groups, given, shares)
        indices: dict[Split, list[int]] = {name: [] for name in SPLITS}
        contents: dict[Split, list[bytes]] = {name: [] for name in SPLITS}
        for (index, digest), name in zip(readable, split, strict=True):
            indices[name].append(index)
            contents[name].append(digest)
        for name in SPLITS:
            if not indices[name]:
                raise ConfigError(_advice(found.place, name, len(readable), self.split))
        counts = ", ".join(f"{len(indices[name])} {name}" for name in SPLITS)
        how = "split as they lie" if any(found.given) else "split by a hash of each one's content"
        return PictureSets(
            train=Subset(found, indices["train"]),
            validation=Subset(found, indices["validation"]),
            test=Subset(found, indices["test"]),
            description=f"pictures in {found.place} ({counts}), {how}",
            fingerprint=fingerprint(contents),
            measures_generalization=True,
            unreadable=unreadable,
        )


def _digest(collection: Collection, index: int) -> bytes | None:
    try:
        return collection.digest(index)
    except UnreadablePicture:
        return None


def _check_groups(place: str, groups: Sequence[str | None], given: Sequence[Split | None]) -> None:
    """Raise ConfigError where the members of a group lie in different given splits."""
    first: dict[str, Split | None] = {}
    for group, split in zip(groups, given, strict=True):
        if group is not None and (other := first.setdefault(group, split)) != split:
            shown = group.replace("\0", ", ")
            raise ConfigError(
                f"data.source.groups: group {shown!r} in {place} lies in the splits {other} and "
                f"{split}; put its pictures into one of them, or change the expression"
            )


def _advice(place: str, split: Split, total: int, shares: str) -> str:
    return (
        f"data.source.split: of {total} pictures in {place} none came into {split}; add pictures "
        f"(to the subfolder {split}, where there is one), or change the shares, now {shares}"
    )
