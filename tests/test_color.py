import numpy as np
import pytest
import torch
from skimage.color import lab2rgb, rgb2lab
from torch import Tensor

from colorization import color
from colorization.color import AB_SCALE, lab_to_rgb, render, rgb_to_lab


@pytest.fixture(scope="module")
def colors() -> Tensor:
    """A grid through the whole RGB cube, corners included, and random colors: uint8 (3, 1, n)."""
    levels = torch.cat((torch.arange(0, 256, 5), torch.arange(12))).to(torch.uint8)
    grid = torch.cartesian_prod(levels, levels, levels).T
    random = torch.randint(0, 256, (3, 20_000), generator=torch.Generator().manual_seed(0))
    return torch.cat((grid, random.to(torch.uint8)), dim=1).unsqueeze(1)


def units_of_lab(lab: Tensor) -> np.ndarray:
    lightness, a, b = lab.double().unbind(-3)
    return torch.stack(((lightness + 1) * 50, a * AB_SCALE, b * AB_SCALE), dim=-1).numpy()


def as_skimage(rgb: Tensor) -> np.ndarray:
    return rgb.movedim(-3, -1).numpy()


@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_lab_equals_that_of_skimage(colors: Tensor, kind: str) -> None:
    found = rgb_to_lab(colors if kind == "uint8" else colors / 255)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(units_of_lab(found), rgb2lab(as_skimage(colors)), atol=1e-3)


def test_processors_without_wide_registers_get_the_same_lab(
    colors: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = {"cbrt": {"ff": {"current": "baseline(X86_V2)"}}}
    monkeypatch.setattr(np.lib.introspect, "opt_func_info", lambda **_: narrow)
    color._cube_root.cache_clear()
    found = rgb_to_lab(colors)
    color._cube_root.cache_clear()
    np.testing.assert_allclose(units_of_lab(found), rgb2lab(as_skimage(colors)), atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 3, 2, 2), (5, 3, 4, 1), (3, 3, 31, 17)])
def test_lab_does_not_depend_on_the_order_of_pixels_in_memory(shape: tuple[int, ...]) -> None:
    rgb = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    expected = rgb_to_lab(rgb.float() / 255)
    wide = torch.zeros(*shape[:-1], 2 * shape[-1], dtype=torch.uint8)
    wide[..., ::2] = rgb
    for stored in (rgb, rgb.contiguous(memory_format=torch.channels_last), wide[..., ::2]):
        lab = rgb_to_lab(stored)
        assert lab.is_contiguous()
        torch.testing.assert_close(lab, expected, rtol=0, atol=1e-5)


def test_no_pictures_become_no_lab() -> None:
    assert rgb_to_lab(torch.zeros(0, 3, 4, 4, dtype=torch.uint8)).shape == (0, 3, 4, 4)


def test_rgb_equals_that_of_skimage_outside_the_gamut_too() -> None:
    grid = torch.linspace(-1, 1, 21)
    lab = torch.cartesian_prod(grid, grid, grid).T.unsqueeze(1)
    with pytest.warns(UserWarning, match="negative Z"):
        expected = lab2rgb(units_of_lab(lab))
    np.testing.assert_allclose(as_skimage(lab_to_rgb(lab)), expected, atol=1e-5)


def test_every_color_of_the_grid_survives_the_way_to_lab_and_back(colors: Tensor) -> None:
    batch = colors.unsqueeze(0)
    lab = rgb_to_lab(batch)
    assert torch.equal(render(lab[:, :1], lab[:, 1:]), batch)


def test_lightness_and_ab_keep_to_their_ranges(colors: Tensor) -> None:
    lightness, a, b = rgb_to_lab(colors).unbind(-3)
    assert lightness.min() == pytest.approx(-1, abs=1e-6)
    assert lightness.max() == pytest.approx(1, abs=1e-6)
    assert max(a.abs().max(), b.abs().max()) < 1


@pytest.mark.parametrize("level", [-0.2, 0.0, 1e-6, 0.04045, 0.5, 1.0, 1.2])
def test_gradients_are_finite_at_black_at_white_at_the_curves_joints_and_beyond(
    level: float,
) -> None:
    rgb = torch.full((1, 3, 2, 2), level, requires_grad=True)
    rgb_to_lab(rgb).sum().backward()
    assert rgb.grad is not None
    assert rgb.grad.isfinite().all()
    lab = rgb_to_lab(rgb.detach()).requires_grad_()
    lab_to_rgb(lab).sum().backward()
    assert lab.grad is not None
    assert lab.grad.isfinite().all()


