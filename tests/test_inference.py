from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from colorization import resizing
from colorization.color import render, rgb_to_lab
from colorization.coloring import ColorOptions
from colorization.config import ConfigError, parse
from colorization.experiment import Experiment, build_model, without_pretrained
from colorization.foreground import ForegroundOptions
from colorization.inference import PictureColorizer
from colorization.photographs import colorize_bytes
from colorization.pictures import Picture, UnreadablePicture, encode_picture
from sepia import Drawing, SepiaByLightness, lightness_of, photo
from small_recipe import read_small_recipe


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
    truth = lightness_of(gray)
    error = np.abs(lightness_of(colored) - truth)
    assert error.max() < (0.26 if dtype == np.uint8 else 0.02)
    inside = (truth > 30) & (truth < 70)
    if inside.any():
        lab = rgb_to_lab(
            torch.from_numpy(colored / np.float32(np.iinfo(dtype).max)).permute(2, 0, 1)
        )
        assert lab[2].numpy()[inside].mean() > 0.1


def test_what_the_model_sees_has_the_training_size_on_its_short_side_padded_if_long() -> None:
    model = SepiaByLightness()
    colorizer = PictureColorizer(model, 64)
    for size in ((128, 128), (96, 150), (700, 300), (20, 40), (1, 500)):
        colorizer(Picture(photo(*size)))
    shapes = [tuple(lightness.shape[-2:]) for lightness in model.seen]
    assert shapes == [(64, 64), (64, 112), (160, 64), (64, 128), (64, 256)]


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


@pytest.mark.parametrize("recipe", ["lab_gan", "pix2pix", "unet_cvae", "cinn", "vit_gan"])
@pytest.mark.parametrize(("height", "width"), [(40, 900), (900, 40), (1, 300), (300, 1), (1, 1)])
def test_the_published_networks_color_pictures_of_any_proportions(
    recipe: str, height: int, width: int
) -> None:
    experiment = parse(Experiment, read_small_recipe(recipe))
    model = build_model(without_pretrained(experiment))
    [colored] = PictureColorizer(model, experiment.data.size)(Picture(photo(height, width)))
    assert colored.rgb.shape == (height, width, 3)


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
    assert np.ptp(colored[:, 148:], axis=2).max() == 0


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
    monkeypatch.setattr(resizing, "STRIP_PIXELS", 500)
    found = colorizer(Picture(photo(101, 67)))[0].rgb
    assert np.abs(found.astype(int) - whole).max() <= 1  # rounding of sums in another order
    assert (found == whole).mean() > 0.999


def test_autocast_outside_and_training_mode_do_not_reach_the_model() -> None:
    model = SepiaByLightness().train()
    colorizer = PictureColorizer(model, 32)
    expected = colorizer(Picture(photo(50, 40)))[0].rgb
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.array_equal(colorizer(Picture(photo(50, 40)))[0].rgb, expected)


def test_a_model_that_returns_nan_is_an_error_and_no_black_picture() -> None:
    with pytest.raises(ValueError, match="not finite"):
        PictureColorizer(Broken(), 32)(Picture(photo(32, 32)))


def test_samples_are_several_colorings_and_the_first_ones_stay() -> None:
    colorizer = PictureColorizer(Drawing(), 32)
    picture = Picture(photo(40, 50))
    few = colorizer(picture, ColorOptions(samples=2))
    many = colorizer(picture, ColorOptions(samples=4))
    assert len(few) == 2
    for first, again in zip(few, many[:2], strict=True):
        assert np.array_equal(first.rgb, again.rgb)
    assert len({sample.rgb.tobytes() for sample in many}) == 4
    other = colorizer(picture, ColorOptions(samples=2, seed=1))
    assert not np.array_equal(few[0].rgb, other[0].rgb)
    mean = colorizer(picture, ColorOptions(samples=2, temperature=0))
    assert np.array_equal(mean[0].rgb, mean[1].rgb)
    assert np.ptp(mean[0].rgb.astype(int), axis=2).max() <= 1


def test_a_model_that_draws_nothing_refuses_samples() -> None:
    with pytest.raises(ConfigError, match="draws nothing"):
        PictureColorizer(SepiaByLightness(), 32)(Picture(photo(8, 8)), ColorOptions(samples=3))


def chroma(rgb: np.ndarray) -> float:
    lab = rgb_to_lab(torch.from_numpy(rgb).permute(2, 0, 1))
    return lab[1:].norm(dim=0).mean().item()


