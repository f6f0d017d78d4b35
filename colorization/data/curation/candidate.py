"""What one look at a picture finds: whether it is kept, and what telling it from others takes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from typing import Any

import cv2
import numpy as np
import torch

from colorization.color import rgb_to_lab
from colorization.data.collection import Collection, EncodedCollection, Instance
from colorization.data.curation.color_content import brightness_only
from colorization.data.curation.instances import no_wanted_instance, seen_by
from colorization.data.curation.near_duplicates import perceptual_hash, thumbnail_of
from colorization.data.curation.rules import CurationRules
from colorization.instances import InstanceDetector
from colorization.pictures import UnreadablePicture, read_header, read_rgb


@dataclass(frozen=True)
class Candidate:
    """A picture that was looked at; JSON holds all of it."""

    source: int  # number of its source among those prepared together
    name: str  # in its source
    content: str = ""  # hex of a hash of all of its content; "" where it cannot be read
    digest: str = ""  # hex of the digest that splits go by
    original: tuple[int, int] | None = None  # width, height as it is seen
    size: tuple[int, int] | None = None  # width, height as packed
    dropped: str | None = None  # name of the rule that it fails, None where it is kept
    reason: str = ""  # of dropping it: what was found and what would have been right
    perceptual: int = 0  # 64-bit perceptual hash
    thumbnail: str = ""  # hex of (8, 8, 3) uint8
    # pixels, and sums over them of L, a, b, L^2, a^2, b^2 in scaled Lab
    color: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Candidate":
        """Undo `to_json`, also after JSON has made lists of the tuples."""
        tuples = {k: tuple(data[k]) for k in ("original", "size", "color") if data[k] is not None}
        return cls(**{**data, **tuples})


def look(
    collection: Collection,
    index: int,
    source: int,
    rules: CurationRules,
    detector: InstanceDetector | None = None,
    detections: Mapping[str, Sequence[Instance]] | None = None,
) -> tuple[Candidate, np.ndarray | None]:
    """Read a picture once and decide whether it is kept.

    The rules in their order: `unreadable`, `too_small`, `brightness_only`, `no_wanted_instance`.
    What is in a picture is said by `detections` (by name), else by the collection itself, else by
    the `detector`. Returns what was found and, of a picture that is kept, sRGB (H, W, 3) uint8 as
    it is to be packed, None of others. A bad picture is a result and no error.
    """
    name = collection.name(index)
    seen = Candidate(source, name)
    try:
        content = collection.content(index)
        rgb, original, mode = _decode(collection, index, content, rules.size)
    except UnreadablePicture as error:
        return replace(seen, dropped="unreadable", reason=str(error)), None
    seen = replace(
        seen,
        content=blake2b(content, digest_size=16).hexdigest(),
        digest=collection.split_digest(content).hex(),
        original=original,
    )
    width, height = original
    if width < rules.min_width or height < rules.min_height:
        wanted = f"at least {rules.min_width} x {rules.min_height} are wanted"
        reason = f"found {width} x {height} pixels, {wanted}"
        return replace(seen, dropped="too_small", reason=reason), None
    rgb = _shrink(rgb, original, rules.size)
    if reason := brightness_only(rgb, mode, rules):
        return replace(seen, dropped="brightness_only", reason=reason), None
    if rules.wanted and rules.instances is None:
        known = collection.instances(index) if detections is None else detections.get(name)
        if known is None and detections is None and detector is not None:
            known = seen_by(detector, rgb)
        if reason := no_wanted_instance(known, rules):
            return replace(seen, dropped="no_wanted_instance", reason=reason), None
    kept = replace(
        seen,
        size=(rgb.shape[1], rgb.shape[0]),
        perceptual=perceptual_hash(rgb),
        thumbnail=thumbnail_of(rgb).tobytes().hex(),
        color=_color_sums(rgb),
    )
    return kept, rgb


def _decode(
    collection: Collection, index: int, content: bytes, size: int
) -> tuple[np.ndarray, tuple[int, int], str]:
    """Return the pixels, the true width and height, and the kind of pixels in the file."""
    if not isinstance(collection, EncodedCollection):
        rgb = collection.picture(index, size)
        return rgb, (rgb.shape[1], rgb.shape[0]), "RGB"
    name = collection.name(index)
    rgb = read_rgb(content, name, size)
    header = read_header(content, name)
    # Only JPEG is decoded at a reduced size; the orientation of a PNG may stand behind its pixels.
    reduced = header.format == "JPEG"
    return rgb, header.size if reduced else (rgb.shape[1], rgb.shape[0]), header.mode


def _shrink(rgb: np.ndarray, original: tuple[int, int], short_side: int) -> np.ndarray:
    """Shrink a picture whose short side is longer, by its original width and height: decoding may
    have rounded them."""
    scale = short_side / min(original)
    if scale >= 1:
        return rgb
    width, height = (max(short_side, round(side * scale)) for side in original)
    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)


def _color_sums(rgb: np.ndarray) -> tuple[float, ...]:
    lab = rgb_to_lab(torch.from_numpy(rgb.copy()).permute(2, 0, 1)).flatten(1).double()
    return (lab.shape[1], *lab.sum(1).tolist(), *lab.square().sum(1).tolist())
