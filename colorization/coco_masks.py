"""Masks as the COCO data set writes them: polygons, or the lengths of runs (RLE)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import cv2
import numpy as np
from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt

from colorization.config import Config

_SHIFT = 4  # bits of a pixel's fraction that polygons are drawn with


def _pairs(numbers: tuple[float, ...]) -> tuple[float, ...]:
    if len(numbers) < 6 or len(numbers) % 2:
        raise ValueError(f"found {len(numbers)} numbers; x and y of three corners or more")
    return numbers


Polygon = Annotated[tuple[float, ...], AfterValidator(_pairs)]  # x, y, x, y, ... in pixels


class RunLengths(Config):
    """A mask of a whole picture as the lengths of its runs, column by column, outside first."""

    size: tuple[PositiveInt, PositiveInt] = Field(description="height, width of the picture")
    counts: str | tuple[NonNegativeInt, ...] = Field(
        description="lengths of runs, or COCO's text of them"
    )

    def model_post_init(self, context: object) -> None:
        """Refuse runs that do not fill the picture."""
        total = sum(self.lengths())
        if total != self.size[0] * self.size[1]:
            raise ValueError(
                f"counts: runs of {total} pixels in all; {self.size[1]} x {self.size[0]} are needed"
            )

    def lengths(self) -> Sequence[int]:
        """Return the lengths of the runs; raises ValueError for text that is none of COCO's."""
        return _read_counts(self.counts) if isinstance(self.counts, str) else self.counts


def draw_polygons(
    polygons: Sequence[Polygon], left: int, top: int, width: int, height: int
) -> np.ndarray:
    """Return which pixels of a part of a picture lie in one of the polygons: (height, width).

    Those that an edge passes through belong to it.
    """
    drawn = np.zeros((height, width), np.uint8)
    for polygon in polygons:
        corners = np.array(polygon, np.float64).reshape(-1, 1, 2) - (left + 0.5, top + 0.5)
        corners = np.clip(corners, -(2**20), 2**20)  # what is far outside may be anywhere there
        fixed = np.round(corners * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(drawn, [fixed], 1, shift=_SHIFT)
    return drawn.astype(bool)


def draw_runs(runs: RunLengths) -> np.ndarray:
    """Return the mask (height, width) of a whole picture."""
    lengths = runs.lengths()
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(runs.size, order="F")


def run_lengths(mask: np.ndarray) -> RunLengths:
    """Write a mask (height, width) as the lengths of its runs."""
    flat = mask.reshape(-1, order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    ends = [0, *changes.tolist(), len(flat)]
    lengths = [stop - start for start, stop in pairwise(ends)]
    if flat[0]:
        lengths.insert(0, 0)
    return RunLengths(size=(mask.shape[0], mask.shape[1]), counts=tuple(lengths))


def _read_counts(text: str) -> list[int]:
    """Read COCO's text: numbers of five bits a letter, from the third on as differences."""
    numbers: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"counts: found {letter!r}, which is no letter of COCO's run lengths")
        if shift > 30:  # else a megabyte of letters would be read for minutes
            raise ValueError("counts: found a number of more than 7 letters")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("counts: the text ends within a number")
    if any(number < 0 for number in numbers):
        raise ValueError("counts: found a run of a negative length")
    return numbers