def test_saturation_scales_colors_and_nothing_else() -> None:
    colorizer = PictureColorizer(SepiaByLightness(), 32)
    gray = np.tile(np.linspace(100, 150, 50).astype(np.uint8)[:, None, None], (1, 40, 3))
    found = {
        saturation: colorizer(Picture(gray), ColorOptions(saturation=saturation))[0].rgb
        for saturation in (0.0, 0.5, 1.0)
    }
    assert np.array_equal(found[0.0], gray)
    assert chroma(found[0.5]) == pytest.approx(0.5 * chroma(found[1.0]), rel=0.02)
    for rgb in found.values():
        assert np.abs(lightness_of(rgb) - lightness_of(gray)).max() < 0.26


def test_the_gain_is_what_the_model_sees_and_the_picture_keeps_its_lightness() -> None:
    model = SepiaByLightness()
    pale = 200 + (photo(64, 64)[..., :1] // 5).repeat(3, axis=2)
    (colored,) = PictureColorizer(model, 64)(Picture(pale), ColorOptions(gain=0.5))
    shown = 50 * (model.seen[0][0, 0].numpy() + 1)
    np.testing.assert_allclose(shown, lightness_of(pale) / 2, atol=1e-3)
    assert np.abs(lightness_of(colored.rgb) - lightness_of(pale)).max() < 0.26


def test_automatic_gain_leaves_ordinary_pictures_alone_and_darkens_pale_ones() -> None:
    model = SepiaByLightness()
    colorizer = PictureColorizer(model, 64)
    ordinary, pale = photo(64, 64), 205 + photo(64, 64) // 6
    for rgb in (ordinary, pale):
        colorizer(Picture(rgb), ColorOptions(gain="auto"))
    means = [50 * (seen.mean().item() + 1) for seen in model.seen]
    assert means[0] == pytest.approx(lightness_of(ordinary).mean(), abs=0.01)
    assert lightness_of(pale).mean() > 80
    assert 60 < means[1] < 75


def test_pictures_colored_together_equal_those_colored_alone() -> None:
    model = SepiaByLightness()
    colorizer = PictureColorizer(model, 64)
    pictures = [Picture(photo(*size)) for size in ((70, 80), (140, 160), (64, 64), (35, 40))]
    pictures.append(Picture(photo(70, 80, np.uint16)))
    alone = [colorizer.one(picture) for picture in pictures]
    model.seen.clear()
    together = [list(samples) for samples in list(colorizer.batch(pictures))]
    assert sorted(len(seen) for seen in model.seen) == [1, 4]
    for one, (other,) in zip(alone, together, strict=True):
        assert one.rgb.dtype == other.rgb.dtype
        assert np.abs(one.rgb.astype(int) - other.rgb).max() <= 1


@pytest.mark.parametrize("upsampling", ["guided", "bilateral", "bicubic"])
@pytest.mark.parametrize("size", [(150, 203), (40, 300), (1, 500), (500, 1)])
def test_every_upsampling_takes_any_size(size: tuple[int, int], upsampling: str) -> None:
    options = ColorOptions.model_validate({"upsampling": upsampling})
    rgb = photo(*size)
    (colored,) = PictureColorizer(SepiaByLightness(), 64)(Picture(rgb), options)
    assert colored.rgb.shape == rgb.shape
    assert np.abs(lightness_of(colored.rgb) - lightness_of(rgb)).max() < 0.26


def saturated(dtype: type) -> np.ndarray:
    """Full saturation in all hues and lightnesses, primaries among them: (96, 120, 3)."""
    hue, value = np.meshgrid(np.linspace(0, 6, 120), np.linspace(0, 2, 96))
    wheel = np.stack([np.abs(hue - 3) - 1, 2 - np.abs(hue - 2), 2 - np.abs(hue - 4)], axis=-1)
    pure = np.clip(wheel, 0, 1)
    shade, tint = np.clip(value, 0, 1)[..., None], np.clip(value - 1, 0, 1)[..., None]
    rgb = pure * shade * (1 - tint) + tint
    return np.rint(rgb * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("strength", [1.0, 4.0])
def test_lightness_stays_however_saturated_input_and_output_are(
    dtype: type, strength: float
) -> None:
    rgb = saturated(dtype)
    colorizer = PictureColorizer(SepiaByLightness(), 48)
    (colored,) = colorizer(Picture(rgb), ColorOptions(saturation=strength))
    error = np.abs(lightness_of(colored.rgb) - lightness_of(rgb))
    assert error.max() < (0.26 if dtype == np.uint8 else 0.02)


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
