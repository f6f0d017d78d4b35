import numpy as np
import pytest
import torch
from torch import Tensor

from colorization.coloring import ColorOptions
from colorization.inference import PictureColorizer
from colorization.models.colorizer import noise
from colorization.pictures import Picture
from colorization.tiles import agree, color_tiles, tiled_size
from sepia import SepiaByLightness, lightness_of, photo


class Moody(SepiaByLightness):
    """Another tone for each tile, by its mean lightness: what makes seams."""

    def colorize(
        self,
        lightness: Tensor,
        samples: int = 1,
        temperature: float | None = None,
        seed: int = 0,
    ) -> Tensor:
        self.seen.append(lightness)
        number = int(lightness.sum().item() * 1000) % 1000
        tone = 0.3 * noise(1, 2, torch.device("cpu"), number).view(1, 1, 2, 1, 1)
        return tone.expand(samples, len(lightness), 2, *lightness.shape[-2:])


def test_only_pictures_much_larger_than_the_model_s_are_tiled() -> None:
    assert tiled_size(300, 400, 256) is None
    assert tiled_size(512, 700, 256) == (512, 700)
    assert tiled_size(3000, 4000, 256) == (1024, 1365)


@pytest.mark.parametrize("size", [(100, 131), (32, 90), (33, 33), (20, 50)])
def test_tiles_cover_all_and_what_they_agree_on_is_the_result(size: tuple[int, int]) -> None:
    lightness = torch.rand(1, 1, *size) * 2 - 1
    seen: list[tuple[int, ...]] = []

    def color(tile: Tensor) -> Tensor:
        seen.append(tuple(tile.shape[-2:]))
        return torch.cat([tile, -tile], dim=1)[None] / 2

    found = color_tiles(color, lightness, 32)
    expected = torch.cat([lightness, -lightness], dim=1)[None] / 2
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert set(seen) == {(min(32, size[0]), min(32, size[1]))}


def test_where_tiles_disagree_there_is_no_seam() -> None:
    lightness = torch.rand(1, 1, 128, 160)
    model = Moody()
    tiles = color_tiles(lambda tile: model.colorize(tile), lightness, 32)[:, 0]
    tones = torch.stack([model.colorize(seen)[0, 0, :, 0, 0] for seen in list(model.seen)])
    spread = (tones.amax(0) - tones.amin(0)).max()
    assert spread > 0.5
    for steps in (tiles[..., 1:, :] - tiles[..., :-1, :], tiles[..., 1:] - tiles[..., :-1]):
        assert steps.abs().max() < 0.12 * spread  # of a change that takes half a tile


def test_tiles_take_their_tint_from_the_whole_view_and_keep_what_is_fine() -> None:
    stripes = torch.zeros(1, 2, 128, 128)
    stripes[..., ::2] = 0.1
    whole = torch.full((1, 2, 32, 32), -0.2)
    found = agree(stripes, whole)
    assert found.mean().item() == pytest.approx(-0.2, abs=0.01)
    assert (found[..., 1::2] - found[..., ::2]).mean().item() == pytest.approx(-0.1, abs=0.01)


def test_a_tiled_picture_has_the_model_s_colors_without_seams_and_its_own_lightness() -> None:
    rgb = (photo(300, 400)[..., :1] // 2 + 60).repeat(3, axis=2)
    model = SepiaByLightness()
    colorizer = PictureColorizer(model, 64)
    (plain,) = colorizer(Picture(rgb))
    model.seen.clear()
    (tiled,) = colorizer(Picture(rgb), ColorOptions(tile=True))
    assert len(model.seen) > 20
    assert {tuple(seen.shape[-2:]) for seen in model.seen[1:]} == {(64, 64)}
    assert np.abs(tiled.rgb.astype(int) - plain.rgb).mean() < 1
    (moody,) = PictureColorizer(Moody(), 64)(Picture(rgb), ColorOptions(tile=True))
    assert np.abs(lightness_of(moody.rgb) - lightness_of(rgb)).max() < 0.26


def test_a_small_picture_is_not_tiled() -> None:
    colorizer = PictureColorizer(SepiaByLightness(), 64)
    picture = Picture(photo(70, 80))
    (plain,), (tiled,) = colorizer(picture), colorizer(picture, ColorOptions(tile=True))
    assert np.array_equal(plain.rgb, tiled.rgb)
