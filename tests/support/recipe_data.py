"""Pictures for recipes: few, and of the kind that each of their sources reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from colorization.config import Data, override
from colorization.data import DataConfig, SampleSource, open_data
from colorization.data.transforms import scoring_crop
from small_recipe import sources

_ARRAY_PICTURES, _ARRAY_SIDE = 48, 64


def with_pictures(data: Mapping[str, Any], arrays: Path, crops: int, scoring_crops: int) -> Data:
    """Give the sources of experiment data their pictures: sample photographs, so many, or arrays.

    `arrays` is the folder that `write_arrays` wrote.
    """
    changes: Data = {}
    for place, source in sources(data).items():
        match source.get("name", "sample" if place == "data.source" else None):
            case "sample":
                changes[f"{place}.name"] = "sample"
                changes |= {f"{place}.crops": crops, f"{place}.scoring_crops": scoring_crops}
            case "arrays":
                # So many for each that no split of few pictures comes out empty.
                changes[f"{place}.split"] = "0.4/0.3/0.3"
                changes[f"{place}.path"] = str(arrays)
    return override(data, changes)


def write_arrays(folder: Path) -> Path:
    """Write sample photographs as the arrays of system D's MIRFLICKR, in two color files."""
    pictures = open_data(DataConfig(source=SampleSource(crops=_ARRAY_PICTURES))).train
    squares = [scoring_crop(pictures.picture(i), _ARRAY_SIDE) for i in range(_ARRAY_PICTURES)]
    lab = np.stack([cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB) for rgb in squares])
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "gray_scale.npy", lab[..., 0])
    for number, colors in enumerate(np.array_split(lab[..., 1:], 2), start=1):
        np.save(folder / f"ab{number}.npy", colors)
    return folder


def odd_photograph() -> np.ndarray:
    """Return a photograph whose sides are prime: (83, 61, 3) uint8 sRGB."""
    picture = open_data(DataConfig()).test.picture(2)
    return np.ascontiguousarray(picture[:83, :61])
