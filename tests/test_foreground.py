import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorization.config import ConfigError, dump, parse
from colorization.foreground import (
    ForegroundFinder,
    ForegroundOptions,
    MaskDoesNotFit,
    feather,
)
from colorization.pictures import Picture, encode_picture
from planted_deeplab import half_bright, plant_bright_is


def left_half(height: int, width: int) -> np.ndarray:
    inside = np.zeros((height, width), bool)
    inside[:, : width // 2] = True
    return inside


def encode(mask: np.ndarray, alpha: np.ndarray | None = None, suffix: str = ".png") -> bytes:
    return encode_picture(Picture(np.repeat(mask[..., None], 3, 2), alpha), suffix)


def white_where(inside: np.ndarray) -> bytes:
    return encode(inside.astype(np.uint8) * 255)


def gray(height: int, width: int) -> Picture:
    return Picture(np.full((height, width, 3), 90, np.uint8))


def found(picture: Picture, **options: object) -> np.ndarray:
    return ForegroundFinder()(picture, parse(ForegroundOptions, options))


def test_color_fades_over_as_many_pixels_as_were_asked_for() -> None:
    kept = feather(left_half(40, 60), 8)
    assert np.array_equal(kept[:, :26], np.ones((40, 26)))
    assert np.array_equal(kept[:, 34:], np.zeros((40, 26)))
    assert kept[20, 26:34] == pytest.approx(1 - (np.arange(8) + 0.5) / 8, abs=1e-3)
    hard = feather(left_half(40, 60), 0)
    assert np.array_equal(hard, left_half(40, 60))
    assert hard.dtype == kept.dtype == np.float32


@pytest.mark.parametrize("everywhere", [True, False])
def test_without_an_edge_nothing_fades(everywhere: bool) -> None:
    assert (feather(np.full((9, 7), everywhere), 50) == everywhere).all()


def test_a_masks_grays_say_how_much_color_stays() -> None:
    ramp = np.tile(np.arange(0, 256, 5, dtype=np.uint8), (20, 1))
    kept = found(gray(*ramp.shape), mask=encode(ramp))
    assert kept == pytest.approx(ramp / 255, abs=1e-6)
    inverted = found(gray(*ramp.shape), mask=encode(ramp), invert=True)
    assert inverted == pytest.approx(1 - ramp / 255, abs=1e-6)


def test_with_softness_a_masks_edge_is_where_it_is_middle_gray() -> None:
    ramp = np.tile(np.arange(0, 255, 5, dtype=np.uint8), (20, 1))
    kept = found(gray(*ramp.shape), mask=encode(ramp), softness=0)
    assert np.array_equal(kept, ramp > 127)
    assert ((kept > 0) & (kept < 1)).sum() == 0
    soft = found(gray(*ramp.shape), mask=encode(ramp), softness=4)
    assert ((soft > 0) & (soft < 1)).sum() == 4 * len(ramp)


@pytest.mark.parametrize("size", [(40, 60), (400, 600), (27, 40), (4, 6)])
def test_a_mask_may_have_any_size_in_the_pictures_proportions(size: tuple[int, int]) -> None:
    kept = found(gray(80, 120), mask=white_where(left_half(*size)))
    assert kept.shape == (80, 120)
    assert ((kept > 0.5) == left_half(80, 120)).mean() > 0.99


@pytest.mark.parametrize("size", [(60, 40), (40, 62), (1, 1)])
def test_a_mask_of_other_proportions_is_an_error_that_names_both(size: tuple[int, int]) -> None:
    with pytest.raises(MaskDoesNotFit) as caught:
        found(gray(800, 1200), mask=white_where(left_half(*size)))
    assert f"the mask has {size[1]} x {size[0]} pixels, the picture 1200 x 800" in str(caught.value)


def test_what_is_transparent_in_a_mask_keeps_no_color() -> None:
    white = np.full((20, 30), 255, np.uint8)
    alpha = left_half(20, 30).astype(np.uint8) * 255
    kept = found(gray(20, 30), mask=encode(white, alpha))
    assert np.array_equal(kept, left_half(20, 30))


def test_a_mask_of_16_bits_and_a_turned_one_are_seen_as_meant() -> None:
    deep = left_half(20, 30).astype(np.uint16) * 65535
    assert np.array_equal(found(gray(20, 30), mask=encode(deep)), left_half(20, 30))
    buffer = io.BytesIO()
    turned = Image.fromarray(left_half(20, 30).T.astype(np.uint8) * 255)
    exif = turned.getexif()
    exif[0x0112] = 5  # mirrored along the diagonal
    turned.save(buffer, "PNG", exif=exif)
    assert np.array_equal(found(gray(20, 30), mask=buffer.getvalue()), left_half(20, 30))


def test_options_with_a_mask_survive_being_written_as_text() -> None:
    mask = white_where(left_half(20, 30))
    options = ForegroundOptions(mask=mask, invert=True)
    written = dump(options)
    assert written["mask"] == base64.b64encode(mask).decode()
    assert parse(ForegroundOptions, written) == options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": b"hello"}, "mask: the mask: found text"),
        ({"mask": "hello!"}, "mask: found text that is no base64 of a picture"),
        ({"mask": 3}, "mask: found int; an encoded picture is needed"),
        ({"mask": white_where(left_half(4, 4))[:60]}, "mask: the mask: found"),
        ({"classes": ["persn"]}, "classes.0: found 'persn'; input should be"),
        ({"softness": -1}, "softness: found -1"),
        ({"segmenter": "resnet18"}, "segmenter: found 'resnet18'"),
        (
            {"mask": white_where(left_half(4, 4)), "classes": ["dog", "cat"]},
            "classes: found dog, cat beside a mask",
        ),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(ForegroundOptions, options)
    assert message in str(caught.value)


def test_a_segmenter_finds_the_foreground_at_the_pictures_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_bright_is("person", None, tmp_path, monkeypatch)
    picture = Picture(half_bright(300, 400))
    finder = ForegroundFinder()
    options = ForegroundOptions(segmenter="mobilenet", softness=0)
    finder.prepare(options)
    kept = finder(picture, options)
    assert kept.shape == (300, 400)
    assert set(np.unique(kept)) == {0, 1}
    assert (kept == ~left_half(300, 400)).mean() > 0.95
    inverted = finder(picture, options.model_copy(update={"invert": True}))
    assert np.array_equal(inverted, 1 - kept)
    soft = finder(picture, options.model_copy(update={"softness": None}))
    assert 0.5 < ((soft > 0) & (soft < 1)).sum() / 300 < 8
    cats = finder(picture, options.model_copy(update={"classes": ("cat",)}))
    assert not cats.any()


def test_without_its_weights_a_segmenter_is_refused_before_there_is_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    finder = ForegroundFinder()
    with pytest.raises(ConfigError, match=r"deeplabv3_resnet101_coco-586e9e4e\.pth"):
        finder.prepare(ForegroundOptions())
    finder.prepare(ForegroundOptions(mask=white_where(left_half(4, 4))))
