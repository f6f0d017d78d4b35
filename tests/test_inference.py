from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from colorization.color import render, rgb_to_lab
from colorization.coloring import ColorOptions
from colorization.config import ConfigError
from colorization.foreground import ForegroundOptions
from colorization.inference import PictureColorizer, colorize_bytes, colorize_files
from colorization.models.colorizer import Colorizer, Progress, Turn
from colorization.pictures import (
    Picture,
    UnreadablePicture,
    encode_picture,
    read_picture,
)


class SepiaByLightness(Colorizer):
    """Colors that depend on each pixel's lightness; remembers what it was shown."""

    multiple = 16
    players = ()

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def turns(self, lab: Tensor, progress: Progress) -> Iterator[Turn]:
        del lab, progress
        yield from ()

    def colorize(
        self,
        lightness: Tensor,
        samples: int = 1,
        temperature: float | None = None,
        seed: int = 0,
    ) -> Tensor:
        del temperature, seed
        assert lightness.shape[-2] % self.multiple == lightness.shape[-1] % self.multiple == 0
        assert not self.training
        assert not torch.is_autocast_enabled("cpu")
        self.seen.append(lightness)
        ab = torch.cat((0.1 + 0.05 * lightness, 0.2 - 0.1 * lightness), dim=1)
        return ab.expand(samples, *ab.shape)


class Broken(SepiaByLightness):
    def colorize(
        self,
        lightness: Tensor,
        samples: int = 1,
        temperature: float | None = None,
        seed: int = 0,
    ) -> Tensor:
        del temperature, seed
        return super().colorize(lightness, samples) * torch.nan


def photo(height: int, width: int, dtype: type = np.uint8) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = np.stack((np.sin(9 * x), np.cos(7 * y), np.sin(5 * (x + y))), axis=-1)
    return np.rint((waves + 1) / 2 * np.iinfo(dtype).max).astype(dtype)


def lightness_of(rgb: np.ndarray) -> np.ndarray:
    """L from 0 to 100."""
    scaled = torch.from_numpy(rgb.astype(np.float32) / np.iinfo(rgb.dtype).max)
    return (rgb_to_lab(scaled.permute(2, 0, 1)[None])[0, 0].numpy() + 1) * 50


