"""Brightness of what a model sees of photographs that time or a scanner left too dark or light."""

from typing import Literal

from torch import Tensor

# Mean L from 0 to 100 of ordinary photographs: of nine in ten that models here are trained on.
_DARKEST, _LIGHTEST = 25.0, 70.0
_MOST = 2.5


def gain_for(lightness: Tensor, gain: float | Literal["auto"]) -> float:
    """Return the gain of a picture with scaled lightness (1, 1, h, w).

    "auto": what brings the mean of L into the range of ordinary photographs, 1 for those.
    """
    if gain != "auto":
        return gain
    mean = (lightness.mean().item() + 1) * 50
    wanted = min(max(mean, _DARKEST), _LIGHTEST)
    return min(wanted / max(mean, 1e-3), _MOST)


def brighten(lightness: Tensor, gain: float) -> Tensor:
    """Multiply L by a gain; what would be lighter than white is white."""
    return lightness if gain == 1 else ((lightness + 1) * gain - 1).clamp(-1, 1)
