import base64
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from colorization.color import lab_to_rgb, rgb_to_lab
from colorization.color_flags import parse_flat
from colorization.color_transfer import distance_between
from colorization.coloring import ColorOptions, check_options
from colorization.config import ConfigError, parse
from colorization.experiment import Experiment, build_model, without_pretrained
from colorization.inference import PictureColorizer
from colorization.models.cinn.cinn import CINN
from colorization.palette import References
from colorization.pictures import Picture, encode_picture
from sepia import photo
from small_recipe import read_small_recipe
from tiny_colorizers import Tones

FLOWS = ("cinn", "cinn_deep", "cinn_instance", "cinn_scene")
SIDE = 64


def flow(recipe: str = "cinn", deviation: float = 0.05) -> CINN:
    """A flow of random weights that does more to colors than pass them on."""
    torch.manual_seed(0)
    model = build_model(without_pretrained(parse(Experiment, read_small_recipe(recipe))))
    assert isinstance(model, CINN)
    with torch.no_grad():
        for parameter in model.network.flow.parameters():
            parameter.normal_(0, deviation)
    return model.eval()


@pytest.fixture(scope="module")
def colorizer() -> PictureColorizer:
    return PictureColorizer(flow(), SIDE)


def tinted(a: float, b: float, brightness: float = 0.0, grain: float = 0.1) -> np.ndarray:
    """A grainy picture of one tone, whose lightness is around `brightness`."""
    light = brightness + grain * np.random.default_rng(0).uniform(-1, 1, (SIDE, SIDE))
    lab = torch.zeros(1, 3, SIDE, SIDE)
    lab[0, 0] = torch.from_numpy(light)
    lab[0, 1], lab[0, 2] = a, b
    rgb = lab_to_rgb(lab)[0].permute(1, 2, 0).numpy()
    return np.rint(rgb * 255).clip(0, 255).astype(np.uint8)


def png(rgb: np.ndarray) -> bytes:
    return encode_picture(Picture(rgb), ".png")


def mean_ab(rgb: np.ndarray) -> np.ndarray:
    return (
        rgb_to_lab(torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None])[0, 1:].mean((1, 2)).numpy()
    )


WARM, COLD = tinted(0.15, 0.25), tinted(-0.05, -0.25)


@pytest.mark.parametrize("recipe", FLOWS)
def test_a_flow_makes_of_a_pictures_latents_its_own_colors_again(recipe: str) -> None:
    model = flow(recipe)
    lab = rgb_to_lab(torch.from_numpy(np.stack([photo(64, 64), WARM])).permute(0, 3, 1, 2))
    with torch.inference_mode():
        latents = model.latent_of(lab)
        assert latents.shape == (2, *model.latent_shape(64, 64))
        # As finely as it makes colors; what it scales them up by follows lightness.
        conditions = model.network.condition(model._picture(lab[:, :1], None))
        small = model.network.flow.inverse(latents, conditions)
        together = model.color_from(lab[:, :1], latents)
        alone = torch.cat(
            [model.color_from(lab[i : i + 1, :1], latents[i : i + 1]) for i in range(2)]
        )
    torch.testing.assert_close(small, F.avg_pool2d(lab[:, 1:], 4), atol=1e-4, rtol=0)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("recipe", FLOWS)
def test_a_picture_that_is_its_own_reference_comes_back(recipe: str) -> None:
    rgb = np.asarray(Image.fromarray(photo(16, 12)).resize((180, 240), Image.Resampling.BICUBIC))
    options = ColorOptions(reference=(png(rgb),))
    (colored,) = PictureColorizer(flow(recipe), SIDE)(Picture(rgb), options)
    (without,) = PictureColorizer(flow(recipe), SIDE)(Picture(rgb))
    error, otherwise = (np.abs(made.rgb.astype(float) - rgb).mean() for made in (colored, without))
    assert error < 5 < 20 < otherwise


