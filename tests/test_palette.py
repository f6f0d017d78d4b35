import json
from typing import Any

import numpy as np
import pytest
import torch

from colorization.color import lab_to_rgb, rgb_to_lab
from colorization.color_flags import parse_flat
from colorization.coloring import ColorOptions
from colorization.config import ConfigError
from colorization.inference import PictureColorizer
from colorization.pair import load_colorizer
from colorization.photographs import Signature
from colorization.pictures import Picture, encode_picture
from tiny_pair import untrained_pair

# A dark smooth bar on the left and a bright grainy square on the right, and the other way round.
LEFT = {"bbox": [8, 4, 66, 112], "segmentation": [[20, 8, 60, 8, 60, 112, 20, 112]]}
RIGHT = {"bbox": [86, 20, 66, 80]}
RED, BLUE = (0.3, 0.2), (0.1, -0.3)


@pytest.fixture(scope="module")
def colorizer(tmp_path_factory: pytest.TempPathFactory) -> PictureColorizer:
    return load_colorizer(untrained_pair(tmp_path_factory.mktemp("pair")))


def scene(bar: tuple[float, float] = (0, 0), square: tuple[float, float] = (0, 0)) -> np.ndarray:
    """A picture (120, 160, 3) of the two things in these colors, on gray."""
    lab = torch.zeros(1, 3, 120, 160)
    grain = torch.from_numpy(np.random.default_rng(0).uniform(-0.3, 0.3, (80, 66)))
    lab[0, 0, 4:116, 8:74] = -0.7
    lab[0, 0, 20:100, 86:152] = 0.4 + grain
    for channel in (0, 1):
        lab[0, 1 + channel, 4:116, 8:74] = bar[channel]
        lab[0, 1 + channel, 20:100, 86:152] = square[channel]
    rgb = lab_to_rgb(lab, keep_lightness=True)[0].permute(1, 2, 0).numpy()
    return np.rint(rgb * 255).clip(0, 255).astype(np.uint8)


def mirrored(instance: dict[str, Any]) -> dict[str, Any]:
    x, y, w, h = instance["bbox"]
    return {"bbox": [160 - x - w, y, w, h]}


def options(*references: np.ndarray, **others: Any) -> ColorOptions:
    data = [encode_picture(Picture(rgb), ".png") for rgb in references]
    return parse_flat({"reference": data, **others})


def lines(**instances: list[dict[str, Any]]) -> str:
    """Say what is in any picture, as `picture`, and what in `reference_1`."""
    names = {"picture": "", "reference_1": "reference 1", "reference_2": "reference 2"}
    return "\n".join(
        json.dumps({"name": names[name], "instances": found}) for name, found in instances.items()
    )


def shown_to_the_scene_model(
    colorizer: PictureColorizer, asked: ColorOptions, monkeypatch: pytest.MonkeyPatch
) -> torch.Tensor:
    """Return the colors (2, 64, 64) that parts of the gray scene have when it is colored."""
    shown: list[torch.Tensor] = []
    before = colorizer.model.color_from

    def listen(
        lightness: torch.Tensor, latent: torch.Tensor, **parts: torch.Tensor
    ) -> torch.Tensor:
        shown.append(parts["colored"])
        return before(lightness, latent, **parts)

    monkeypatch.setattr(colorizer.model, "color_from", listen)
    colorizer(Picture(scene()), asked)
    assert all(torch.equal(one, shown[0]) for one in shown)
    return shown[0][0]


