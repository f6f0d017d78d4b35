"""Prints how far a reference moves the colors of pictures toward its own, pair by pair.

Each picture is colored by a model without a reference and with one, and each result's joint
histogram of a and b compared with the reference's by their Jensen-Shannon divergence (bins of 10
units of Lab). Pairs are drawn without regard to what the pictures show.

    python benchmarks/reference.py MODEL PICTURES [--pairs N] [--seed S] [--shown FILE]
"""

import argparse
import random
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from colorization.color import rgb_to_lab
from colorization.coloring import ColorOptions
from colorization.export import load_model
from colorization.inference import PictureColorizer
from colorization.metrics import ab_histograms, jensen_shannon_divergence
from colorization.outputs import find_pictures
from colorization.pictures import Picture, read_picture, write_picture

_SHOWN_SIDE = 192  # pixels of each picture of a sheet


class Pair(NamedTuple):
    """A picture, its reference, and its colors without and with it."""

    picture: Path
    reference: Path
    rgb: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # these four
    before: float  # divergence from the reference's colors
    after: float


def histogram(rgb: np.ndarray) -> Tensor:
    """Return the counts (bins,) of a picture's a and b."""
    return ab_histograms(rgb_to_lab(torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None])[:, 1:])[0]


def color_pair(colorizer: PictureColorizer, picture: Path, reference: Path) -> Pair:
    """Color a picture without and with a reference."""
    given, wanted = read_picture(picture), read_picture(reference)
    options = ColorOptions(reference=(reference.read_bytes(),))
    ((without,), (with_reference,)) = colorizer(given), colorizer(given, options)
    goal = histogram(wanted.rgb)
    before, after = (
        jensen_shannon_divergence(histogram(colored.rgb), goal).item()
        for colored in (without, with_reference)
    )
    shown = given.rgb, wanted.rgb, without.rgb, with_reference.rgb
    return Pair(picture, reference, shown, before, after)


def draw_pairs(pictures: list[Path], pairs: int, seed: int) -> list[tuple[Path, Path]]:
    """Return pairs of different pictures, each once on either side as far as they go."""
    order = sorted(pictures)
    random.Random(seed).shuffle(order)
    return list(zip(order, [*order[1:], order[0]], strict=True))[:pairs]


def sheet(pairs: list[Pair]) -> np.ndarray:
    """Return rows of picture (gray), reference, colors without and with it."""
    rows: list[np.ndarray] = []
    for pair in pairs:
        given, *others = pair.rgb
        gray = cv2.cvtColor(cv2.cvtColor(given, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        rows.append(np.hstack([_small(rgb) for rgb in (gray, *others)]))
    return np.vstack(rows)


def _small(rgb: np.ndarray) -> np.ndarray:
    return cv2.resize(rgb, (_SHOWN_SIDE, _SHOWN_SIDE), interpolation=cv2.INTER_AREA)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("model", type=Path, help="a run's directory or an exported folder")
    parser.add_argument("pictures", type=Path, help="a folder")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the pairs")
    parser.add_argument("--shown", type=Path, help="a picture of all pairs, to be written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, experiment = load_model(options.model)
    colorizer = PictureColorizer(model, experiment.data.size)
    drawn = draw_pairs(find_pictures(options.pictures), options.pairs, options.seed)
    pairs = [color_pair(colorizer, *pair) for pair in drawn]
    table = Table(title="divergence of ab from the reference's, in [0, 1]")
    for name in ("picture", "reference"):
        table.add_column(name)
    for name in ("without", "with it"):
        table.add_column(name, justify="right")
    for pair in pairs:
        cells = pair.picture.name, pair.reference.name, f"{pair.before:.3f}", f"{pair.after:.3f}"
        table.add_row(*cells)
    console = Console()
    console.print(table)
    before, after = np.mean([(pair.before, pair.after) for pair in pairs], axis=0)
    fell = sum(pair.after < pair.before for pair in pairs)
    console.print(f"mean {before:.3f} -> {after:.3f}; it fell for {fell} of {len(pairs)} pairs")
    if options.shown:
        write_picture(Picture(sheet(pairs)), options.shown)


if __name__ == "__main__":
    main()
