"""Which of several regions a region is most like, by brightness, texture and shape (system A6)."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

_BINS = 32
_FAINTEST = 2.0**-9  # of L / 100 a pixel: half a level of 8 bits
_SCALES = 3  # of texture, each of half the last one's side
# Medians of two photographs and of two random polygons, so that each feature has its say.
_TYPICAL_BRIGHTNESS, _TYPICAL_TEXTURE, _TYPICAL_SHAPE = 0.18, 0.09, 0.3


class Features(NamedTuple):
    """What a region looks like, without its colors."""

    brightness: np.ndarray  # (bins,): share of the region darker than each bin's upper end
    texture: np.ndarray  # (scales, bins): share whose lightness is flatter, by steps of a ratio
    shape: np.ndarray  # (4,): spread, eccentricity, asymmetry, aspect; empty: of a whole picture


def features(lightness: np.ndarray, mask: np.ndarray | None = None) -> Features:
    """Describe a picture by its lightness (H, W) in [-1, 1], or the region of it where a mask is.

    `mask` is (H, W), more than half where the region is. Regions are to be cut out and brought to
    one size before: texture is measured in pixels. Shape is Hu's moments and the sides of the
    region; a picture as a whole has none. Raises ValueError for a mask without any region.
    """
    inside = np.ones(lightness.shape, bool) if mask is None else mask > 0.5
    if not inside.any():
        raise ValueError("the mask has no region: it is 0 everywhere")
    light = (lightness.astype(np.float32) + 1) / 2
    shape = np.zeros(0) if mask is None else _shape(inside)
    return Features(_shares(light[inside]), _texture(light, inside), shape)


def difference(one: Features, other: Features) -> float:
    """Return how unlike two regions are: 0 for equal ones, about 1 for any two.

    Distributions are compared by the earth mover's distance. A shape is left out where either
    region is a whole picture.
    """
    parts = [
        np.abs(one.brightness - other.brightness).mean() / _TYPICAL_BRIGHTNESS,
        np.abs(one.texture - other.texture).mean() / _TYPICAL_TEXTURE,
    ]
    if one.shape.size and other.shape.size:
        parts.append(np.abs(one.shape - other.shape).mean() / _TYPICAL_SHAPE)
    return float(np.mean(parts))


def most_alike(region: Features, others: Sequence[Features]) -> int:
    """Return which of the others a region is most like; the first of equals."""
    return int(np.argmin([difference(region, other) for other in others]))


def _shares(values: np.ndarray) -> np.ndarray:
    """Return the cumulative histogram of values in [0, 1]."""
    counts, _ = np.histogram(values, _BINS, (0.0, 1.0))
    return np.cumsum(counts) / max(1, counts.sum())


def _texture(light: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the cumulative histograms of the logarithm of the gradient, at several scales."""
    there = inside.astype(np.float32)
    scales: list[np.ndarray] = []
    for _ in range(_SCALES):
        across, down = (
            cv2.Sobel(light, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1))
        )
        steps = np.hypot(across, down)[there > 0.5]
        scales.append(_shares(1 - np.log2(steps.clip(_FAINTEST, 1)) / np.log2(_FAINTEST)))
        light, there = cv2.pyrDown(light), cv2.pyrDown(there)
        if not (there > 0.5).any():  # thinner than the scale: what there is of it
            there = (there >= there.max()).astype(np.float32)
    return np.stack(scales)


def _shape(inside: np.ndarray) -> np.ndarray:
    """Return numbers of about [0, 1] that do not change with place, size and, but one, turning."""
    moments = cv2.moments(inside.astype(np.uint8), binaryImage=True)
    first, second, third, fourth, *_ = cv2.HuMoments(moments).ravel()
    first += 1 / (6 * moments["m00"])  # pixels are squares, no points
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    aspect = (np.ptp(columns) + 1) / (np.ptp(rows) + 1)
    spread = np.log2(max(first * 2 * np.pi, 1.0))  # 0 of a disc
    asymmetry = np.sqrt(max(third + fourth, 0.0)) / first**1.5
    return np.array([spread, np.sqrt(max(second, 0.0)) / first, asymmetry, np.log2(aspect) / 2])
