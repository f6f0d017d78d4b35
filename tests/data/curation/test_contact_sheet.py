import numpy as np
import pytest

from colorization.data.curation.contact_sheet import MOST_SHOWN, Section, contact_sheet

RED, GRAY = (200, 0, 0), (160, 160, 160)


def flat(color: tuple[int, int, int] = RED, height: int = 90, width: int = 90) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


def count(sheet: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((sheet == color).all(-1).sum())


def test_every_picture_is_drawn_in_its_proportions() -> None:
    shown = [("a.png", flat(height=64, width=128)), ("b.png", flat(height=256, width=512))]
    sheet = contact_sheet([("kept: train", 2, shown)])
    assert sheet.dtype == np.uint8
    assert count(sheet, RED) == 2 * 64 * 128


def test_what_cannot_be_read_is_gray() -> None:
    sheet = contact_sheet([("dropped: unreadable", 1, [("a.png", None)])])
    assert count(sheet, GRAY) >= 128 * 128


def test_sections_follow_each_other_also_empty_ones() -> None:
    green = (0, 200, 0)
    sections: list[Section] = [
        ("kept: train", 1, [("a", flat())]),
        ("kept: validation", 0, []),
        ("dropped: too_small", 1, [("b", flat(green))]),
    ]
    sheet = contact_sheet(sections)
    red, other = ((sheet == color).all(-1).any(1).nonzero()[0] for color in (RED, green))
    assert red.max() < other.min()
    assert contact_sheet([]).shape[2] == 3


def test_of_many_pictures_the_first_are_drawn_and_all_are_counted() -> None:
    shown = [(f"{i}", flat()) for i in range(MOST_SHOWN + 5)]
    sheet = contact_sheet([("kept: train", 29, shown)])
    assert count(sheet, RED) == MOST_SHOWN * 90 * 90
    other = contact_sheet([("kept: train", 30, shown)])
    assert (sheet != other).any()  # the number is written


@pytest.mark.parametrize(
    "name", ["фото.png", "写真.jpg", "صورة.png", "a\udcffb.png", "line\nbreak", "x" * 500, "", "🙂"]
)
def test_names_of_any_letters_are_drawn(name: str) -> None:
    blank = contact_sheet([("kept", 1, [(" ", flat())])])
    sheet = contact_sheet([("kept", 1, [(name, flat())])])
    assert sheet.shape == blank.shape
    assert (sheet != blank).any() == bool(name)
    below_and_beside = sheet[:, 8 + 128 + 4 :]
    assert count(below_and_beside[40:], (255, 255, 255)) == below_and_beside[40:, :, 0].size
