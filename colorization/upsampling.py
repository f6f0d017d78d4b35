"""Small color pictures to the size of a large lightness picture, along its edges.

Large pictures come in strips of rows. What is asked of the small picture once is done when an
upsampling is made; `rows` then takes the strips one by one.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F


class Upsampling(ABC):
    """Takes a small picture (B, C, h, w), no side larger, to the size of a guide."""

    @abstractmethod
    def rows(self, guide: Tensor, top: int) -> Tensor:
        """Return (B, C, n, W) for the rows (B, 1, n, W) of the guide that begin at `top`."""


class Whole(Upsampling):
    """A picture that has its size already."""

    def __init__(self, picture: Tensor) -> None:
        self._picture = picture

    def rows(self, guide: Tensor, top: int) -> Tensor:
        """Return the rows that begin at `top`."""
        return self._picture[:, :, top : top + guide.shape[2]]


class Bicubic(Upsampling):
    """Smooth, blind to the guide. `height` is the guide's."""

    def __init__(self, small: Tensor, height: int) -> None:
        self._small = small
        self._height = height

    def rows(self, guide: Tensor, top: int) -> Tensor:
        """Return the rows that begin at `top`."""
        return _interpolate(self._small, guide, top, self._height, "bicubic").clamp_(-1, 1)


class Guided(Upsampling):
    """In each small neighborhood color is a linear function of lightness (guided filter).

    The function is found by least squares at the small size in windows of 3 x 3, the functions of
    overlapping windows are averaged and interpolated, and lightness is put in at full size: He and
    Sun 2015, Fast Guided Filter. What lightness does not explain of the small picture is added by
    bicubic interpolation, so that the average over each small pixel stays what it was. Where
    lightness leaves what it was around a small pixel, a linear function would invent colors: the
    result stays between the least and the most that the small pixels near by have.

    `noise` is the variation of the guide, in its units, that no color is expected to follow.
    """

    def __init__(
        self, small: Tensor, small_guide: Tensor, height: int, noise: float = 0.01
    ) -> None:
        self._height = height
        channels = small.shape[1]
        both = _mean(torch.cat([small_guide, small, small_guide * small, small_guide**2], 1))
        guide, color, product, square = both.split([1, channels, channels, 1], 1)
        slope = (product - guide * color) / (square - guide**2 + noise**2)
        self._functions = _mean(torch.cat([slope, color - slope * guide], 1))
        slope, offset = self._functions.chunk(2, 1)
        self._rest = small - (slope * small_guide + offset)
        self._range = torch.cat([_most(small), -_most(-small)], 1)

    def rows(self, guide: Tensor, top: int) -> Tensor:
        """Return the rows that begin at `top`."""
        slope, offset = _interpolate(self._functions, guide, top, self._height, "bilinear").chunk(
            2, 1
        )
        rest = _interpolate(self._rest, guide, top, self._height, "bicubic")
        most, least = _interpolate(self._range, guide, top, self._height, "bilinear").chunk(2, 1)
        return rest.add_(offset).addcmul_(slope, guide).clamp_(least, most)


class Bilateral(Upsampling):
    """Each pixel is a mean of the small pixels around it, by nearness and likeness of lightness.

    Within `radius`, weighted by Gaussians of `spatial_deviation`, in small pixels, and
    `guide_deviation`, in the guide's units. Kopf et al. 2007, section 3.
    """

    def __init__(
        self,
        small: Tensor,
        small_guide: Tensor,
        height: int,
        *,
        radius: int = 2,
        spatial_deviation: float = 0.5,
        guide_deviation: float = 0.2,
    ) -> None:
        self._height = height
        self._both = torch.cat([small_guide, small], dim=1)
        self._radius = radius
        self._spatial_deviation = spatial_deviation
        self._guide_deviation = guide_deviation

    def rows(self, guide: Tensor, top: int) -> Tensor:
        """Return the rows that begin at `top`."""
        both = self._both
        height, width = both.shape[2:]
        rows, row_offsets = _nearest(top, guide.shape[2], self._height, height, guide.device)
        columns, column_offsets = _nearest(0, guide.shape[3], guide.shape[3], width, guide.device)
        total = torch.zeros_like(guide)
        result = guide.new_zeros(both.shape[0], both.shape[1] - 1, *guide.shape[2:])
        for down in range(-self._radius, self._radius + 1):
            near_rows = (rows + down).clamp(0, height - 1)
            row_distances = (row_offsets - down).square().view(-1, 1)
            band = both[:, :, near_rows]
            for right in range(-self._radius, self._radius + 1):
                neighbor = band[..., (columns + right).clamp(0, width - 1)]
                distances = row_distances + (column_offsets - right).square()
                likeness = -(guide - neighbor[:, :1]).square() / (2 * self._guide_deviation**2)
                nearness = (-distances / (2 * self._spatial_deviation**2)).exp()
                # Where no neighbor is like the pixel, nearness decides.
                weight = likeness.exp().add(1e-6) * nearness
                total += weight
                result.addcmul_(weight, neighbor[:, 1:])
        return result / total


