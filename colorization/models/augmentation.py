"""Augmentation of what a discriminator sees, real and fake alike, against learning small sets by
heart: fixed (DiffAugment) or adaptive (StyleGAN2-ADA).

Pictures are (B, 3, H, W) = lightness, ab or (B, 4, H, W) = lightness, rgb, scaled to [-1, 1] and
square. Geometry moves all channels together. Color is changed with regard to the gray axis: along
it lie lightness alone (ab), or lightness and the mean of rgb. Brightness shifts along the axis,
contrast scales everything, saturation scales the distance from the axis, hue turns around it.
"""

import functools
import math
from abc import ABC, abstractmethod
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from colorization.config import Config


class DiffAugment(Config):
    """Every picture is changed at random, always (Zhao et al. 2020)."""

    name: Literal["diffaugment"] = "diffaugment"
    color: bool = Field(default=True, description="change brightness, saturation and contrast")
    translation: bool = Field(default=True, description="shift by an eighth of the side at most")
    cutout: bool = Field(default=True, description="blank a square of half the side")

    def model_post_init(self, context: object) -> None:
        """Refuse an augmentation that changes nothing."""
        if not (self.color or self.translation or self.cutout):
            raise ValueError("diffaugment needs one of color, translation and cutout")

    def build(self) -> "Augmenter":
        """Build the module that changes pictures."""
        return DiffAugmenter(self)


class AdaptiveAugmentation(Config):
    """Each change is made with a probability that follows how certain the discriminator is.

    StyleGAN2-ADA (Karras et al. 2020). Bilinear in place of the published wavelet filters.
    """

    name: Literal["ada"] = "ada"
    blit: bool = Field(default=True, description="flip, turn by right angles, shift by pixels")
    geometry: bool = Field(default=True, description="scale, turn, stretch, shift")
    color: bool = Field(
        default=True, description="change brightness, contrast, saturation and hue, invert luma"
    )
    target: float = Field(
        default=0.6,
        ge=0,
        lt=1,
        description="mean sign of the answers to real pictures above which the probability rises",
    )
    pictures: int = Field(
        default=500_000,
        ge=1,
        le=100_000_000,
        description="real pictures judged while the probability goes from 0 to 1",
    )

    def model_post_init(self, context: object) -> None:
        """Refuse an augmentation that changes nothing."""
        if not (self.blit or self.geometry or self.color):
            raise ValueError("ada needs one of blit, geometry and color")

    def build(self) -> "Augmenter":
        """Build the module that changes pictures."""
        return AdaptiveAugmenter(self)


Augmentation = Annotated[DiffAugment | AdaptiveAugmentation, Field(discriminator="name")]


class Augmenter(nn.Module, ABC):
    """Changes pictures at random, each in its own way, and lets gradients through."""

    probability: Tensor  # of each change; saved with the model

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.register_buffer("probability", torch.tensor(probability))

    @abstractmethod
    def forward(self, pictures: Tensor) -> Tensor:
        """Return float32 pictures (B, 3 or 4, H, W) changed; what the channels are: see above."""

    def adapt(self, share_real: Tensor, pictures: int) -> None:
        """Take in the mean sign of D's answers to real pictures, and their number, of all ranks."""
        del share_real, pictures


class DiffAugmenter(Augmenter):
    """See DiffAugment."""

    def __init__(self, config: DiffAugment) -> None:
        super().__init__(1.0)
        self.config = config

    def forward(self, pictures: Tensor) -> Tensor:
        """Return pictures changed, with the strengths of the published code."""
        count, side = len(pictures), pictures.shape[-1]
        if self.config.color:
            pictures = brighten(pictures, _uniform(pictures, -0.5, 0.5))
            pictures = saturate(pictures, _uniform(pictures, 0.0, 2.0))
            middle = _gray_part(pictures).mean((2, 3), keepdim=True)
            pictures = middle + _each(_uniform(pictures, 0.5, 1.5)) * (pictures - middle)
        if self.config.translation:
            most = side // 8
            x, y = (2 / side) * torch.randint(-most, most + 1, (2, count), device=pictures.device)
            pictures = _warp(pictures, _shift(x, y), "nearest", "zeros")
        if self.config.cutout:
            pictures = pictures * _cutout(pictures)
        return pictures