def test_a_picture_of_the_training_size_is_colored_without_resampling() -> None:
    model = SepiaByLightness()
    rgb = photo(64, 64)
    lab = rgb_to_lab(torch.from_numpy(rgb).permute(2, 0, 1)[None])
    expected = render(lab[:, :1], model.eval().colorize(lab[:, :1])[0])[0].permute(1, 2, 0).numpy()
    colored = PictureColorizer(model, 64)(Picture(rgb))[0].rgb
    assert np.array_equal(colored, expected)
    assert torch.equal(model.seen[1], lab[:, :1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("height", "width"),
    [(150, 203), (203, 150), (33, 47), (1, 1), (1, 500), (500, 1), (64, 2000)],
)
def test_size_and_depth_stay_and_lightness_with_them(height: int, width: int, dtype: type) -> None:
    gray = np.repeat(photo(height, width, dtype)[..., :1], 3, axis=2)
    colored = PictureColorizer(SepiaByLightness(), 64)(Picture(gray))[0].rgb
    assert colored.shape == gray.shape
    assert colored.dtype == dtype
    # Dark and bright colors leave sRGB and are clipped; between them lightness is exact.
    truth = lightness_of(gray)
    inside = (truth > 30) & (truth < 70)
    error = np.abs(lightness_of(colored) - truth)[inside]
    assert error.max(initial=0) < (0.5 if dtype == np.uint8 else 0.005)
    if inside.any():
        lab = rgb_to_lab(
            torch.from_numpy(colored / np.float32(np.iinfo(dtype).max)).permute(2, 0, 1)
        )
        assert lab[2].numpy()[inside].mean() > 0.1


def test_what_the_model_sees_has_the_training_size_on_its_short_side() -> None:
    model = SepiaByLightness()
    colorizer = PictureColorizer(model, 64)
    for size in ((128, 128), (96, 150), (700, 300), (20, 40), (1, 500)):
        colorizer(Picture(photo(*size)))
    shapes = [tuple(lightness.shape[-2:]) for lightness in model.seen]
    assert shapes == [(64, 64), (64, 112), (160, 64), (64, 128), (16, 256)]


class FixedSize(SepiaByLightness):
    """Takes pictures of 48 x 48 alone; colors them by place: a from left to right."""

    multiple = 1
    fixed_size = True

    def colorize(
        self,
        lightness: Tensor,
        samples: int = 1,
        temperature: float | None = None,
        seed: int = 0,
    ) -> Tensor:
        del temperature, seed
        assert lightness.shape == (1, 1, 48, 48)
        self.seen.append(lightness)
        ramp = torch.linspace(-0.1, 0.1, 48).expand(48, 48)
        ab = torch.stack([ramp, ramp.T])[None]
        return ab.expand(samples, *ab.shape)


@pytest.mark.parametrize(
    ("height", "width"),
    [(48, 48), (96, 96), (40, 300), (300, 40), (33, 47), (1, 1), (1, 500), (500, 1), (64, 1000)],
)
def test_a_model_of_one_size_sees_the_whole_of_any_picture(height: int, width: int) -> None:
    model = FixedSize()
    gray = np.full((height, width, 3), 119, np.uint8)
    colored = PictureColorizer(model, 48)(Picture(gray))[0].rgb
    assert len(model.seen) == 1
    assert colored.shape == gray.shape
    a, b = rgb_to_lab(torch.from_numpy(colored).permute(2, 0, 1))[1:].numpy()
    for colors, side in ((a.mean(0), width), (b.mean(1), height)):
        if side >= 33:  # the ramp reaches from edge to edge
            expected = np.interp(
                np.arange(side) + 0.5,
                np.arange(48) * side / 48 + side / 96,
                np.linspace(-0.1, 0.1, 48),
            )
            np.testing.assert_allclose(colors, expected, atol=0.01)


def test_a_picture_one_pixel_wide_is_colored_like_one_that_is_one_pixel_high() -> None:
    rows = photo(500, 1)
    columns = rows.transpose(1, 0, 2)
    upright, lying = SepiaByLightness(), SepiaByLightness()
    colored = PictureColorizer(upright, 64)(Picture(rows))[0].rgb
    expected = PictureColorizer(lying, 64)(Picture(columns))[0].rgb
    assert torch.allclose(upright.seen[0][..., :1], lying.seen[0][..., :1, :].mT, atol=1e-5)
    assert np.abs(colored.astype(int) - expected.transpose(1, 0, 2)).max() <= 1
    assert np.ptp(colored.astype(int), axis=0).min() > 50


def test_a_model_of_one_size_sees_its_own_size_without_resampling() -> None:
    model = FixedSize()
    rgb = photo(48, 48)
    PictureColorizer(model, 48)(Picture(rgb))
    expected = rgb_to_lab(torch.from_numpy(rgb).permute(2, 0, 1)[None])[:, :1]
    assert torch.equal(model.seen[0], expected)


def test_padding_repeats_the_border_and_is_cropped_again() -> None:
    model = SepiaByLightness()
    colorizer = PictureColorizer(model, 64)
    rgb = photo(64, 70)
    colored = colorizer(Picture(rgb))[0].rgb
    seen = model.seen[0]
    assert seen.shape[-2:] == (64, 80)
    assert torch.equal(seen[..., 70:], seen[..., 69:70].expand(1, 1, 64, 10))
    truth = torch.from_numpy(lightness_of(rgb) / 50 - 1)
    assert torch.allclose(seen[0, 0, :, :70], truth, atol=1e-5)
    expected = render(seen, model.colorize(seen)[0])[0, ..., :70].permute(1, 2, 0).numpy()
    assert np.array_equal(colored, expected)


def test_colors_stay_where_they_belong_when_resized() -> None:
    class LeftRight(SepiaByLightness):
        def colorize(
            self,
            lightness: Tensor,
            samples: int = 1,
            temperature: float | None = None,
            seed: int = 0,
        ) -> Tensor:
            del temperature, seed
            ab = torch.zeros(samples, 1, 2, *lightness.shape[-2:])
            ab[..., : lightness.shape[-1] // 2] = 0.3
            return ab

    gray = np.full((256, 256, 3), 128, np.uint8)
    colored = PictureColorizer(LeftRight(), 64)(Picture(gray))[0].rgb.astype(int)
    assert (colored[:, :120, 0] - colored[:, :120, 2]).min() > 40
    assert np.ptp(colored[:, 136:], axis=2).max() == 0


def test_a_colored_input_is_recolored_from_its_lightness_alone() -> None:
    rgb = photo(64, 64)
    lightness = torch.from_numpy(lightness_of(rgb) / 50 - 1).float()[None, None]
    gray = render(lightness, torch.zeros(1, 2, 64, 64))[0].permute(1, 2, 0).numpy()
    colorizer = PictureColorizer(SepiaByLightness(), 64)
    first, second = colorizer(Picture(rgb))[0].rgb, colorizer(Picture(gray))[0].rgb
    assert np.abs(first.astype(int) - second).max() <= 3  # gray was rounded to 8 bits


def test_alpha_passes_through() -> None:
    alpha = photo(30, 40)[..., 0]
    (colored,) = PictureColorizer(SepiaByLightness(), 32)(Picture(photo(30, 40), alpha))
    assert colored.alpha is not None
    assert np.array_equal(colored.alpha, alpha)


def test_strips_are_invisible(monkeypatch: pytest.MonkeyPatch) -> None:
    colorizer = PictureColorizer(SepiaByLightness(), 64)
    whole = colorizer(Picture(photo(101, 67)))[0].rgb
    monkeypatch.setattr("colorization.inference._STRIP_PIXELS", 500)
    assert np.array_equal(colorizer(Picture(photo(101, 67)))[0].rgb, whole)


def test_autocast_outside_and_training_mode_do_not_reach_the_model() -> None:
    model = SepiaByLightness().train()
    colorizer = PictureColorizer(model, 32)
    expected = colorizer(Picture(photo(50, 40)))[0].rgb
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.array_equal(colorizer(Picture(photo(50, 40)))[0].rgb, expected)


def test_a_model_that_returns_nan_is_an_error_and_no_black_picture() -> None:
    with pytest.raises(ValueError, match="not finite"):
        PictureColorizer(Broken(), 32)(Picture(photo(32, 32)))


@pytest.fixture
def colorizer() -> PictureColorizer:
    return PictureColorizer(SepiaByLightness(), 32)


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [(".png", "PNG"), (".jpg", "JPEG"), (".webp", "WEBP"), (".tif", "TIFF")],
)
def test_bytes_come_back_in_their_format(
    colorizer: PictureColorizer, suffix: str, kind: str, tmp_path: Path
) -> None:
    (data,) = colorize_bytes(colorizer, encode_picture(Picture(photo(40, 50)), suffix))
    (tmp_path / "a").write_bytes(data)
    with Image.open(tmp_path / "a") as image:
        assert image.format == kind
        assert image.size == (50, 40)


def test_png_bytes_lose_nothing(colorizer: PictureColorizer) -> None:
    for rgb in (photo(40, 50), photo(40, 50, np.uint16)):
        (data,) = colorize_bytes(colorizer, encode_picture(Picture(rgb), ".png"))
        assert np.array_equal(read_picture(data).rgb, colorizer(Picture(rgb))[0].rgb)


def test_bytes_of_other_formats_become_png_and_bad_ones_carry_their_name(
    colorizer: PictureColorizer,
) -> None:
    bitmap = cv2.imencode(".bmp", photo(8, 9))[1].tobytes()
    assert colorize_bytes(colorizer, bitmap)[0].startswith(b"\x89PNG")
    with pytest.raises(UnreadablePicture, match=r"upload 3: found text"):
        colorize_bytes(colorizer, b"hello", name="upload 3")


def test_a_folder_of_all_kinds_is_colorized_and_the_unreadable_one_named(
    colorizer: PictureColorizer, tmp_path: Path
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "deep er").mkdir(parents=True)
    image = Image.fromarray(photo(41, 53))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.convert("L").save(source / "gray.png")
    image.convert("CMYK").save(source / "cmyk.jpg")
    image.save(source / "turned.JPG", exif=exif)
    veiled = image.copy()
    veiled.putalpha(image.convert("L"))
    veiled.save(source / "deep er" / "alpha.webp")
    image.save(source / "写真.gif")
    cv2.imwrite(str(source / "deep er" / "deep.tiff"), photo(41, 53, np.uint16))
    (source / "text.jpg").write_text("no picture")
    (source / "notes.txt").write_text("passed over")
    (source / ".hidden.png").write_text("passed over")

    told: dict[str, Path | UnreadablePicture] = {}
    summary = colorize_files(
        colorizer,
        source,
        out,
        lambda picture, outcome: told.update({picture.name: outcome}),
    )

    written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert written == {
        "gray.png",
        "cmyk.jpg",
        "turned.JPG",
        "deep er/alpha.webp",
        "写真.png",
        "deep er/deep.tiff",
    }
    assert {str(path.relative_to(out)) for path in summary.done} == written
    ((failed, reason),) = summary.failed
    assert failed == source / "text.jpg"
    assert "found text" in reason
    assert isinstance(told["text.jpg"], UnreadablePicture)
    assert told["写真.gif"] == out / "写真.png"
    assert len(told) == 7
    sizes = {path.name: read_picture(path).rgb.shape[:2] for path in summary.done}
    assert sizes.pop("turned.JPG") == (53, 41)
    assert set(sizes.values()) == {(41, 53)}
    assert read_picture(out / "deep er" / "deep.tiff").rgb.dtype == np.uint16
    assert read_picture(out / "deep er" / "alpha.webp").alpha is not None


@pytest.mark.parametrize(
    ("out", "expected"),
    [("new.png", "new.png"), ("folder", "folder/a.jpg"), ("v1.0", "v1.0/a.jpg")],
)
def test_one_picture_goes_to_a_file_or_into_a_folder(
    colorizer: PictureColorizer, tmp_path: Path, out: str, expected: str
) -> None:
    Image.fromarray(photo(20, 30)).save(tmp_path / "a.jpg")
    summary = colorize_files(colorizer, tmp_path / "a.jpg", tmp_path / out)
    assert summary.done == [tmp_path / expected]
    assert read_picture(tmp_path / expected).rgb.shape == (20, 30, 3)


def test_pictures_whose_outputs_would_share_a_name_keep_apart(
    colorizer: PictureColorizer, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.gif", "a.bmp", "a.png"):
        Image.fromarray(photo(8, 8)).save(tmp_path / "in" / name)
    summary = colorize_files(colorizer, tmp_path / "in", tmp_path / "out")
    assert sorted(p.name for p in summary.done) == ["a.bmp.png", "a.gif.png", "a.png"]

    Image.fromarray(photo(8, 8)).save(tmp_path / "in" / "a.gif.png")
    with pytest.raises(ConfigError, match=r"2 pictures .*a\.gif\.png"):
        colorize_files(colorizer, tmp_path / "in", tmp_path / "out")


def test_an_input_is_never_overwritten(colorizer: PictureColorizer, tmp_path: Path) -> None:
    source = tmp_path / "b" / "b"
    source.mkdir(parents=True)
    Image.fromarray(photo(8, 8)).save(source / "a.png")
    Image.fromarray(photo(8, 8)).save(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes(), (source / "a.png").read_bytes()
    for picture, out in (
        (tmp_path / "a.png", tmp_path / "a.png"),
        (tmp_path / "a.png", tmp_path),
        (tmp_path / "a.png", tmp_path / "b" / ".." / "a.png"),
        (tmp_path / "a.png", tmp_path / "link.png"),
        (source, source),
    ):
        with pytest.raises(ConfigError, match=r"replace the input|is or lies in"):
            colorize_files(colorizer, picture, out)
    (tmp_path / "b" / "a.png").write_bytes(before[0])
    with pytest.raises(ConfigError, match="replace the input"):
        colorize_files(colorizer, tmp_path / "b", tmp_path)
    assert before == (
        (tmp_path / "a.png").read_bytes(),
        (source / "a.png").read_bytes(),
    )


def test_an_output_folder_inside_the_source_is_refused(
    colorizer: PictureColorizer, tmp_path: Path
) -> None:
    Image.fromarray(photo(8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="its own outputs"):
        colorize_files(colorizer, tmp_path, tmp_path / "colored")
    assert not (tmp_path / "colored").exists()


def test_a_missing_source_an_empty_folder_and_a_wrong_output_are_named(
    colorizer: PictureColorizer, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    Image.fromarray(photo(8, 8)).save(tmp_path / "a.png")
    (tmp_path / "file").touch()
    for source, out, message in (
        ("gone", "out", "gone: no such picture or folder"),
        ("empty", "out", "empty: no pictures"),
        ("a.png", "a.gif", r"a\.gif: cannot write \.gif files.*\.png"),
        ("a.png", "file", "file is a file"),
        ("empty", "file", "file is a file"),
    ):
        with pytest.raises(ConfigError, match=message):
            colorize_files(colorizer, tmp_path / source, tmp_path / out)


def test_one_unreadable_picture_is_reported_and_not_raised(
    colorizer: PictureColorizer, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").touch()
    summary = colorize_files(colorizer, tmp_path / "a.jpg", tmp_path / "out")
    assert summary.done == []
    assert "empty file" in summary.failed[0][1]
    assert not (tmp_path / "out").exists()


def half_mask(height: int, width: int) -> bytes:
    """White on the left half."""
    mask = np.zeros((height, width, 3), np.uint8)
    mask[:, : width // 2] = 255
    return encode_picture(Picture(mask), ".png")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_outside_the_foreground_a_picture_is_gray_and_inside_as_without(dtype: type) -> None:
    colorizer = PictureColorizer(SepiaByLightness(), 64)
    picture = Picture(np.repeat(photo(90, 120, dtype)[..., :1], 3, 2))
    (whole,) = colorizer(picture)
    mask = half_mask(45, 60)
    (left,) = colorizer(picture, ColorOptions(foreground=ForegroundOptions(mask=mask)))
    assert np.array_equal(left.rgb[:, :59], whole.rgb[:, :59])
    assert np.ptp(left.rgb[:, 61:].astype(int), axis=2).max() <= (1 if dtype == np.uint8 else 60)
    foreground = ForegroundOptions(mask=mask, invert=True)
    (right,) = colorizer(picture, ColorOptions(foreground=foreground))
    assert np.array_equal(right.rgb[:, 61:], whole.rgb[:, 61:])
    assert not np.array_equal(right.rgb[:, :59], whole.rgb[:, :59])


def test_a_mask_that_does_not_fit_is_said_of_the_picture_it_was_meant_for() -> None:
    colorizer = PictureColorizer(SepiaByLightness(), 64)
    options = ColorOptions(foreground=ForegroundOptions(mask=half_mask(60, 45)))
    colorizer.prepare(options)
    data = encode_picture(Picture(photo(90, 120)), ".png")
    with pytest.raises(UnreadablePicture, match="row 3: the mask has 45 x 60 pixels, the picture"):
        colorize_bytes(colorizer, data, options, "row 3")


def test_what_options_need_is_missed_before_there_is_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    colorizer = PictureColorizer(SepiaByLightness(), 64)
    with pytest.raises(ConfigError, match=r"deeplabv3_resnet101_coco-586e9e4e\.pth"):
        colorizer.prepare(ColorOptions(foreground=ForegroundOptions()))
    with pytest.raises(ConfigError, match="samples"):
        colorizer.prepare(ColorOptions(samples=2))
