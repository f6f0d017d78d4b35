import argparse
from pathlib import Path

import numpy as np
import pytest

from colorization.color_flags import FLAT_NAMES, parse_flat, read_color_flags
from colorization.coloring import ColorOptions
from colorization.colorize_arguments import add_color_flags
from colorization.config import ConfigError
from colorization.foreground import ForegroundOptions
from colorization.pictures import Picture, encode_picture

WHITE = encode_picture(Picture(np.full((4, 6, 3), 255, np.uint8)), ".png")
RED, OTHER = (
    encode_picture(Picture(np.full((4, 6, 3), (200, green, 30), np.uint8)), ".png")
    for green in (20, 90)
)


def read(*words: str) -> ColorOptions:
    parser = argparse.ArgumentParser()
    add_color_flags(parser)
    return read_color_flags(parser.parse_args(words))


def test_without_flags_the_options_are_the_defaults() -> None:
    assert read() == parse_flat({}) == ColorOptions()
    assert parse_flat(dict.fromkeys(FLAT_NAMES)) == ColorOptions()


def test_every_option_has_a_flag_and_a_flat_name() -> None:
    of_foreground = {"softness", "invert", "segmenter", "mask"}
    of_instances = {"min_score", "min_side"}
    names = set(ColorOptions.model_fields) | of_foreground | of_instances
    assert names == set(FLAT_NAMES)
    assert set(ForegroundOptions.model_fields) == of_foreground | {"classes"}


def test_flags_say_what_the_options_become() -> None:
    found = read(
        *["--samples", "3", "--temperature", "0.5", "--seed", "7", "--gain", "auto", "--tile"]
    )
    expected = ColorOptions(samples=3, temperature=0.5, seed=7, gain="auto", tile=True)
    assert found == expected
    assert read("--gain", "1.5").gain == 1.5
    assert read("--saturation", "0").saturation == 0


def test_a_foreground_is_all_classes_or_those_named() -> None:
    assert read("--foreground").foreground == ForegroundOptions()
    found = read("--foreground", "person, dog", "--softness", "0", "--invert").foreground
    assert found == ForegroundOptions(classes=("person", "dog"), softness=0, invert=True)
    assert read("--foreground", "--segmenter", "mobilenet").foreground == ForegroundOptions(
        segmenter="mobilenet"
    )


def test_a_mask_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(WHITE)
    found = read("--mask", str(tmp_path / "mask.png"), "--softness", "3").foreground
    assert found == ForegroundOptions(mask=WHITE, softness=3)


def test_references_are_read_from_their_files_in_their_order(tmp_path: Path) -> None:
    words: list[str] = []
    for name, data in (("red.png", RED), ("other.png", OTHER)):
        (tmp_path / name).write_bytes(data)
        words += ["--reference", str(tmp_path / name)]
    assert read(*words).reference == (RED, OTHER)
    assert read(*words[:2]).reference == (RED,)


def test_a_reference_that_is_none_is_named_by_its_file(tmp_path: Path) -> None:
    for name, data in (("red.png", RED), ("white.png", WHITE)):
        (tmp_path / name).write_bytes(data)
    red, white = str(tmp_path / "red.png"), str(tmp_path / "white.png")
    with pytest.raises(ConfigError) as caught:
        read("--reference", red, "--reference", white)
    assert str(caught.value).startswith(f"--reference: {white}: found a gray picture")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--samples", "65"], "--samples: found '65'"),
        (["--gain", "bright"], "--gain: found 'bright'"),
        (["--foreground", "--softness", "-1"], "--softness: found '-1'"),
        (["--softness", "3"], "--softness: says how color is kept in a foreground, and none"),
        (["--invert"], "--invert: says how"),
        (["--min-side", "9"], "--min-side: says which instances"),
        (["--instances", "auto", "--min-side", "0"], "--min-side: found '0'"),
        (["--foreground", "persn"], "--foreground: found 'persn'"),
        (["--mask", "nowhere.png"], "--mask: nowhere.png: No such file"),
        (["--mask", __file__], "--mask: the mask: found text"),
        (["--reference", "nowhere.png"], "--reference: nowhere.png: No such file"),
        (["--reference", __file__], f"--reference: {__file__}: the reference: found text"),
    ],
)
def test_what_cannot_be_meant_is_named(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(*words)
    assert message in str(caught.value)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'samples'"):
        parse_flat({"sampels": 2})
    with pytest.raises(ConfigError, match=r"did you mean 'min_score'.* segmenter, mask,"):
        parse_flat({"min_scor": 0.2})
