import numpy as np
import pytest

from colorization.matching import difference, features, most_alike

SIDE = 64
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]
NOISE = np.random.default_rng(0).uniform(-1, 1, (SIDE, SIDE))
DISC = (ROWS - 32) ** 2 + (COLUMNS - 32) ** 2 < 28**2
BAR = abs(ROWS - 32) < 8
RING = DISC & ((ROWS - 32) ** 2 + (COLUMNS - 32) ** 2 > 20**2)


def surface(brightness: float, grain: float, seed: int = 0) -> np.ndarray:
    return brightness + grain * np.random.default_rng(seed).uniform(-1, 1, (SIDE, SIDE))


def test_a_region_does_not_differ_from_itself() -> None:
    for mask in (None, DISC, BAR):
        found = features(surface(0.1, 0.3), mask)
        assert difference(found, found) == 0


def test_a_region_is_matched_by_brightness() -> None:
    others = [features(surface(brightness, 0.1, 1), DISC) for brightness in (-0.7, 0.0, 0.7)]
    assert most_alike(features(surface(0.6, 0.1), DISC), others) == 2
    assert most_alike(features(surface(-0.5, 0.1), DISC), others) == 0


def test_a_region_is_matched_by_texture() -> None:
    others = [features(surface(0, grain, 1), DISC) for grain in (0.0, 0.1, 0.8)]
    assert [most_alike(features(surface(0, g), DISC), others) for g in (0.7, 0.0, 0.15)] == [
        2,
        0,
        1,
    ]


def test_a_region_is_matched_by_shape_wherever_it_lies() -> None:
    others = [features(surface(0, 0.2, 1), mask) for mask in (DISC, BAR, RING)]
    moved = [features(surface(0, 0.2), np.roll(mask, 3, (0, 1))) for mask in (DISC, BAR, RING)]
    assert [most_alike(one, others) for one in moved] == [0, 1, 2]


def test_what_lies_outside_of_a_region_does_not_count() -> None:
    inside = surface(0, 0.2)
    cut = np.where(DISC, inside, -1), np.where(DISC, inside, NOISE)
    one, other = (features(lightness, DISC).brightness for lightness in cut)
    assert np.array_equal(one, other)


def test_a_whole_picture_and_a_region_are_compared_without_shapes() -> None:
    whole, region = features(surface(0, 0.2)), features(surface(0, 0.2, 1), BAR)
    assert difference(whole, region) < 0.2 < difference(whole, features(surface(0.8, 0.2), BAR))


def test_a_region_of_a_pixel_has_features() -> None:
    mask = np.zeros((SIDE, SIDE))
    mask[10, 10] = 1
    found = features(surface(0, 0.2), mask)
    assert all(np.isfinite(part).all() for part in found)


def test_a_mask_without_a_region_is_refused() -> None:
    with pytest.raises(ValueError, match="no region"):
        features(surface(0, 0.2), np.zeros((SIDE, SIDE)))
