import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from colorization.color import rgb_to_lab
from colorization.data import SampleSource
from colorization.models.augmentation import (
    AdaptiveAugmentation,
    Augmenter,
    DiffAugment,
    brighten,
    saturate,
    turn_hue,
)

SIDE = 32
OFF = {"blit": False, "geometry": False, "color": False}


@pytest.fixture(scope="module")
def photos() -> Tensor:
    """Scaled Lab (8, 3, 32, 32) of real photographs."""
    crops = SampleSource(crops=8).open(max_unreadable=0.1).train
    rgb = [torch.from_numpy(crops.picture(i).copy()).permute(2, 0, 1) for i in range(8)]
    return torch.stack([rgb_to_lab(picture[:, :SIDE, :SIDE]) for picture in rgb])


@pytest.fixture(params=["ab", "rgb"])
def pictures(request: pytest.FixtureRequest, photos: Tensor) -> Tensor:
    """What a discriminator sees: lightness and ab, or lightness and rgb."""
    if request.param == "ab":
        return photos
    generator = torch.Generator().manual_seed(0)
    return torch.cat([photos[:, :1], torch.rand(8, 3, SIDE, SIDE, generator=generator) * 2 - 1], 1)


def ada(probability: float, *parts: str, **settings: Any) -> Augmenter:
    chosen = OFF | dict.fromkeys(parts, True) if parts else {}
    augmenter = AdaptiveAugmentation(**chosen, **settings).build()
    augmenter.probability.fill_(probability)
    return augmenter


def diffaugment(*parts: str) -> Augmenter:
    names = ("color", "translation", "cutout")
    return DiffAugment.model_validate({name: name in (parts or names) for name in names}).build()


AUGMENTERS = {
    "diffaugment": diffaugment(),
    "color": diffaugment("color"),
    "translation": diffaugment("translation"),
    "cutout": diffaugment("cutout"),
    "ada": ada(0.9),
    "ada blit": ada(1.0, "blit"),
    "ada geometry": ada(1.0, "geometry"),
    "ada color": ada(1.0, "color"),
}


def test_ada_at_probability_zero_changes_nothing(pictures: Tensor) -> None:
    assert torch.equal(AdaptiveAugmentation().build()(pictures), pictures)


@pytest.mark.parametrize("kind", AUGMENTERS)
def test_every_picture_is_changed_in_its_own_way_and_stays_finite(
    kind: str, pictures: Tensor
) -> None:
    torch.manual_seed(0)
    same = pictures[:1].repeat(8, 1, 1, 1)
    changed = AUGMENTERS[kind](same)
    assert changed.shape == same.shape
    assert changed.isfinite().all()
    assert sum(torch.equal(changed[i], same[i]) for i in range(8)) <= 1
    assert not any(torch.equal(changed[i], changed[i + 1]) for i in range(7))


@pytest.mark.parametrize("kind", AUGMENTERS)
def test_gradients_reach_every_picture_that_is_changed(kind: str, pictures: Tensor) -> None:
    torch.manual_seed(0)
    entering = pictures.clone().requires_grad_()
    AUGMENTERS[kind](entering).square().sum().backward()
    assert entering.grad is not None
    assert entering.grad.isfinite().all()
    assert (entering.grad.flatten(1).abs().amax(1) > 0).all()


@pytest.mark.parametrize("kind", AUGMENTERS)
def test_autocast_moves_no_pixel(kind: str, pictures: Tensor) -> None:
    torch.manual_seed(0)
    expected = AUGMENTERS[kind](pictures)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = AUGMENTERS[kind](pictures)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", ["translation", "cutout", "ada blit", "ada geometry"])
def test_geometry_moves_all_channels_together(kind: str, pictures: Tensor) -> None:
    torch.manual_seed(0)
    same = pictures[:, :1].expand_as(pictures)
    changed = AUGMENTERS[kind](same)
    assert torch.equal(changed, changed[:, :1].expand_as(changed))


