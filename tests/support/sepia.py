"""Colorizers that are known by heart, and pictures for them."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from colorization.color import rgb_to_lab
from colorization.models.colorizer import Colorizer, Progress, Turn, noise


class SepiaByLightness(Colorizer):
    """Colors that depend on each pixel's lightness; remembers what it was shown."""

    multiple = 16
    players = ()

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def turns(self, lab: Tensor, progress: Progress) -> Iterator[Turn]:
        del lab, progress
        yield from ()

    def colorize(
        self,
        lightness: Tensor,
        samples: int = 1,
        temperature: float | None = None,
        seed: int = 0,
    ) -> Tensor:
        del temperature, seed
        assert lightness.shape[-2] % self.multiple == lightness.shape[-1] % self.multiple == 0
        assert not self.training
        assert not torch.is_autocast_enabled("cpu")
        self.seen.append(lightness)
        ab = torch.cat((0.1 + 0.05 * lightness, 0.2 - 0.1 * lightness), dim=1)
        return ab.expand(samples, *ab.shape)


class Drawing(SepiaByLightness):
    """One tone for each sample."""

    stochastic = True

    def colorize(
        self,
        lightness: Tensor,
        samples: int = 1,
        temperature: float | None = None,
        seed: int = 0,
    ) -> Tensor:
        self.seen.append(lightness)
        scale = 0.1 if temperature is None else 0.1 * temperature
        tones = scale * noise(samples, 2, torch.device("cpu"), seed)
        return tones.view(samples, 1, 2, 1, 1).expand(-1, len(lightness), -1, *lightness.shape[-2:])


def photo(height: int, width: int, dtype: type = np.uint8) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = np.stack((np.sin(9 * x), np.cos(7 * y), np.sin(5 * (x + y))), axis=-1)
    return np.rint((waves + 1) / 2 * np.iinfo(dtype).max).astype(dtype)


def lightness_of(rgb: np.ndarray) -> np.ndarray:
    """L from 0 to 100."""
    scaled = torch.from_numpy(rgb.astype(np.float32) / np.iinfo(rgb.dtype).max)
    return (rgb_to_lab(scaled.permute(2, 0, 1)[None])[0, 0].numpy() + 1) * 50
