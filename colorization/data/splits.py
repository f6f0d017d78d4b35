"""Which pictures are trained on: shares of a set, decided by a hash of each picture's content."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from hashlib import blake2b
from math import isclose
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BeforeValidator

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
PROBE = 32 * 1024  # bytes at either end of a content that its digest is of


class Shares(NamedTuple):
    """How much of a set each split gets; they add up to 1."""

    train: float
    validation: float
    test: float


def parse_shares(text: str) -> Shares:
    """Read `0.9/0.05/0.05` (training, validation, test) or `0.7/0.3` (training, held out).

    What is held out is shared by validation and test alike, for a search may not choose by the
    pictures that its result is measured on. Raises ValueError for what is neither, and for shares
    that are not above 0 or do not add up to 1.
    """
    wanted = "needed are shares above 0 that add up to 1, as in 0.8/0.1/0.1 or 0.7/0.3"
    try:
        numbers = [float(part) for part in text.split("/")]
    except ValueError:
        raise ValueError(f"found {text!r}; {wanted}") from None
    if len(numbers) == 2:
        numbers = [numbers[0], numbers[1] / 2, numbers[1] / 2]
    # Written so that NaN is refused as well.
    if len(numbers) != 3 or not min(numbers) > 0 or not isclose(sum(numbers), 1, abs_tol=1e-6):
        raise ValueError(f"found {text!r}; {wanted}")
    return Shares(*numbers)


def _checked(text: Any) -> str:
    parse_shares(str(text))  # YAML reads 0.7 as a number
    return str(text)


SharesText = Annotated[str, BeforeValidator(_checked)]


def content_digest(start: bytes, end: bytes, length: int) -> bytes:
    """Hash a content of `length` bytes by its first and its last PROBE bytes, to 16 bytes.

    Whole files would take minutes for a large set. So a change in the middle of a long file alone
    does not show in it: the hash of a prepared set is of all bytes.
    """
    return blake2b(length.to_bytes(8, "big") + start + end, digest_size=16).digest()


def digest_of(content: bytes) -> bytes:
    """Return the `content_digest` of bytes that are all in memory."""
    return content_digest(content[:PROBE], content[-PROBE:], len(content))


def split_of(digest: bytes, shares: Shares) -> Split:
    """Return the split of a picture by the digest of its content."""
    number = blake2b(digest, digest_size=6).digest()
    place = int.from_bytes(number, "big") / 2**48
    if place < shares.validation:
        return "validation"
    return "test" if place >= 1 - shares.test else "train"


def representatives(digests: Sequence[bytes], groups: Iterable[Hashable | None]) -> list[bytes]:
    """Return, for each picture, the digest that stands for its group: the least of its members'.

    A picture whose group is None stands alone. The split of a group is that of its representative,
    so that it depends neither on order nor on machine.
    """
    groups = list(groups)
    least: dict[Hashable, bytes] = {}
    for digest, group in zip(digests, groups, strict=True):
        if group is not None:
            least[group] = min(digest, least.get(group, digest))
    return [
        digest if group is None else least[group]
        for digest, group in zip(digests, groups, strict=True)
    ]


def split_all(
    digests: Sequence[bytes],
    groups: Sequence[str | None],
    given: Sequence[Split | None],
    shares: Shares,
) -> list[Split]:
    """Decide the split of every picture: as given, and where the given ones lack validation or
    test, these are taken out of training."""
    known = {split for split in given if split is not None}
    found: list[Split] = []
    for own, digest in zip(given, representatives(digests, groups), strict=True):
        drawn = split_of(digest, shares)
        if own is None or (own == "train" and drawn not in known):
            found.append(drawn)
        else:
            found.append(own)
    return found


def fingerprint(contents: Mapping[Split, Sequence[bytes]]) -> str:
    """Hash what each split holds to twelve hex digits, whatever its order and its names."""
    digest = blake2b(digest_size=6)
    for split in SPLITS:
        digest.update(split.encode())
        digest.update(b"".join(sorted(contents[split])))
    return digest.hexdigest()