@pytest.mark.parametrize("kind", ["color", "ada color"])
def test_color_changes_leave_gray_gray_and_every_pixel_in_its_place(
    kind: str, pictures: Tensor
) -> None:
    torch.manual_seed(0)
    gray = pictures.clone()
    gray[:, 1:] = 0 if pictures.shape[1] == 3 else pictures[:, :1]
    changed = AUGMENTERS[kind](gray)
    torch.testing.assert_close(changed[:, 1:], changed[:, 1:2].expand_as(changed[:, 1:]))
    if pictures.shape[1] == 3:
        assert (changed[:, 1:] == 0).all()
    else:  # lightness and rgb are of the same picture still
        torch.testing.assert_close(changed[:, 1:2], changed[:, :1], rtol=1e-4, atol=1e-5)
    for before, after in zip(gray[:, 0], changed[:, 0], strict=True):
        slope = torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1]
        assert abs(slope) > 0.999


def test_brightness_shifts_lightness_and_the_mean_of_rgb_alike(photos: Tensor) -> None:
    amounts = torch.linspace(-0.5, 0.5, 8)
    lab = brighten(photos, amounts)
    torch.testing.assert_close(lab[:, 0] - photos[:, 0], amounts.view(8, 1, 1).expand(8, 32, 32))
    assert torch.equal(lab[:, 1:], photos[:, 1:])
    rgb = photos[:, [0, 0, 1, 2]]
    shifts = (brighten(rgb, amounts) - rgb).mean((2, 3))
    torch.testing.assert_close(shifts, amounts[:, None].expand(8, 4))


def test_saturation_scales_the_distance_from_gray(pictures: Tensor) -> None:
    gray = saturate(pictures, torch.zeros(8))
    assert torch.equal(gray[:, 0], pictures[:, 0])
    assert gray[:, 1:].std(1).max() < 1e-6
    doubled = saturate(pictures, torch.full((8,), 2.0))
    torch.testing.assert_close(doubled - gray, 2 * (pictures - gray))


def test_hue_turns_around_gray() -> None:
    torch.manual_seed(0)
    lab, rgb = torch.randn(1, 3, 4, 4), torch.randn(1, 4, 4, 4)
    quarter, third = torch.tensor([math.pi / 2]), torch.tensor([math.tau / 3])
    expected = torch.stack([lab[:, 0], -lab[:, 2], lab[:, 1]], dim=1)
    torch.testing.assert_close(turn_hue(lab, quarter), expected)
    torch.testing.assert_close(turn_hue(rgb, third), rgb[:, [0, 3, 1, 2]])


def test_diffaugment_shifts_by_an_eighth_at_most_and_fills_with_zero(pictures: Tensor) -> None:
    torch.manual_seed(0)
    shifts = set()
    for before, after in zip(
        pictures.repeat(8, 1, 1, 1),
        diffaugment("translation")(pictures.repeat(8, 1, 1, 1)),
        strict=True,
    ):
        padded = torch.nn.functional.pad(before, (4, 4, 4, 4))
        found = {
            (x, y)
            for x in range(9)
            for y in range(9)
            if torch.allclose(padded[:, y : y + SIDE, x : x + SIDE], after, atol=1e-6)
        }
        assert len(found) == 1
        shifts |= found
    assert {x for x, _ in shifts} == {y for _, y in shifts} == set(range(9))


def test_cutout_blanks_one_square_of_half_the_side_or_what_is_inside() -> None:
    torch.manual_seed(0)
    blank = diffaugment("cutout")(torch.ones(400, 3, SIDE, SIDE))[:, 0] == 0
    rows, columns = blank.any(2), blank.any(1)
    assert torch.equal(blank, rows[:, :, None] & columns[:, None])
    for ends in (rows.sum(1), columns.sum(1)):
        assert ends.min() == SIDE // 4
        assert ends.max() == SIDE // 2
    often = blank.float().mean(0)
    assert often.min() > 0.03  # every pixel at times, those in the middle most often
    assert often.argmax() // SIDE in range(8, 24)
    assert (blank.float().mean((1, 2)).mean() - (7 / 16) ** 2).abs() < 0.01


def test_ada_flips_turns_and_shifts_by_whole_pixels(photos: Tensor) -> None:
    torch.manual_seed(0)
    changed = ada(1.0, "blit")(photos)
    for before, after in zip(photos.flatten(2), changed.flatten(2), strict=True):
        distances = torch.cdist(after.T.contiguous(), before.T.contiguous())
        assert distances.amin(1).max() < 1e-3  # every pixel is one of the picture's


