"""The same photographs by several models, for a page: what stands in each column of each row."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from colorization.color import render, rgb_to_lab
from colorization.data import PictureSet
from colorization.data.spread import Named, pictures_from_all_over
from colorization.data.transforms import scoring_crop
from colorization.pictures import Picture, encode_picture

LARGEST = 384  # pixels of a picture's side in a page
SEED = 0  # of the samples that stochastic models draw

Colorize = Callable[[Picture], Picture]


@dataclass(frozen=True)
class Cell:
    """A picture of a row as a data URI, or why there is none."""

    label: str
    note: str
    source: str
    alt: str
    side: int


@dataclass
class Row:
    """One photograph in all its versions."""

    name: str
    cells: list[Cell] = field(default_factory=list)


@dataclass(frozen=True)
class Gallery:
    """Photographs in rows, and the columns that have no pictures with the reason."""

    rows: list[Row]
    missing: Mapping[str, str]


class SideBySide:
    """Collects a gallery model by model, so that one is in memory at a time."""

    def __init__(self, pictures: PictureSet, count: int, least_side: int) -> None:
        """Cut photographs from all over a set to squares.

        Of `least_side` pixels, which is what models are scored at, or larger where the photograph
        is, up to LARGEST.
        """
        self._crops = [
            _large_crop(picture, least_side) for picture in pictures_from_all_over(pictures, count)
        ]
        self._rows = [Row(crop.name) for crop in self._crops]
        self._missing: dict[str, str] = {}

    def add_gray(self) -> None:
        """Add the column of what the models are given."""
        self._add("gray", "leave-gray", [_gray(crop.rgb) for crop in self._crops])

    def add_truth(self) -> None:
        """Add the column of the photographs as they are."""
        self._add("truth", "the photograph", [crop.rgb for crop in self._crops])

    def add_model(self, label: str, note: str, colorize: Colorize) -> None:
        """Add what a model makes of the photographs, drawing its samples from a fixed seed.

        Raises what the model raises, and then the column is left out.
        """
        colored: list[np.ndarray] = []
        with torch.random.fork_rng():
            for crop in self._crops:
                torch.manual_seed(SEED)
                colored.append(colorize(Picture(crop.rgb)).rgb)
        self._add(label, note, colored)

    def leave_out(self, label: str, reason: str) -> None:
        """Say why a model has no column."""
        self._missing[label] = reason

    def gallery(self) -> Gallery:
        """Return what was collected."""
        return Gallery(self._rows, self._missing)

    def _add(self, label: str, note: str, pixels: Sequence[np.ndarray]) -> None:
        for row, rgb in zip(self._rows, pixels, strict=True):
            content = base64.b64encode(encode_picture(Picture(rgb), ".jpg")).decode()
            source = f"data:image/jpeg;base64,{content}"
            row.cells.append(Cell(label, note, source, f"{row.name}: {label}", rgb.shape[0]))


def _large_crop(picture: Named, least_side: int) -> Named:
    own = min(picture.rgb.shape[:2])
    side = max(least_side, min(own, LARGEST))
    return Named(picture.name, scoring_crop(picture.rgb, side))


def _gray(rgb: np.ndarray) -> np.ndarray:
    lab = rgb_to_lab(torch.tensor(rgb).permute(2, 0, 1)[None])
    return render(lab[:, :1], torch.zeros_like(lab[:, 1:]))[0].permute(1, 2, 0).numpy()
