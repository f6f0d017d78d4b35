"""Pictures that look alike: copies re-encoded, resized, slightly cropped or brightened."""

from collections.abc import Iterator
from itertools import pairwise

import cv2
import imagehash
import numpy as np
from PIL import Image

from colorization.data.curation.components import components

THUMBNAIL = 8  # pixels a side
_BITS = 64  # of a perceptual hash
# Mean absolute difference of two thumbnails, in levels of 255, up to which pictures are alike: so
# many, and a share of the standard deviation within them. Of a smooth picture the hash is noise, so
# it must be almost equal; one full of contrast may be brighter or of other colors in a copy.
_ALIKE_FLAT, _ALIKE_CONTRAST = 8.0, 0.5
_CHUNK = 1 << 22  # pairs compared at once


def perceptual_hash(rgb: np.ndarray) -> int:
    """Return the 64-bit perceptual hash (DCT of the brightness) of sRGB (H, W, 3) uint8."""
    small = cv2.resize(rgb, (32, 32), interpolation=cv2.INTER_AREA)
    return int(str(imagehash.phash(Image.fromarray(small))), 16)


def thumbnail_of(rgb: np.ndarray) -> np.ndarray:
    """Return (8, 8, 3) uint8: the mean colors within the squares of a grid over a picture."""
    return cv2.resize(rgb, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)


def near_duplicates(perceptual: np.ndarray, thumbnails: np.ndarray, bits: int) -> np.ndarray:
    """Return the number of the group of pictures alike that each belongs to, -1 where it is alone.

    `perceptual` is (n,) uint64, `thumbnails` (n, 192) uint8, the result (n,) int64. Two pictures
    are alike where their hashes differ in at most `bits` bits (0 to 16) and their thumbnails by
    little; groups are what likeness joins. Groups are numbered by their first member.

    Of two hashes that differ in so many bits, at least one of bits + 1 bands is equal: only
    pictures with an equal band are compared, which for few bits is far from all pairs.
    """
    if not len(perceptual):
        return np.empty(0, np.int64)
    both = np.column_stack([perceptual.astype("<u8").view(np.uint8).reshape(-1, 8), thumbnails])
    looks, look_of = np.unique(both, axis=0, return_inverse=True)  # equal looks need no comparing
    look_of = look_of.reshape(-1)
    hashes = np.ascontiguousarray(looks[:, :8]).view("<u8").reshape(-1)
    colors = looks[:, 8:].astype(np.int16)
    contrasts = colors.reshape(len(colors), -1, 3).std(1).mean(1)
    pairs = (
        pair
        for left, right in _close(hashes, bits)
        for pair in _alike(left, right, colors, contrasts)
    )
    component = np.array(components(len(looks), pairs))[look_of]
    _, first, inverse, sizes = np.unique(
        component, return_index=True, return_inverse=True, return_counts=True
    )
    numbers = np.full(len(sizes), -1, np.int64)
    shared = np.flatnonzero(sizes > 1)
    numbers[shared[np.argsort(first[shared])]] = np.arange(len(shared))
    return numbers[inverse.reshape(-1)]


def _close(hashes: np.ndarray, bits: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the indices (left, right) of hashes (n,) that differ in at most so many bits."""
    edges = np.linspace(0, _BITS, bits + 2).astype(int)
    for low, high in pairwise(edges):
        band = (hashes << np.uint64(_BITS - high)) >> np.uint64(_BITS - high + low)
        order = np.argsort(band, kind="stable")
        in_order = hashes[order]
        changes = np.flatnonzero(np.diff(band[order])) + 1
        for start, stop in pairwise([0, *changes.tolist(), len(order)]):
            for left, right in _within(in_order[start:stop], bits):
                yield order[start + left], order[start + right]


def _within(hashes: np.ndarray, bits: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Compare all with all, some rows at a time."""
    rows = max(1, _CHUNK // len(hashes))
    for top in range(0, len(hashes) - 1, rows):
        part = hashes[top : top + rows, None] ^ hashes[None, top:]
        left, right = np.nonzero(np.bitwise_count(part) <= bits)
        after = left < right
        if after.any():
            yield top + left[after], top + right[after]


def _alike(
    left: np.ndarray, right: np.ndarray, colors: np.ndarray, contrasts: np.ndarray
) -> Iterator[tuple[int, int]]:
    """Yield those pairs whose thumbnails (n, 192) int16 differ by little for their contrast."""
    rows = _CHUNK // colors.shape[1]
    for top in range(0, len(left), rows):
        one, other = left[top : top + rows], right[top : top + rows]
        contrast = np.minimum(contrasts[one], contrasts[other])
        difference = np.abs(colors[one] - colors[other]).mean(1)
        alike = difference <= _ALIKE_FLAT + _ALIKE_CONTRAST * contrast
        yield from zip(one[alike].tolist(), other[alike].tolist(), strict=True)
