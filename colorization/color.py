"""RGB to CIE Lab and back, in batches, on any device, with gradients.

Lab is scaled everywhere in this package: lightness = L / 50 - 1 lies in [-1, 1] and
ab = (a, b) / 110 within about [-1, 1].
"""

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import torch
from torch import Tensor

AB_SCALE = 110.0  # sRGB's colors reach from -107.9 (b of blue) to 98.2 (a of magenta)

# IEC 61966-2-1 primaries, white D65 for the 2 degree observer: the numbers of skimage.color.
_RGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)

# Below the joint the curve from light to Lab is a straight line.
_JOINT, _SLOPE, _OFFSET = 0.008856, 7.787, 16 / 116

# Light beyond the gamut by less is clipped, which moves L by less than 0.02; white itself is.
_BELOW, _ABOVE = -2e-5, 1 + 1e-4


def ab_to_bytes(ab: Tensor) -> Tensor:
    """Write scaled ab in whole units of Lab as uint8: 128 is no color."""
    return (ab * AB_SCALE + 128).round().clamp(0, 255).to(torch.uint8)


def bytes_to_ab(values: Tensor) -> Tensor:
    """Undo `ab_to_bytes`: float32."""
    return (values.float() - 128) / AB_SCALE


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """Convert sRGB to scaled Lab (CIE 1976 L*a*b*, D65).

    `rgb` is (..., 3, H, W), uint8 or floating point in [0, 1]. Returns float32 (..., 3, H, W):
    lightness in [-1, 1], then a and b divided by 110; equals `skimage.color.rgb2lab` to 0.001 units
    of Lab. Floating-point input has finite gradients everywhere, at black as well; uint8 on the CPU
    is fastest where it is stored pixel by pixel (channels last).
    Raises TypeError for any other dtype and ValueError if there are not three channels.
    """
    _check_channels(rgb)
    if rgb.dtype == torch.uint8 and rgb.device.type == "cpu":
        return _rgb_to_lab_on_cpu(rgb)
    if rgb.dtype == torch.uint8:
        linear = _srgb_table(rgb.device)[rgb.int()]
    elif rgb.is_floating_point():
        linear = _to_linear(rgb.float())
    else:
        raise TypeError(f"uint8 or floating-point RGB is needed, found {rgb.dtype}")
    # Products channel by channel and no matmul: autocast and TF32 would round a matmul's factors,
    # which moves colors by whole units of Lab.
    red, green, blue = linear.unbind(-3)
    fx, fy, fz = (
        _lab_curve((row[0] * red + row[1] * green + row[2] * blue) / white)
        for row, white in zip(_RGB_TO_XYZ, _WHITE, strict=True)
    )
    lightness = (116 / 50) * fy - (16 / 50 + 1)
    a = (500 / AB_SCALE) * (fx - fy)
    b = (200 / AB_SCALE) * (fy - fz)
    return torch.stack((lightness, a, b), dim=-3)


def lab_to_rgb(lab: Tensor, *, keep_lightness: bool = False) -> Tensor:
    """Convert scaled Lab to sRGB, colors outside the gamut clipped channel by channel.

    `lab` is (..., 3, H, W), scaled as `rgb_to_lab` returns it, of any floating-point dtype. Returns
    float32 (..., 3, H, W) in [0, 1]; gradients are finite everywhere and 0 where a channel is
    clipped. With `keep_lightness`, for use without gradients, a color outside the gamut becomes
    the most colorful one of its lightness and hue inside instead.
    Raises TypeError for integers and ValueError if there are not three channels.
    """
    _check_channels(lab)
    if not lab.is_floating_point():
        raise TypeError(f"floating-point Lab is needed, found {lab.dtype}")
    lightness, a, b = lab.float().unbind(-3)
    linear = _lab_to_linear(lightness, a, b)
    if keep_lightness:
        outside = _is_outside(linear)
        if outside.any():
            colors = torch.stack((lightness[outside], a[outside], b[outside]))
            for channel, values in zip(linear, _less_colorful(colors), strict=True):
                channel[outside] = values
    return torch.stack([_from_linear(channel) for channel in linear], dim=-3).clamp(0, 1)


def render(lightness: Tensor, ab: Tensor) -> Tensor:
    """Put lightness and color together into the 8-bit picture that a user gets.

    `lightness` is (B, 1, H, W) and `ab` (B, 2, H, W), both scaled. Returns uint8 sRGB (B, 3, H, W),
    rounded to the nearest level. The lightness stays: where a color does not fit into sRGB at it,
    its chroma is reduced until it does.
    """
    with torch.no_grad():
        lab = torch.cat((lightness.float(), ab.float()), dim=-3)
        return (lab_to_rgb(lab, keep_lightness=True) * 255).round().to(torch.uint8)