def test_a_picture_takes_the_colors_of_its_reference(colorizer: PictureColorizer) -> None:
    gray = tinted(0, 0)
    for reference in (WARM, COLD):
        (colored,) = colorizer(Picture(gray), ColorOptions(reference=(png(reference),)))
        assert np.abs(mean_ab(colored.rgb) - mean_ab(reference)).max() < 0.03


def test_colors_are_the_references_also_where_a_model_thinks_them_unlikely() -> None:
    colorizer = PictureColorizer(flow(deviation=0.1), SIDE)  # decoded alone: 0.03 to 0.07 away
    reference = tinted(0.25, -0.2, 0.5, 0.3)
    for brightness in (-0.4, -0.2, 0.0):
        gray = tinted(0, 0, brightness, 0.2)
        (colored,) = colorizer(Picture(gray), ColorOptions(reference=(png(reference),)))
        assert np.abs(mean_ab(colored.rgb) - mean_ab(reference)).max() < 0.025, brightness


@pytest.mark.parametrize("tone", [(0.55, 0.4), (-0.4, 0.35), (0.1, -0.6), (0.05, 0.1)])
def test_moving_a_latent_takes_no_color_further_from_the_references(
    tone: tuple[float, float],
) -> None:
    light = torch.from_numpy(photo(SIDE, SIDE)).permute(2, 0, 1)[None]
    light = rgb_to_lab(light)[:, :1]
    for deviation in (0.1, 0.2, 0.3):
        colorizer = PictureColorizer(flow(deviation=deviation), SIDE)
        options = ColorOptions(reference=(png(tinted(*tone, grain=0)),))
        with torch.inference_mode():
            palettes = References(colorizer)(options)
            assert palettes is not None
            (region,) = palettes.whole.regions
            (latents,) = palettes.whole.latents([light], options)
            both = (region.latent_for(light)[None], latents)
            colors = [colorizer.model.color_from(light, one)[0].flatten(1) for one in both]
            alone, moved = (distance_between(one, region.colors) for one in colors)
        assert moved <= alone


def test_of_several_references_each_picture_takes_the_one_that_is_most_like_it(
    colorizer: PictureColorizer,
) -> None:
    dark, bright = tinted(0.15, 0.25, -0.6), tinted(-0.05, -0.25, 0.4)
    options = ColorOptions(reference=(png(dark), png(bright)))
    pictures = [Picture(tinted(0, 0, brightness)) for brightness in (0.5, -0.5, 0.3)]
    for order in (pictures, pictures[::-1]):  # together, whichever batch they are in
        for picture, samples in zip(order, colorizer.batch(order, options), strict=True):
            (colored,) = samples
            (alone,) = colorizer(picture, options)
            assert np.abs(colored.rgb.astype(int) - alone.rgb).max() <= 1
            warm = mean_ab(colored.rgb)[1] > 0
            assert warm == (picture.rgb.mean() < 100)


def test_samples_leave_the_reference_by_the_temperature(colorizer: PictureColorizer) -> None:
    def colors(**drawn: float) -> list[np.ndarray]:
        options = parse(ColorOptions, {"reference": (png(WARM),), **drawn})
        return [picture.rgb.astype(int) for picture in colorizer(Picture(tinted(0, 0)), options)]

    (own,) = colors()
    first, second, third = colors(samples=3)
    assert np.array_equal(first, own)
    assert not np.array_equal(second, third)
    assert all(np.array_equal(made, own) for made in colors(samples=3, temperature=0))
    near, far = (np.abs(colors(samples=2, temperature=t)[1] - own).mean() for t in (0.5, 1.5))
    assert 0 < near < far
    # At 2 nothing of the reference is left.
    free = colorizer(Picture(tinted(0, 0)), ColorOptions(samples=2))[1].rgb
    assert np.abs(colors(samples=2, temperature=2)[1] - free).max() <= 1