def test_ada_stretches_and_turns_about_the_middle(photos: Tensor) -> None:
    torch.manual_seed(0)
    disk = torch.zeros(500, 3, SIDE, SIDE)
    place = torch.arange(SIDE) - (SIDE - 1) / 2
    disk[:] = ((place[:, None] ** 2 + place**2).sqrt() < 6).float()
    changed = ada(1.0, "geometry")(disk)[:, 0]
    middle = changed.mean(0)
    assert middle.argmax() in range(SIDE * 12, SIDE * 20)
    ratio = changed.sum((1, 2)).median() / disk[0, 0].sum()
    assert 0.8 < ratio < 1.25
    torch.testing.assert_close(middle, middle.T, atol=0.08, rtol=0)


@pytest.mark.parametrize("probability", [0.1, 0.4, 0.8])
def test_ada_makes_each_change_with_its_probability(probability: float, photos: Tensor) -> None:
    torch.manual_seed(0)
    many = photos[:1, :, :16, :16].repeat(2000, 1, 1, 1)

    def share(part: str) -> float:
        return (ada(probability, part)(many) != many).flatten(1).any(1).float().mean().item()

    kept = 1 - probability
    # Half of the flips and inversions, a quarter of the turns and a 25th of the shifts change
    # nothing; of the two turns around the middle one happens with the probability.
    flip, turn, shift = 1 - probability / 2, 1 - probability * 3 / 4, 1 - probability * 0.96
    assert share("blit") == pytest.approx(1 - flip * turn * shift, abs=0.03)
    assert share("geometry") == pytest.approx(1 - kept**4, abs=0.03)
    assert share("color") == pytest.approx(1 - kept**4 * flip, abs=0.03)


def test_the_probability_rises_while_the_discriminator_is_certain_and_falls_otherwise() -> None:
    augmenter = AdaptiveAugmentation(pictures=1000).build()
    certain, doubtful = torch.tensor(0.9), torch.tensor(0.2)
    assert augmenter.probability == 0
    for _ in range(10):
        augmenter.adapt(certain, 16)
    assert augmenter.probability.item() == pytest.approx(0.16)
    augmenter.adapt(doubtful, 60)
    assert augmenter.probability.item() == pytest.approx(0.1)
    augmenter.adapt(doubtful, 500)
    assert augmenter.probability == 0
    augmenter.adapt(certain, 5000)
    assert augmenter.probability == 1
    lenient = AdaptiveAugmentation(pictures=1000, target=0.1).build()
    lenient.adapt(doubtful, 10)
    assert lenient.probability.item() == pytest.approx(0.01)


def test_the_probability_is_saved_with_the_model_and_diffaugments_is_always_one() -> None:
    saved = ada(0.37).state_dict()
    fresh = AdaptiveAugmentation().build()
    fresh.load_state_dict(saved)
    assert fresh.probability.item() == pytest.approx(0.37)
    fixed = DiffAugment().build()
    fixed.adapt(torch.tensor(-1.0), 10**6)
    assert fixed.state_dict() == {"probability": torch.tensor(1.0)}


def test_augmented_photographs_keep_their_averages(photos: Tensor) -> None:
    torch.manual_seed(0)
    many = photos.repeat(50, 1, 1, 1)
    mean, spread = many.mean((0, 2, 3)), many.std((0, 2, 3))
    moved = ada(1.0, "blit")(many)
    torch.testing.assert_close(moved.mean((0, 2, 3)), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(moved.std((0, 2, 3)), spread, atol=0.02, rtol=0)
    colored = diffaugment("color")(many)
    torch.testing.assert_close(colored.mean((0, 2, 3)), mean, atol=0.05, rtol=0)
    assert (colored.std((0, 2, 3)) < 2.5 * spread).all()


def test_an_augmentation_that_changes_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="one of blit, geometry and color"):
        AdaptiveAugmentation.model_validate(OFF)
    with pytest.raises(ValidationError, match="one of color, translation and cutout"):
        DiffAugment(color=False, translation=False, cutout=False)