def _lab_to_linear(lightness: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return red, green and blue light, outside of [0, 1] for colors outside the gamut."""
    fy = (lightness * 50 + (50 + 16)) / 116
    fx = fy + a * (AB_SCALE / 500)
    fz = (fy - b * (AB_SCALE / 200)).clamp(min=0)  # as skimage does: no negative blue light
    x, y, z = (white * _inverse_lab_curve(f) for f, white in zip((fx, fy, fz), _WHITE, strict=True))
    red, green, blue = (row[0] * x + row[1] * y + row[2] * z for row in _xyz_to_rgb())
    return red, green, blue


def _is_outside(linear: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    red, green, blue = linear
    low = torch.minimum(torch.minimum(red, green), blue)
    high = torch.maximum(torch.maximum(red, green), blue)
    return (low < _BELOW) | (high > _ABOVE)


def _less_colorful(lab: Tensor) -> Tensor:
    """Return the light of colors (3, n) with a share of their chroma: the most that fits, found by
    halving to less than half a percent. Gray always fits."""
    lightness, a, b = lab
    share = torch.zeros_like(lightness)
    for halving in range(1, 9):
        more = share + 0.5**halving
        outside = _is_outside(_lab_to_linear(lightness, more * a, more * b))
        share = torch.where(outside, share, more)
    return torch.stack(_lab_to_linear(lightness, share * a, share * b))


def _rgb_to_lab_on_cpu(rgb: Tensor) -> Tensor:
    """Convert uint8 with cv2: on one thread eight times as fast as the same steps in torch.

    cv2's own RGB to Lab is up to 0.5 units of Lab off; its table, matrix and minimum are exact.
    """
    height, width = rgb.shape[-2:]
    pictures = rgb.movedim(-3, -1).contiguous().numpy().reshape(-1, height * width, 1, 3)
    lab = np.empty((len(pictures), 3, height * width, 1), np.float32)
    if lab.size:
        table, to_light, to_lab = _cpu_constants()
        cube_root = _cube_root()
        # An array, because cv2 takes a number beside a picture of one pixel for another picture.
        joint = np.full(pictures.shape[1:], _JOINT, np.float32)
        light, low = np.empty_like(joint), np.empty_like(joint)
        for picture, planes in zip(pictures, lab, strict=True):
            cv2.transform(cv2.LUT(picture, table, low), to_light, light)
            cv2.min(light, joint, low)
            cv2.max(light, joint, light)
            cube_root(light)
            cv2.scaleAdd(low, _SLOPE, light, light)  # the line below the joint, the root above
            cv2.transform(light, to_lab, low)
            cv2.split(low, list(planes))
    return torch.from_numpy(lab).view(rgb.shape)


@cache
def _cpu_constants() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the curve of sRGB, the matrix from RGB to light / white, and that from curves to Lab.

    The last takes root + slope * min(light, joint), which is `excess` above the curve.
    """
    excess = _JOINT ** (1 / 3) - _OFFSET
    to_lab = np.array(
        [
            [0, 116 / 50, 0, -(16 / 50 + 1) - 116 / 50 * excess],
            [500 / AB_SCALE, -500 / AB_SCALE, 0, 0],
            [0, 200 / AB_SCALE, -200 / AB_SCALE, 0],
        ]
    )
    to_light = np.array(_RGB_TO_XYZ) / np.array(_WHITE)[:, None]
    table = _srgb_table(torch.device("cpu")).numpy()
    return table, to_light, to_lab


@cache
def _cube_root() -> Callable[[np.ndarray], object]:
    """Return what takes the cube root of float32 in place: numpy where it does so by AVX512, four
    times as fast as cv2, which elsewhere is the faster one by far."""
    (kinds,) = np.lib.introspect.opt_func_info(func_name="^cbrt$").values()
    if kinds.get("ff", {}).get("current", "").startswith(("X86_V4", "AVX512")):
        return lambda light: np.cbrt(light, out=light)
    return lambda light: cv2.pow(light, 1 / 3, light)


def _check_channels(picture: Tensor) -> None:
    if picture.ndim < 3 or picture.shape[-3] != 3:
        raise ValueError(f"shape (..., 3, H, W) is needed, found {tuple(picture.shape)}")


# Where a curve changes its formula, the branch not taken is computed on a clamped value: the
# gradient of a power at 0 is infinite, and infinity times the mask's 0 is NaN.


def _to_linear(srgb: Tensor) -> Tensor:
    power = ((srgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(srgb > 0.04045, power, srgb / 12.92)


def _from_linear(linear: Tensor) -> Tensor:
    power = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, power, 12.92 * linear)


def _lab_curve(light: Tensor) -> Tensor:
    root = light.clamp(min=_JOINT) ** (1 / 3)
    return torch.where(light > _JOINT, root, _SLOPE * light + _OFFSET)


def _inverse_lab_curve(f: Tensor) -> Tensor:
    return torch.where(f > 0.2068966, f**3, (f - _OFFSET) / _SLOPE)


@cache
def _srgb_table(device: torch.device) -> Tensor:
    levels = torch.arange(256, dtype=torch.float64, device="cpu") / 255
    return _to_linear(levels).float().to(device)


@cache
def _xyz_to_rgb() -> list[list[float]]:
    matrix = torch.tensor(_RGB_TO_XYZ, dtype=torch.float64, device="cpu")
    return torch.linalg.inv(matrix).tolist()
