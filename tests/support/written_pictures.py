"""Pictures written to disk, and the names of those in a set."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from colorization.data.picture_sets import PictureSet, PictureSets


def encoded(seed: int, kind: str = "PNG") -> bytes:
    """Return the file of a picture of random pixels, 9 wide and 8 high."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def write_pictures(folder: Path, count: int, suffix: str = ".png", seed: int = 0) -> list[Path]:
    """Write pictures of random pixels, different ones for each seed."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = [folder / f"{seed}-{number:03}{suffix}" for number in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)).save(path)
    return paths


def names(pictures: PictureSet) -> list[str]:
    """Return the names of a set's pictures in order."""
    return [pictures.name(index) for index in range(len(pictures))]


def all_names(sets: PictureSets) -> set[str]:
    """Return the names of the pictures of all three sets."""
    return {name for split in (sets.train, sets.validation, sets.test) for name in names(split)}