def test_each_instance_takes_the_colors_of_the_one_that_is_most_like_it_wherever_that_is(
    colorizer: PictureColorizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = np.ascontiguousarray(scene(bar=RED, square=BLUE)[:, ::-1])
    told = lines(picture=[LEFT, RIGHT], reference_1=[mirrored(LEFT), mirrored(RIGHT)])
    shown = shown_to_the_scene_model(colorizer, options(reference, instances=told), monkeypatch)
    bar, square = shown[:, 20:44, 12:20].mean((1, 2)), shown[:, 20:44, 40:56].mean((1, 2))
    assert (bar - torch.tensor(RED)).abs().max() < 0.08
    assert (square - torch.tensor(BLUE)).abs().max() < 0.08


def test_what_is_transparent_in_a_things_reference_lends_no_color(
    colorizer: PictureColorizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb, hidden = scene(bar=BLUE, square=BLUE), scene(bar=RED, square=RED)
    alpha = np.full(rgb.shape[:2], 255, np.uint8)
    alpha[:80] = 0
    data = encode_picture(Picture(np.where(alpha[..., None], rgb, hidden), alpha), ".png")
    told = lines(picture=[LEFT], reference_1=[LEFT])
    asked = parse_flat({"reference": [data], "instances": told})
    shown = shown_to_the_scene_model(colorizer, asked, monkeypatch)
    assert (shown[:, 20:44, 12:20].mean((1, 2)) - torch.tensor(BLUE)).abs().max() < 0.08


def test_instances_are_matched_with_those_of_all_references(
    colorizer: PictureColorizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = scene(bar=RED, square=RED), scene(bar=BLUE, square=BLUE)
    told = lines(picture=[LEFT, RIGHT], reference_1=[RIGHT], reference_2=[LEFT])
    shown = shown_to_the_scene_model(colorizer, options(one, other, instances=told), monkeypatch)
    assert shown[1, 20:44, 12:20].mean() < -0.2
    assert shown[1, 20:44, 40:56].mean() > 0.1


def test_where_no_reference_has_instances_they_take_its_colors_as_a_whole(
    colorizer: PictureColorizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = options(scene(bar=BLUE, square=BLUE), instances=json.dumps([LEFT, RIGHT]))
    shown = shown_to_the_scene_model(colorizer, asked, monkeypatch)
    for part in (shown[:, 20:44, 12:20], shown[:, 20:44, 40:56]):
        assert part[1].mean() < -0.1


def test_a_reference_is_mirrored_where_its_light_and_dark_then_lie_as_in_the_picture(
    colorizer: PictureColorizer,
) -> None:
    gray, reference = scene(), scene(bar=RED, square=BLUE)
    (expected,) = colorizer(Picture(gray), options(reference))
    (found,) = colorizer(Picture(gray), options(np.ascontiguousarray(reference[:, ::-1])))
    assert np.abs(found.rgb.astype(int) - expected.rgb).mean() < 1
    assert expected.rgb[40:80, 30:50, 0].mean() > expected.rgb[40:80, 30:50, 2].mean() + 20


def test_a_picture_with_instances_that_is_its_own_reference_comes_back(
    colorizer: PictureColorizer,
) -> None:
    rgb = scene(bar=RED, square=BLUE)
    told = lines(picture=[LEFT, RIGHT], reference_1=[LEFT, RIGHT])
    (colored,) = colorizer(Picture(rgb), options(rgb, instances=told))
    error = rgb_to_lab(torch.from_numpy(np.stack([colored.rgb, rgb])).permute(0, 3, 1, 2)).diff(
        dim=0
    )
    assert error.abs().mean() < 0.02


def test_instances_outside_of_their_reference_are_refused_before_a_picture_is_read(
    colorizer: PictureColorizer,
) -> None:
    told = lines(picture=[LEFT], reference_1=[{"bbox": [500, 0, 80, 80]}])
    with pytest.raises(
        ConfigError, match=r"instances: reference 1: .* lies outside of the picture"
    ):
        colorizer.prepare(options(scene(bar=RED), instances=told))


def test_a_picture_is_signed_by_the_instances_of_its_references_too(
    colorizer: PictureColorizer,
) -> None:
    def record(**instances: list[dict[str, Any]]) -> str:
        asked = options(scene(bar=RED), instances=lines(picture=[LEFT], **instances))
        return Signature(colorizer, asked).record("digest")

    assert record(reference_1=[LEFT]) != record(reference_1=[RIGHT])
    assert record(reference_2=[LEFT]) == record(reference_2=[RIGHT])  # there is none