def joint_bilateral(
    small: Tensor,
    guide: Tensor,
    *,
    radius: int = 2,
    spatial_deviation: float = 0.5,
    guide_deviation: float = 0.2,
) -> Tensor:
    """Upsample (B, C, h, w) to the size of a guide (B, 1, H, W) without blurring over its edges.

    As `Bilateral` does. Sides may have any ratios; float32 throughout. Needs memory for a few
    pictures of the size returned.
    """
    small, guide = small.float(), guide.float()
    small_guide = F.adaptive_avg_pool2d(guide, (small.shape[2], small.shape[3]))
    upsampling = Bilateral(
        small,
        small_guide,
        guide.shape[2],
        radius=radius,
        spatial_deviation=spatial_deviation,
        guide_deviation=guide_deviation,
    )
    return upsampling.rows(guide, 0)


def _mean(channels: Tensor) -> Tensor:
    """Average each pixel with its neighbors, at the border with those that there are."""
    return F.avg_pool2d(channels, 3, stride=1, padding=1, count_include_pad=False)


def _most(channels: Tensor) -> Tensor:
    """Return the largest value within two pixels of each."""
    return F.max_pool2d(channels, 5, stride=1, padding=2)


def _interpolate(small: Tensor, guide: Tensor, top: int, height: int, mode: str) -> Tensor:
    """Return what rows from `top` on of the small picture at full size are: (B, C, rows, W)."""
    count, width = guide.shape[2:]
    weights, first = _row_weights(top, count, height, small.shape[2], mode, guide.device)
    needed = small[:, :, first : first + weights.shape[1]]
    wide = needed
    if needed.shape[3] != width:
        size = (needed.shape[2], width)
        wide = F.interpolate(needed, size, mode=mode, antialias=True, align_corners=False)
    return _multiply(weights, wide)


def _row_weights(
    top: int, count: int, large: int, small: int, mode: str, device: torch.device
) -> tuple[Tensor, int]:
    """Return the weights (count, n) of the n small rows from the second value on that large rows
    from `top` on are interpolated from; beyond the border its rows are left out."""
    place = (torch.arange(top, top + count, device=device) + 0.5) * (small / large) - 0.5
    reach = 2 if mode == "bicubic" else 1
    first = max(0, int(place[0].floor()) - reach + 1)
    last = min(small - 1, int(place[-1].floor()) + reach)
    distance = (place.view(-1, 1) - torch.arange(first, last + 1, device=device)).abs()
    if mode == "bicubic":  # Catmull-Rom
        near = (1.5 * distance - 2.5) * distance.square() + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weights = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    else:
        weights = (1 - distance).clamp(min=0)
    return weights / weights.sum(1, keepdim=True), first


def _multiply(weights: Tensor, wide: Tensor) -> Tensor:
    """Multiply matrices in float32, whatever autocast or TF32 would make of it."""
    with torch.autocast(wide.device.type, enabled=False):
        if wide.device.type == "cpu":
            return weights @ wide
        return (weights.double() @ wide.double()).float()


def _nearest(
    top: int, count: int, large: int, small: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Find large pixels' small pixels, and how far from the middle of those they lie."""
    place = (torch.arange(top, top + count, device=device) + 0.5) * (small / large) - 0.5
    nearest = place.round().clamp(0, small - 1)
    return nearest.long(), place - nearest