def test_gradients_of_colors_outside_the_gamut_are_finite() -> None:
    lab = torch.empty(1, 3, 32, 32).uniform_(-1.5, 1.5, generator=torch.Generator().manual_seed(0))
    lab.requires_grad_()
    lab_to_rgb(lab).square().sum().backward()
    assert lab.grad is not None
    assert lab.grad.isfinite().all()
    assert lab.grad.any()


def test_gradients_equal_the_slope_of_the_curve() -> None:
    rgb = torch.tensor([0.2, 0.5, 0.8]).view(3, 1, 1).requires_grad_()
    rgb_to_lab(rgb)[0].sum().backward()
    step = 1e-3 * torch.eye(3).view(3, 3, 1, 1)
    slopes = (rgb_to_lab(rgb.detach() + step) - rgb_to_lab(rgb.detach() - step))[:, 0] / 2e-3
    assert rgb.grad is not None
    torch.testing.assert_close(rgb.grad.flatten(), slopes.flatten(), atol=1e-3, rtol=1e-2)


def test_autocast_does_not_round_colors(colors: Tensor) -> None:
    exact = rgb_to_lab(colors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(rgb_to_lab(colors), exact)
        assert torch.equal(lab_to_rgb(exact).mul(255).round().to(torch.uint8), colors)


def test_leading_dimensions_are_kept() -> None:
    rgb = torch.zeros(2, 5, 3, 4, 6, dtype=torch.uint8)
    assert rgb_to_lab(rgb).shape == (2, 5, 3, 4, 6)
    assert lab_to_rgb(rgb_to_lab(rgb)).shape == (2, 5, 3, 4, 6)


def beyond_the_gamut() -> Tensor:
    """Scaled Lab of all lightnesses and hues, far more colorful than sRGB: (1, 3, 201, 360)."""
    lightness = torch.linspace(-1, 1, 201).view(-1, 1).expand(201, 360)
    hue = torch.arange(360).deg2rad().expand(201, 360)
    return torch.stack((lightness, 1.2 * hue.cos(), 1.2 * hue.sin()))[None]


def test_a_color_beyond_the_gamut_is_rendered_in_its_lightness_and_hue() -> None:
    lab = beyond_the_gamut()
    found = rgb_to_lab(render(lab[:, :1], lab[:, 1:]))
    error = 50 * (found[:, 0] - lab[:, 0]).abs()
    assert error.max() < 0.26  # what rounding of each channel to 8 bits may do
    clipped = rgb_to_lab(lab_to_rgb(lab))
    assert 50 * (clipped[:, 0] - lab[:, 0]).abs().max() > 20
    middle = found[0, 1:, 60:140]
    turned = torch.atan2(middle[1], middle[0]) - torch.atan2(lab[0, 2, 60:140], lab[0, 1, 60:140])
    assert torch.sin(turned).abs().max() < 0.05
    assert 110 * middle.norm(dim=0).min() > 15


def test_chroma_is_reduced_no_further_than_needed() -> None:
    lab = beyond_the_gamut()[..., 20:180, :]
    rgb = lab_to_rgb(lab, keep_lightness=True)
    fitted = rgb_to_lab(rgb)
    assert not ((rgb.amin(1) > 0.1) & (rgb.amax(1) < 0.98)).any()  # all at the gamut's border
    inside = torch.cat((fitted[:, :1], 0.9 * fitted[:, 1:]), 1)
    torch.testing.assert_close(
        lab_to_rgb(inside, keep_lightness=True), lab_to_rgb(inside), atol=1e-6, rtol=0
    )


def test_a_color_inside_the_gamut_is_rendered_as_it_is(colors: Tensor) -> None:
    lab = rgb_to_lab(colors)
    assert torch.equal(render(lab[None, :1], lab[None, 1:])[0], colors)


def test_wrong_shapes_and_types_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(\.\.\., 3, H, W\)"):
        rgb_to_lab(torch.zeros(4, 4, 3))
    with pytest.raises(TypeError, match="int32"):
        rgb_to_lab(torch.zeros(3, 4, 4, dtype=torch.int32))
    with pytest.raises(TypeError, match="uint8"):
        lab_to_rgb(torch.zeros(3, 4, 4, dtype=torch.uint8))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_converts_as_the_cpu_does(colors: Tensor) -> None:
    lab = rgb_to_lab(colors.cuda())
    np.testing.assert_allclose(units_of_lab(lab.cpu()), units_of_lab(rgb_to_lab(colors)), atol=1e-3)
    assert torch.equal(render(lab[None, :1], lab[None, 1:]).cpu()[0], colors)
