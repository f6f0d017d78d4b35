"""Pictures of shapes whose colors follow from what they are, and of whose ground nothing does.

Each of the six shapes has one color. Lightness is drawn: nothing tells a shape's color but its
outline, and nothing the ground's, which is of a faint color of its own in each picture.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image

from colorization.color import AB_SCALE, lab_to_rgb
from colorization.instances import Box, Detection, instances_line

SIDE = 384
SHAPES = ("disk", "square", "triangle", "star", "cross", "ring")
_CHROMA, _GROUND_CHROMA = 45.0, 12.0  # units of Lab
_SMALLEST, _LARGEST = 94, 120  # pixels that a shape spans
_MOST = 5
_APART = 10**6  # between the seeds of two splits


class Scene(NamedTuple):
    """A picture, and the shapes in it."""

    rgb: np.ndarray  # (SIDE, SIDE, 3) uint8
    found: list[Detection]


def draw_scene(seed: int) -> Scene:
    """Draw a picture of two to five shapes that do not overlap."""
    rng = np.random.default_rng(seed)
    lightness = np.full((SIDE, SIDE), rng.uniform(45, 60), np.float32)
    ab = np.empty((SIDE, SIDE, 2), np.float32)
    ab[:] = _tone(rng.uniform(0, 2 * math.pi), _GROUND_CHROMA)
    found: list[Detection] = []
    for _ in range(int(rng.integers(2, _MOST + 1))):
        side = int(rng.integers(_SMALLEST, _LARGEST + 1))
        left, top = (int(at) for at in rng.integers(0, SIDE - side, 2))
        box = Box(left, top, side, side)
        if any(_overlap(box, other.box) for other in found):
            continue
        kind = int(rng.integers(len(SHAPES)))
        mask = _outline(SHAPES[kind], side, rng.uniform(0, 2 * math.pi))
        rows, columns = np.nonzero(mask)
        tight = Box(
            box.left + int(columns.min()),
            box.top + int(rows.min()),
            int(np.ptp(columns)) + 1,
            int(np.ptp(rows)) + 1,
        )
        box.cut(lightness)[mask] += rng.choice([-1, 1]) * rng.uniform(12, 20)
        box.cut(ab)[mask] = _tone(2 * math.pi * kind / len(SHAPES), _CHROMA)
        part = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        found.append(Detection(SHAPES[kind], 1.0, tight, part.copy()))
    lightness += cv2.resize(rng.normal(0, 4, (16, 16)).astype(np.float32), (SIDE, SIDE))
    lightness += rng.normal(0, 1.5, (SIDE, SIDE)).astype(np.float32)
    lab = torch.cat(
        [torch.from_numpy(lightness / 50 - 1)[None], torch.from_numpy(ab).permute(2, 0, 1)]
    )
    rgb = lab_to_rgb(lab[None], keep_lightness=True)[0]
    return Scene((rgb * 255).round().permute(1, 2, 0).to(torch.uint8).numpy(), found)


def _tone(angle: float, chroma: float) -> tuple[float, float]:
    return chroma / AB_SCALE * math.cos(angle), chroma / AB_SCALE * math.sin(angle)


def _overlap(one: Box, other: Box) -> bool:
    apart_x = one.left + one.width <= other.left or other.left + other.width <= one.left
    apart_y = one.top + one.height <= other.top or other.top + other.height <= one.top
    return not (apart_x or apart_y)


def _outline(shape: str, side: int, turn: float) -> np.ndarray:
    """Return which pixels of a square (side, side) a shape covers."""
    mask = np.zeros((side, side), np.uint8)
    middle, radius = (side - 1) / 2, (side - 2) / 2
    center = (round(middle), round(middle))
    if shape in ("disk", "ring"):
        cv2.circle(mask, center, int(radius), 1, -1)
        if shape == "ring":
            cv2.circle(mask, center, int(radius * 0.55), 0, -1)
        return mask.astype(bool)
    corners = {"square": 4, "triangle": 3, "star": 10, "cross": 12}[shape]
    points: list[tuple[float, float]] = []
    for corner in range(corners):
        angle, far = turn + 2 * math.pi * corner / corners, 1.0
        if shape == "star":
            far = 1.0 if corner % 2 == 0 else 0.4
        if shape == "cross":  # four arms: two outer corners each, and an inner one between
            third = corner // 3
            step = {0: -0.3, 1: 0.3, 2: math.pi / 4}[corner % 3]
            angle, far = turn + third * math.pi / 2 + step, 0.42 if corner % 3 == 2 else 1.0
        points.append(
            (middle + radius * far * math.cos(angle), middle + radius * far * math.sin(angle))
        )
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 1)
    return mask.astype(bool)


def write_set(folder: Path, counts: dict[str, int]) -> Path:
    """Write so many pictures into folders of splits below `folder`; return what says what is in
    them."""
    lines: list[str] = []
    for place, (split, count) in enumerate(counts.items()):
        (folder / "pictures" / split).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            scene = draw_scene(_APART * place + number)
            name = f"{split}/{number:05}.png"
            Image.fromarray(scene.rgb).save(folder / "pictures" / name)
            lines.append(instances_line(name, scene.found, SIDE, SIDE))
    path = folder / "found.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read_names(path: Path, split: str) -> list[str]:
    """Return the names of a split's pictures."""
    names = [json.loads(line)["name"] for line in path.read_text(encoding="utf-8").splitlines()]
    return [name for name in names if name.startswith(f"{split}/")]
