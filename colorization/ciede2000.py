"""The CIEDE2000 color difference, for whole batches of pictures."""

import math

import torch
from torch import Tensor

_25_TO_THE_7TH = 25.0**7


def ciede2000(lab_1: Tensor, lab_2: Tensor) -> Tensor:
    """Return the CIEDE2000 difference of every pair of colors, with kL = kC = kH = 1.

    Both tensors are (..., 3, H, W) CIE Lab in CIE units (L in 0..100, not scaled); the result is
    (..., H, W), at least 0; a difference near 1 is just noticeable.

    Sharma, Wu and Dalal, "The CIEDE2000 Color-Difference Formula: Implementation Notes,
    Supplementary Test Data, and Mathematical Observations", 2005, equations 2 to 22.
    """
    lightness_1, a_1, b_1 = lab_1.unbind(-3)
    lightness_2, a_2, b_2 = lab_2.unbind(-3)

    # Eq. 2-7: a is stretched near the neutral axis, then chroma and hue are taken anew.
    mean_chroma = (torch.hypot(a_1, b_1) + torch.hypot(a_2, b_2)) / 2
    stretch = 1.5 - 0.5 * _saturation(mean_chroma)
    a_1, a_2 = a_1 * stretch, a_2 * stretch
    chroma_1, chroma_2 = torch.hypot(a_1, b_1), torch.hypot(a_2, b_2)
    hue_1, hue_2 = _hue(a_1, b_1), _hue(a_2, b_2)

    # Eq. 10 and 14: a color without chroma has no hue, so the other's hue stands for both.
    has_hue = (chroma_1 * chroma_2) > 0
    turn = hue_2 - hue_1
    around = turn.abs() > math.pi
    full_turn = torch.copysign(torch.full_like(turn, 2 * math.pi), turn)
    turn = torch.where(around, turn - full_turn, turn)
    turn = torch.where(has_hue, turn, torch.zeros_like(turn))
    hue_sum = hue_1 + hue_2
    shift = math.pi * around.to(turn.dtype)
    # A mean hue beyond 2 pi is as good as its remainder: only periodic functions follow.
    hue = torch.where(has_hue, hue_sum / 2 + shift, hue_sum)

    delta_lightness = lightness_2 - lightness_1
    delta_chroma = chroma_2 - chroma_1
    delta_hue = 2 * (chroma_1 * chroma_2).sqrt() * torch.sin(turn / 2)

    # Eq. 15-21: weights at the mean color.
    lightness_square = ((lightness_1 + lightness_2) / 2 - 50).square()
    chroma = (chroma_1 + chroma_2) / 2
    hue_weight = (
        1
        - 0.17 * torch.cos(hue - math.radians(30))
        + 0.24 * torch.cos(2 * hue)
        + 0.32 * torch.cos(3 * hue + math.radians(6))
        - 0.20 * torch.cos(4 * hue - math.radians(63))
    )
    scale_lightness = 1 + 0.015 * lightness_square / (20 + lightness_square).sqrt()
    scale_chroma = 1 + 0.045 * chroma
    scale_hue = 1 + 0.015 * chroma * hue_weight
    degrees = torch.rad2deg(hue).remainder(360)
    blueness = torch.exp(-((degrees - 275) / 25).square())
    rotation = -2 * _saturation(chroma) * torch.sin(blueness * math.radians(60))

    # Eq. 22
    lightness_term = delta_lightness / scale_lightness
    chroma_term = delta_chroma / scale_chroma
    hue_term = delta_hue / scale_hue
    square = (
        lightness_term.square()
        + chroma_term.square()
        + hue_term.square()
        + rotation * chroma_term * hue_term
    )
    return square.clamp(min=0).sqrt()


def _saturation(chroma: Tensor) -> Tensor:
    """Return sqrt(C^7 / (C^7 + 25^7)) of a chroma."""
    square = chroma.square()
    power = square * square * square * chroma  # three times as fast as pow(7)
    return (power / (power + _25_TO_THE_7TH)).sqrt()


def _hue(a: Tensor, b: Tensor) -> Tensor:
    """Return the hue angle in [0, 2 pi), 0 for neutral."""
    angle = torch.atan2(b, a)
    return torch.where(angle < 0, angle + 2 * math.pi, angle)
