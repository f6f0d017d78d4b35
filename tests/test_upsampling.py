from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from colorization.color import rgb_to_lab
from colorization.data.sample import SampleSource
from colorization.data.transforms import scoring_crop
from colorization.upsampling import Bicubic, Bilateral, Guided, Upsampling, Whole, joint_bilateral

ANY_SIZES = [((4, 4), (16, 16)), ((5, 3), (17, 40)), ((7, 7), (7, 7)), ((1, 1), (9, 5))]


@pytest.fixture(scope="module")
def photographs() -> Tensor:
    """Scaled Lab of one 64-pixel crop of each scene."""
    pictures = SampleSource(scoring_crops=8).open(0).validation
    crops = [torch.from_numpy(scoring_crop(pictures.picture(i), 64)) for i in range(8)]
    return rgb_to_lab(torch.stack(crops).permute(0, 3, 1, 2))


@pytest.mark.parametrize(("small", "large"), ANY_SIZES)
def test_a_constant_stays_and_the_guide_sets_the_size(
    small: tuple[int, int], large: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    color = torch.tensor([0.3, -0.7, 0.1]).view(1, 3, 1, 1)
    found = joint_bilateral(color.expand(2, 3, *small), torch.rand(2, 1, *large) * 2 - 1)
    torch.testing.assert_close(found, color.expand(2, 3, *large))


def test_colors_end_where_the_lightness_has_its_edge() -> None:
    # The edge lies within a small pixel: its color is a mixture, and bilinear spreads it.
    guide = torch.full((1, 1, 32, 32), -0.5)
    guide[..., 14:] = 0.5
    truth = 0.8 * guide
    small = F.avg_pool2d(truth, 4)
    found = joint_bilateral(small, guide)
    bilinear = F.interpolate(small, size=(32, 32), mode="bilinear")
    assert (found - truth).abs().mean() < 0.25 * (bilinear - truth).abs().mean()
    assert (found - truth).abs().max() < 0.1 < (bilinear - truth).abs().max() / 2


def test_without_an_edge_in_the_guide_colors_are_smooth() -> None:
    small = torch.zeros(1, 1, 8, 8)
    small[..., 4:] = 1
    found = joint_bilateral(small, torch.zeros(1, 1, 32, 32))[0, 0, 16]
    assert (found[1:] - found[:-1]).min() >= 0
    assert (found[1:] - found[:-1]).max() < 0.35
    torch.testing.assert_close(found, 1 - found.flip(0))


def test_photographs_come_back_better_than_by_bilinear_upsampling(photographs: Tensor) -> None:
    lightness, ab = photographs[:, :1], photographs[:, 1:]
    small = F.avg_pool2d(ab, 4)
    ours = joint_bilateral(small, lightness) - ab
    bilinear = F.interpolate(small, scale_factor=4, mode="bilinear") - ab
    assert ours.square().mean() < 0.9 * bilinear.square().mean()


def test_pictures_and_channels_are_upsampled_each_by_itself(photographs: Tensor) -> None:
    lightness, small = photographs[:, :1], F.avg_pool2d(photographs[:, 1:], 4)
    found = joint_bilateral(small, lightness)
    torch.testing.assert_close(joint_bilateral(small[3:4, 1:], lightness[3:4]), found[3:4, 1:])


def test_a_guide_of_extremes_gives_numbers() -> None:
    guide = torch.ones(1, 1, 16, 16)
    guide[..., ::2] = -1  # no small pixel's mean is like any pixel
    small = torch.rand(1, 2, 4, 4)
    found = joint_bilateral(small, guide, guide_deviation=0.01)
    assert found.isfinite().all()
    assert small.min() <= found.min()
    assert found.max() <= small.max()


def test_it_computes_in_float32_whatever_comes_in() -> None:
    found = joint_bilateral(torch.rand(1, 2, 4, 4).bfloat16(), torch.rand(1, 1, 8, 8).bfloat16())
    assert found.dtype == torch.float32


Make = Callable[[Tensor, Tensor], Upsampling]
METHODS: dict[str, Make] = {
    "guided": lambda small, guide: Guided(small, average(guide, small), guide.shape[2]),
    "bilateral": lambda small, guide: Bilateral(small, average(guide, small), guide.shape[2]),
    "bicubic": lambda small, guide: Bicubic(small, guide.shape[2]),
}
each_method = pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)


