import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from colorization.data.curation.near_duplicates import (
    near_duplicates,
    perceptual_hash,
    thumbnail_of,
)
from colorization.data.sample import SampleSource
from colorization.pictures import Picture, encode_picture, read_rgb


def groups_of(pictures: list[np.ndarray], bits: int = 4) -> list[int]:
    hashes = np.array([perceptual_hash(rgb) for rgb in pictures], np.uint64)
    thumbnails = np.stack([thumbnail_of(rgb).ravel() for rgb in pictures])
    return near_duplicates(hashes, thumbnails, bits).tolist()


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    crops = SampleSource(crops=64, scoring_crops=8).open(0).train
    return [crops.picture(index) for index in range(8)]


def shifted(rgb: np.ndarray) -> np.ndarray:
    return rgb[:, ::-1].copy()


CHANGES = {
    "encoded again": lambda rgb: read_rgb(encode_picture(Picture(rgb), ".jpg")),
    "half the size": lambda rgb: cv2.resize(
        rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA
    ),
    "another shape": lambda rgb: cv2.resize(rgb, (200, 150)),
    "darker": lambda rgb: cv2.convertScaleAbs(rgb, alpha=0.93),
    "slightly cropped": lambda rgb: rgb[1:-1, 1:-1],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_copy_is_near_its_picture_and_nothing_else(photographs, change) -> None:
    alone = groups_of(photographs)
    assert alone == [-1] * 8
    found = groups_of([*photographs, *map(change, photographs)])
    assert found[:8] == found[8:] == list(range(8))


def test_a_mirrored_picture_is_another(photographs) -> None:
    assert set(groups_of([*photographs, *map(shifted, photographs)])) == {-1}


def test_flat_pictures_of_many_colors_are_no_group() -> None:
    levels = range(20, 256, 60)
    flat = [
        np.full((40, 40, 3), (r, g, b), np.uint8) for r in levels for g in levels for b in levels
    ]
    assert len({perceptual_hash(rgb) for rgb in flat}) < 5  # their hashes say nothing
    assert set(groups_of(flat)) == {-1}


def flip_bits(hashes: NDArray[np.uint64], bits: list[int]) -> NDArray[np.uint64]:
    for bit in bits:
        hashes = hashes ^ np.uint64(1 << bit)
    return hashes


@settings(derandomize=True, deadline=None, max_examples=100, database=None)
@given(st.integers(0, 16), st.sets(st.integers(0, 63), max_size=20), st.integers(0, 2**64 - 1))
def test_hashes_are_near_up_to_the_number_of_bits_wherever_these_are(bits, flips, value) -> None:
    hashes = np.array([value, 0], np.uint64)
    hashes[1:] = flip_bits(hashes[:1], sorted(flips))
    found = near_duplicates(hashes, np.zeros((2, 192), np.uint8), bits)
    assert found.tolist() == ([0, 0] if len(flips) <= bits else [-1, -1])


@settings(derandomize=True, deadline=None, max_examples=50, database=None)
@given(st.lists(st.integers(0, 31), min_size=2, max_size=30), st.integers(0, 3))
def test_groups_are_those_of_comparing_all_pairs(values, bits) -> None:
    hashes = np.array(values, np.uint64)
    found = near_duplicates(hashes, np.zeros((len(values), 192), np.uint8), bits)
    group = list(range(len(values)))
    for i, one in enumerate(values):
        for j, other in enumerate(values[:i]):
            if (one ^ other).bit_count() <= bits:
                group = [group[j] if g == group[i] else g for g in group]
    alone = [group.count(g) == 1 for g in group]
    assert (found == -1).tolist() == alone
    assert len(set(zip(group, found.tolist(), strict=True))) == len(set(group))
    together = [number for number in found.tolist() if number >= 0]
    assert sorted(set(together)) == sorted(set(together), key=together.index)  # by first member


def test_order_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 64, 200).astype(np.uint64)
    thumbnails = rng.integers(0, 40, (200, 192)).astype(np.uint8)
    order = rng.permutation(200)
    one = near_duplicates(hashes, thumbnails, 1)[order]
    other = near_duplicates(hashes[order], thumbnails[order], 1)
    assert len(set(zip(one, other, strict=True))) == len(set(one.tolist()))


def test_no_pictures_have_no_groups() -> None:
    found = near_duplicates(np.empty(0, np.uint64), np.empty((0, 192), np.uint8), 4)
    assert found.shape == (0,)


def test_many_pictures_are_compared_in_seconds() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 50_000, dtype=np.uint64)
    hashes[-100:] = flip_bits(hashes[:100], [3, 17, 40, 63])
    thumbnails = np.zeros((50_000, 192), np.uint8)
    started = time.perf_counter()
    assert near_duplicates(hashes, thumbnails, 4).max() == 99
    assert time.perf_counter() - started < 30  # all pairs take minutes