class AdaptiveAugmenter(Augmenter):
    """See AdaptiveAugmentation."""

    def __init__(self, config: AdaptiveAugmentation) -> None:
        super().__init__(0.0)
        self.config = config

    def forward(self, pictures: Tensor) -> Tensor:
        """Return pictures changed, with the strengths of Karras et al. 2020, appendix B."""
        if self.config.blit or self.config.geometry:
            matrices = self._matrices(pictures)
            still = (matrices == torch.eye(3, device=pictures.device)).all(2).all(1)
            moved = _warp(pictures, matrices, "bilinear", "reflection")
            pictures = torch.where(_each(still), pictures, moved)
        if self.config.color:
            pictures = brighten(pictures, self._some(0.2 * _normal(pictures), 0))
            pictures = pictures * _each(self._some(2 ** (0.5 * _normal(pictures)), 1))
            inverted = _each(self._some(_uniform(pictures, 0, 2).floor(), 0))
            pictures = pictures - 2 * inverted * _gray_part(pictures)
            angle = _uniform(pictures, -math.pi, math.pi)
            pictures = turn_hue(pictures, self._some(angle, 0))
            pictures = saturate(pictures, self._some(2 ** _normal(pictures), 1))
        return pictures

    def _matrices(self, pictures: Tensor) -> Tensor:
        """Draw where each picture's pixels are taken from: (B, 3, 3) for sides from -1 to 1."""
        steps: list[Tensor] = []
        if self.config.blit:
            side = pictures.shape[-1]
            flipped = 1 - 2 * self._some(_uniform(pictures, 0, 2).floor(), 0)
            steps.append(_scale(flipped, 1.0))
            quarters = self._some(_uniform(pictures, 0, 4).floor(), 0)
            steps.append(_rotation(quarters * (math.pi / 2)))
            chosen = self._chosen(pictures)
            shares = (_uniform(pictures, -0.125, 0.125) for _ in range(2))
            x, y = ((share * side).round() * chosen * (2 / side) for share in shares)
            steps.append(_shift(x, y))
        if self.config.geometry:
            wide = self._some(2 ** (0.2 * _normal(pictures)), 1)
            steps.append(_scale(wide, wide))
            # Two turns, before and after the stretch, of which one happens with probability p.
            turning = 1 - (1 - self.probability).sqrt()
            before, after = (
                _uniform(pictures, -math.pi, math.pi) * self._chosen(pictures, turning)
                for _ in range(2)
            )
            wide = self._some(2 ** (0.2 * _normal(pictures)), 1)
            steps += [_rotation(before), _scale(wide, 1 / wide), _rotation(after)]
            chosen = self._chosen(pictures)
            x, y = (2 * 0.125 * _normal(pictures) * chosen for _ in range(2))
            steps.append(_shift(x, y))
        return functools.reduce(_product, steps)

    def _chosen(self, pictures: Tensor, probability: Tensor | None = None) -> Tensor:
        """Draw which pictures a change is made to: (B,) of 0 and 1."""
        probability = self.probability if probability is None else probability
        return (_uniform(pictures, 0, 1) < probability).float()

    def _some(self, values: Tensor, neutral: float) -> Tensor:
        """Put the neutral value in place of those values (B,) that are not chosen."""
        return torch.where(self._chosen(values) > 0, values, neutral)

    @torch.no_grad()
    def adapt(self, share_real: Tensor, pictures: int) -> None:
        """Move the probability by pictures / config.pictures, up where D is too certain.

        Karras et al. 2020, section 3.1.
        """
        direction = (share_real - self.config.target).sign()
        self.probability += direction * (pictures / self.config.pictures)
        self.probability.clamp_(0, 1)


def brighten(pictures: Tensor, amounts: Tensor) -> Tensor:
    """Shift pictures along the gray axis by amounts (B,)."""
    return pictures + _each(amounts) * _gray_part(torch.ones_like(pictures))


