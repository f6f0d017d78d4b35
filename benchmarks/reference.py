"""Prints how far a reference moves the colors of pictures toward its own, pair by pair.

Each picture is colored by a model without a reference and with one; the distribution of a and b in
either result is compared with that in the reference. Pairs are drawn without regard to what the
pictures show; pictures without colors are left out. Two distances: the earth mover's, in units of
Lab, in the mean over eight directions of the ab plane, and the Jensen-Shannon divergence of joint
histograms (bins of 10 units).

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

from colorization.color import AB_SCALE, rgb_to_lab
from colorization.coloring import ColorOptions
from colorization.config import ConfigError, parse
from colorization.inference import PictureColorizer
from colorization.metrics import ab_histograms, jensen_shannon_divergence
from colorization.outputs import find_pictures
from colorization.pair import load_colorizer
from colorization.pictures import Picture, read_picture, write_picture

_DIRECTIONS, _QUANTILES = 8, 256  # of the ab plane; of the colors along each
_PIXELS = 2**14  # that are looked at for them, about
_SHOWN_SIDE = 192  # pixels of each picture of a sheet


class Distance(NamedTuple):
    """How far the colors of two pictures lie apart."""

    earth_mover: float  # units of Lab
    divergence: float  # [0, 1]


class Pair(NamedTuple):
    """A picture, its reference, and how far from the reference's colors its own become."""

    picture: Path
    reference: Path
    shown: tuple[np.ndarray, ...]  # both, and the picture colored without and with the reference
    before: Distance
    after: Distance


def ab_of(rgb: np.ndarray) -> Tensor:
    """Return a picture's scaled ab (1, 2, H, W)."""
    return rgb_to_lab(torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None])[:, 1:]


def distance(rgb: np.ndarray, other: np.ndarray) -> Distance:
    """Return how far the colors of two pictures, of any sizes, lie apart."""
    one, two = ab_of(rgb), ab_of(other)
    apart = (_quantiles(one) - _quantiles(two)).abs().mean() * AB_SCALE
    (counts, of_other) = (ab_histograms(ab)[0] for ab in (one, two))
    return Distance(apart.item(), jensen_shannon_divergence(counts, of_other).item())


def _quantiles(ab: Tensor) -> Tensor:
    angles = torch.arange(_DIRECTIONS) * torch.pi / _DIRECTIONS
    colors = ab[0].flatten(1).T
    along = colors[:: max(1, len(colors) // _PIXELS)] @ torch.stack([angles.cos(), angles.sin()])
    return along.quantile((torch.arange(_QUANTILES) + 0.5) / _QUANTILES, dim=0)


def color_pair(colorizer: PictureColorizer, picture: Path, reference: Path) -> Pair:
    """Color a picture without and with a reference."""
    given, wanted = read_picture(picture).rgb, read_picture(reference).rgb
    (without,) = colorizer(Picture(given))
    (colored,) = colorizer(Picture(given), ColorOptions(reference=(reference.read_bytes(),)))
    before, after = (distance(one.rgb, wanted) for one in (without, colored))
    return Pair(picture, reference, (given, wanted, without.rgb, colored.rgb), before, after)


def draw_pairs(pictures: list[Path], seed: int) -> list[tuple[Path, Path]]:
    """Return pairs of different pictures, each once on either side."""
    order = sorted(pictures)
    random.Random(seed).shuffle(order)
    return list(zip(order, [*order[1:], order[0]], strict=True))


def has_colors(picture: Path) -> bool:
    """Tell whether a picture may be a reference."""
    try:
        parse(ColorOptions, {"reference": [picture.read_bytes()]})
    except ConfigError:
        return False
    return True


def sheet(pairs: list[Pair]) -> np.ndarray:
    """Return rows of picture (gray), reference, colors without and with it."""
    rows: list[np.ndarray] = []
    for pair in pairs:
        given, *others = pair.shown
        gray = cv2.cvtColor(cv2.cvtColor(given, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        rows.append(np.hstack([_small(rgb) for rgb in (gray, *others)]))
    return np.vstack(rows)


def _small(rgb: np.ndarray) -> np.ndarray:
    return cv2.resize(rgb, (_SHOWN_SIDE, _SHOWN_SIDE), interpolation=cv2.INTER_AREA)


def report(pairs: list[Pair], console: Console) -> None:
    """Print the table, and for how many pairs the distance fell."""
    table = Table(title="distance from the reference's colors: earth mover's, divergence")
    for name in ("picture", "reference"):
        table.add_column(name)
    for name in ("without it", "with it"):
        table.add_column(name, justify="right")
    for pair in pairs:
        cells = [f"{found[0]:.2f}, {found[1]:.3f}" for found in (pair.before, pair.after)]
        table.add_row(pair.picture.name, pair.reference.name, *cells)
    console.print(table)
    for kind, name in enumerate(Distance._fields):
        before = np.array([pair.before[kind] for pair in pairs])
        after = np.array([pair.after[kind] for pair in pairs])
        console.print(
            f"{name}: {before.mean():.3f} without, {after.mean():.3f} with it; it fell for "
            f"{(after < before).sum()} of {len(pairs)} pairs"
        )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("model", type=Path, help="a run's directory or an exported folder")
    parser.add_argument("pictures", type=Path, help="a folder")
    parser.add_argument("--pairs", type=int, help="so many (all pictures once)")
    parser.add_argument("--seed", type=int, default=0, help="of the pairs")
    parser.add_argument("--shown", type=Path, help="a picture of the pairs, to be written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    colorizer = load_colorizer(options.model)
    colored = [picture for picture in find_pictures(options.pictures) if has_colors(picture)]
    drawn = draw_pairs(colored, options.seed)[: options.pairs]
    pairs = [color_pair(colorizer, *pair) for pair in drawn]
    report(pairs, Console())
    if options.shown:
        write_picture(Picture(sheet(pairs)), options.shown)


if __name__ == "__main__":
    main()