def average(guide: Tensor, small: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(guide, (small.shape[2], small.shape[3]))


@each_method
@pytest.mark.parametrize(("small", "large"), ANY_SIZES)
def test_a_constant_stays_by_every_method(
    make: Make, small: tuple[int, int], large: tuple[int, int]
) -> None:
    color = torch.tensor([0.3, -0.7]).view(1, 2, 1, 1).expand(1, 2, *small)
    guide = torch.rand(1, 1, *large) * 2 - 1
    found = make(color, guide).rows(guide, 0)
    torch.testing.assert_close(found, color[..., :1, :1].expand(1, 2, *large))


@each_method
def test_strips_of_rows_together_are_the_whole(make: Make) -> None:
    guide, small = torch.rand(1, 1, 47, 33) * 2 - 1, torch.rand(1, 2, 9, 7) - 0.5
    upsampling = make(small, guide)
    whole = upsampling.rows(guide, 0)
    parts = [upsampling.rows(guide[:, :, top : top + 5], top) for top in range(0, 47, 5)]
    torch.testing.assert_close(torch.cat(parts, dim=2), whole, atol=1e-5, rtol=0)


def test_bicubic_is_what_torch_calls_so() -> None:
    guide, small = torch.zeros(1, 1, 47, 33), torch.rand(1, 2, 9, 7) - 0.5
    expected = F.interpolate(small, (47, 33), mode="bicubic", antialias=True).clamp(-1, 1)
    found = Bicubic(small, 47).rows(guide, 0)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_guided_colors_end_at_the_edge_of_lightness_and_at_no_grain() -> None:
    guide = torch.full((1, 1, 64, 64), -0.4) + 0.01 * torch.randn(1, 1, 64, 64)
    guide[..., 27:] += 0.8
    truth = torch.full((1, 2, 64, 64), 0.3)
    truth[..., 27:] = -0.2
    small = F.avg_pool2d(truth, 8)
    found = METHODS["guided"](small, guide).rows(guide, 0)
    bicubic = METHODS["bicubic"](small, guide).rows(guide, 0)
    near = slice(19, 35)
    assert (found - truth)[..., near].abs().mean() < 0.25 * (bicubic - truth)[
        ..., near
    ].abs().mean()
    assert (found - truth)[..., 40:].abs().max() < 0.02


def test_guided_keeps_the_mean_of_each_small_pixel(photographs: Tensor) -> None:
    lightness, ab = photographs[:, :1], photographs[:, 1:]
    small = F.avg_pool2d(ab, 4)
    found = F.avg_pool2d(METHODS["guided"](small, lightness).rows(lightness, 0), 4)
    assert (found - small).abs().mean() < 0.1 * (small - small.mean((2, 3), True)).abs().mean()


def test_guided_brings_photographs_back_better_than_bicubic(photographs: Tensor) -> None:
    lightness, ab = photographs[:, :1], photographs[:, 1:]
    small = F.avg_pool2d(ab, 4)
    errors = {
        name: (make(small, lightness).rows(lightness, 0) - ab).abs().mean().item()
        for name, make in METHODS.items()
    }
    assert errors["guided"] < errors["bicubic"]


def test_a_picture_of_its_size_is_taken_as_it_is() -> None:
    picture = torch.rand(1, 2, 9, 7)
    guide = torch.rand(1, 1, 9, 7)
    assert torch.equal(Whole(picture).rows(guide[:, :, 3:5], 3), picture[:, :, 3:5])


def test_guided_colors_stay_between_those_of_the_small_pixels_near_by_where_lightness_leaves_them():
    small_guide = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(0)) * 0.1
    small = small_guide * torch.tensor([3.0, -3.0]).view(1, 2, 1, 1)
    guide = F.interpolate(small_guide, (96, 96), mode="nearest")
    guide[..., 40:44, :] = 1.0  # a wire that the small picture does not show
    colors = Guided(small, small_guide, 96).rows(guide, 0)
    assert colors.amax() <= small.amax() + 1e-6
    assert colors.amin() >= small.amin() - 1e-6