def saturate(pictures: Tensor, factors: Tensor) -> Tensor:
    """Scale the distance of pictures from the gray axis by factors (B,)."""
    return pictures + _each(factors - 1) * (pictures - _gray_part(pictures))


def turn_hue(pictures: Tensor, angles: Tensor) -> Tensor:
    """Turn the colors of pictures around the gray axis by angles (B,) in radians."""
    color = pictures - _gray_part(pictures)
    if pictures.shape[1] == 3:  # the axis, L, times the color
        lightness, a, b = color.unbind(1)
        across = torch.stack([lightness, -b, a], dim=1)
    else:  # (1, 1, 1) / sqrt(3) times the color
        lightness, red, green, blue = color.unbind(1)
        differences = [blue - green, red - blue, green - red]
        across = torch.stack([lightness, *(d / math.sqrt(3) for d in differences)], dim=1)
    return pictures + _each(angles.cos() - 1) * color + _each(angles.sin()) * across


def _gray_part(pictures: Tensor) -> Tensor:
    """Return the pictures without their color: the nearest point of the gray axis."""
    lightness, color = pictures[:, :1], pictures[:, 1:]
    if color.shape[1] == 2:
        return torch.cat([lightness, torch.zeros_like(color)], dim=1)
    return torch.cat([lightness, color.mean(1, keepdim=True).expand_as(color)], dim=1)


def _cutout(pictures: Tensor) -> Tensor:
    """Draw masks (B, 1, H, W): 0 in a square of half the side around any pixel, 1 elsewhere."""
    side = pictures.shape[-1]
    start = torch.randint(0, side + 1, (2, len(pictures), 1), device=pictures.device) - side // 4
    place = torch.arange(side, device=pictures.device)
    rows, columns = (place >= start) & (place < start + side // 2)
    return ~(rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)


def _warp(pictures: Tensor, matrices: Tensor, mode: str, padding: str) -> Tensor:
    """Take each pixel from where its matrix (B, 3, 3) sends it; the sides go from -1 to 1."""
    side = pictures.shape[-1]
    middles = (2 * torch.arange(side, device=pictures.device) + 1) / side - 1
    y, x = torch.meshgrid(middles, middles, indexing="ij")
    places = torch.stack([x, y, torch.ones_like(x)], dim=2)
    grid = (matrices[:, None, None, :2] * places.unsqueeze(2)).sum(4)
    return F.grid_sample(pictures, grid, mode, padding, align_corners=False)


def _product(first: Tensor, second: Tensor) -> Tensor:
    """Multiply matrices (B, 3, 3); `@` would be rounded to bfloat16 under autocast."""
    return (first.unsqueeze(3) * second.unsqueeze(1)).sum(2)


def _matrix(rows: list[list[Tensor | float]]) -> Tensor:
    """Build matrices (B, 3, 3) of two rows; the third is 0, 0, 1."""
    like = next(entry for row in rows for entry in row if isinstance(entry, Tensor))
    entries = [torch.zeros_like(like) + entry for row in [*rows, [0.0, 0.0, 1.0]] for entry in row]
    return torch.stack(entries, dim=1).unflatten(1, (3, 3))


def _scale(x: Tensor, y: Tensor | float) -> Tensor:
    return _matrix([[x, 0.0, 0.0], [0.0, y, 0.0]])


def _rotation(angles: Tensor) -> Tensor:
    cosine, sine = angles.cos(), angles.sin()
    return _matrix([[cosine, -sine, 0.0], [sine, cosine, 0.0]])


def _shift(x: Tensor, y: Tensor) -> Tensor:
    return _matrix([[1.0, 0.0, x], [0.0, 1.0, y]])


def _each(values: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


def _uniform(like: Tensor, low: float, high: float) -> Tensor:
    """Draw one number in [low, high) for each of B."""
    return low + (high - low) * torch.rand(len(like), device=like.device)


def _normal(like: Tensor) -> Tensor:
    """Draw one number of N(0, 1) for each of B."""
    return torch.randn(len(like), device=like.device)
