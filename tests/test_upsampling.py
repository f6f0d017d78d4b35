import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from colorization.color import rgb_to_lab
from colorization.data.sample import SampleSource
from colorization.data.transforms import scoring_crop
from colorization.upsampling import joint_bilateral

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