def test_a_reference_goes_with_the_other_options(colorizer: PictureColorizer) -> None:
    gray = Picture(np.asarray(Image.fromarray(tinted(0, 0)).resize((200, 150))))
    plain = {"reference": [png(WARM)]}

    def color(**others: object) -> np.ndarray:
        return colorizer(gray, parse_flat({**plain, **others}))[0].rgb

    assert np.abs(mean_ab(color(saturation=0.5)) - mean_ab(color()) / 2).max() < 0.02
    assert mean_ab(color(tile=True))[1] > 0.15
    assert mean_ab(color(gain=1.5))[1] > 0.15
    mask = np.zeros((150, 200, 3), np.uint8)
    mask[:, :100] = 255
    kept = color(mask=png(mask))
    assert mean_ab(kept[:, :90])[1] > 0.15
    assert np.ptp(kept[:, 110:].astype(int), axis=2).max() <= 1


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (png(tinted(0, 0)), "reference.0: found a gray picture, its mean chroma is 0"),
        (b"no picture", "reference.0: the reference: found text"),
        (png(WARM)[:200], "reference.0: the reference"),
        ("AAAA", "reference.0: the reference: found"),
        ("%%%", "reference.0: found text that is no base64"),
        (7, "reference: found 7"),
        ([7], "reference.0: found int; an encoded picture is needed"),
        ([png(WARM)] * 17, "reference: found 17 pictures, at most 16 are taken"),
    ],
)
def test_a_reference_that_cannot_give_colors_is_named(reference: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_flat({"reference": reference})
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_model_that_cannot_encode_refuses_a_reference() -> None:
    options = ColorOptions(reference=(png(WARM),))
    with pytest.raises(ConfigError, match="reference: found 1; this model, a Tones, cannot tell"):
        check_options(options, Tones())
    check_options(options, flow())


def test_references_travel_as_bytes_and_as_base64() -> None:
    pictures = [png(WARM), png(COLD)]
    expected = ColorOptions(reference=tuple(pictures))
    text = [base64.b64encode(data).decode() for data in pictures]
    for said in (pictures, text, tuple(pictures), ",".join(text), ", ".join(text)):
        assert parse_flat({"reference": said}) == expected
    for one in (pictures[0], text[0]):
        assert parse_flat({"reference": one}) == ColorOptions(reference=(pictures[0],))
    assert parse(ColorOptions, expected.model_dump(mode="json")) == expected


def test_what_is_transparent_in_a_reference_lends_no_color(colorizer: PictureColorizer) -> None:
    with pytest.raises(ConfigError, match=r"reference\.0: found a gray picture"):
        parse_flat({"reference": rgba(WARM, 0)})
    both = np.hstack([COLD, COLD, COLD, WARM])
    alpha = np.repeat([[0] * 3 * SIDE + [255] * SIDE], SIDE, 0).astype(np.uint8)
    gray = Picture(tinted(0, 0))
    (found,) = colorizer(gray, parse_flat({"reference": rgba(both, alpha)}))
    (whole,) = colorizer(gray, parse_flat({"reference": png(both)}))
    assert np.abs(mean_ab(found.rgb) - mean_ab(WARM)).max() < 0.03
    assert np.abs(mean_ab(whole.rgb) - mean_ab(WARM)).max() > 0.2


def rgba(rgb: np.ndarray, alpha: np.ndarray | int) -> bytes:
    return encode_picture(Picture(rgb, np.full(rgb.shape[:2], alpha, np.uint8)), ".png")


def test_a_reference_is_seen_upright(colorizer: PictureColorizer, tmp_path: Path) -> None:
    upright, turned = np.vstack([WARM, COLD]), tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter to the right
    Image.fromarray(np.rot90(upright)).save(turned, exif=exif)
    gray = Picture(np.vstack([tinted(0, 0)] * 2))
    expected, found = (
        colorizer(gray, ColorOptions(reference=(data,)))[0].rgb
        for data in (png(upright), turned.read_bytes())
    )
    assert np.array_equal(found, expected)
