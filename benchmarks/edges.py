"""Prints how far colors bleed over edges when a small picture of them is upsampled.

A synthetic set: shapes of one color each on a ground of another, with shading, texture and grain in
lightness, whose colors are averaged to the size that a model sees and taken back to full size by
each method. Its colors are known, so the error is what upsampling does alone. A part of the set has
edges at which color changes and lightness hardly does: there, no method can know better.

    python benchmarks/edges.py [--pictures N] [--photographs]
"""

import argparse
from collections.abc import Callable

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from colorization.color import AB_SCALE, rgb_to_lab
from colorization.data.sample import SampleSource
from colorization.data.transforms import scoring_crop
from colorization.upsampling import Bicubic, Bilateral, Guided

SIDE = 768
SHAPES = 7
LEAST_STEP = 0.3  # of scaled lightness at edges, 15 units of L
FAINT_STEP = 0.03

Upsample = Callable[[Tensor, Tensor, Tensor], Tensor]


def _bilinear(small: Tensor, small_guide: Tensor, guide: Tensor) -> Tensor:
    del small_guide
    return F.interpolate(small, guide.shape[2:], mode="bilinear", align_corners=False)


METHODS: dict[str, Upsample] = {
    "bilinear": _bilinear,
    "bicubic": lambda small, _, guide: Bicubic(small, guide.shape[2]).rows(guide, 0),
    "bilateral": lambda small, small_guide, guide: Bilateral(
        small, small_guide, guide.shape[2]
    ).rows(guide, 0),
    "guided": lambda small, small_guide, guide: Guided(small, small_guide, guide.shape[2]).rows(
        guide, 0
    ),
}


def known_edges(seed: int, step: float = LEAST_STEP) -> tuple[Tensor, Tensor]:
    """Return scaled Lab (1, 3, SIDE, SIDE) of shapes whose lightness differs from what lies below
    by at least `step`, at most three times that, and where an edge is: (SIDE, SIDE), boolean."""
    rng = np.random.default_rng(seed)
    lab = np.zeros((SIDE, SIDE, 3), np.float32)
    lab[:] = _color(rng, None, step)
    edges = np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(SHAPES):
        middle = rng.integers(SIDE // 8, SIDE - SIDE // 8, 2)
        below = float(lab[middle[1], middle[0], 0])
        shape = np.zeros((SIDE, SIDE), np.uint8)
        corners = rng.integers(3, 9)
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        reach = rng.uniform(SIDE / 10, SIDE / 4, corners)
        points = middle + np.stack((np.cos(angles), np.sin(angles)), 1) * reach[:, None]
        cv2.fillPoly(shape, [np.rint(points * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
        share = shape[..., None].astype(np.float32) / 255
        lab = lab * (1 - share) + _color(rng, below, step) * share
        edges[shape > 0] = 0
        outline = cv2.morphologyEx(
            (shape > 127).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)
        )
        edges[outline > 0] = 1
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    waves = np.sin(2 * np.pi * (x * rng.uniform(8, 40) + y * rng.uniform(8, 40)))
    lab[..., 0] += 0.08 * (x - y) + 0.02 * waves + rng.normal(0, 0.01, (SIDE, SIDE))
    return torch.from_numpy(lab.astype(np.float32)).permute(2, 0, 1)[None], torch.from_numpy(
        edges > 0
    )


def _color(rng: np.random.Generator, below: float | None, step: float) -> np.ndarray:
    lightness = rng.uniform(-0.6, 0.6)
    if below is not None:
        up = below < 0 if step == LEAST_STEP else rng.random() < 0.5
        lightness = below + rng.uniform(step, 3 * step) * (1 if up else -1)
    hue, chroma = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.6)
    return np.array([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], np.float32)


def errors(lab: Tensor, near: Tensor, scale: int) -> dict[str, tuple[float, float]]:
    """Return each method's mean error of ab, in units of Lab, near edges and elsewhere."""
    small = F.interpolate(lab, scale_factor=1 / scale, mode="area")
    found: dict[str, tuple[float, float]] = {}
    for name, upsample in METHODS.items():
        ab = upsample(small[:, 1:], small[:, :1], lab[:, :1])
        error = AB_SCALE * (ab - lab[:, 1:]).norm(dim=1)[0]
        found[name] = (error[near].mean().item(), error[~near].mean().item())
    return found


def near_edges(edges: Tensor, scale: int) -> Tensor:
    """Return where an edge is less than one small pixel away."""
    size = 2 * scale + 1
    return F.max_pool2d(edges.float()[None, None], size, stride=1, padding=scale)[0, 0] > 0


def measure(pictures: int, scale: int, step: float) -> dict[str, tuple[float, float]]:
    """Return each method's mean errors over the set."""
    rows = []
    for seed in range(pictures):
        lab, edges = known_edges(seed, step)
        rows.append(errors(lab, near_edges(edges, scale), scale))
    return {
        name: (
            float(np.mean([row[name][0] for row in rows])),
            float(np.mean([row[name][1] for row in rows])),
        )
        for name in METHODS
    }


def _photographs(scale: int) -> dict[str, tuple[float, float]]:
    pictures = SampleSource(scoring_crops=8).open(0).validation
    crops = [torch.from_numpy(scoring_crop(pictures.picture(i), 128)) for i in range(8)]
    lab = rgb_to_lab(torch.stack(crops).permute(0, 3, 1, 2))
    everywhere = torch.ones(lab.shape[2:], dtype=torch.bool)
    rows = [errors(one[None], everywhere, scale) for one in lab]
    return {name: (float(np.mean([row[name][0] for row in rows])), 0.0) for name in METHODS}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pictures", type=int, default=12)
    options = parser.parse_args()
    table = Table(title="mean error of ab, units of Lab")
    table.add_column("set")
    table.add_column("scale", justify="right")
    for name in METHODS:
        table.add_column(name, justify="right")
    sets = {"near edges": (LEAST_STEP, 0), "elsewhere": (LEAST_STEP, 1)}
    sets["near edges of color alone"] = (FAINT_STEP, 0)
    for scale in (4, 8, 16):
        measured = {step: measure(options.pictures, scale, step) for step, _ in sets.values()}
        for label, (step, place) in sets.items():
            cells = [f"{found[place]:.2f}" for found in measured[step].values()]
            table.add_row(label, f"{scale}", *cells)
        cells = [f"{found[0]:.2f}" for found in _photographs(scale).values()]
        table.add_row("sample photographs", f"{scale}", *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
