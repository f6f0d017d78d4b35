"""The photographs that come inside installed packages: nothing is downloaded.

Training, validation and test crops come from disjoint regions of the same few scenes. A model can
learn the scenes' colors, so scores on this set show that the machinery works; they measure no
generalization to other photographs.
"""

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from colorization.config import ConfigError
from colorization.data.picture_sets import PictureSets, Source
from colorization.data.splits import Split, digest_of, fingerprint
from colorization.pictures import UnreadablePicture, read_rgb

# Color photographs of natural scenes inside the wheels themselves, as (package, file). Others of
# skimage.data are gray, drawn, or fetched over the network when asked for.
_PHOTOGRAPHS = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/rocket.jpg"),
    ("skimage", "data/motorcycle_left.png"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
)

# Each scene is cut into three regions side by side, as shares of its width. The scoring regions are
# 90 to 148 pixels wide.
_REGIONS: dict[Split, tuple[float, float]] = {
    "train": (0.0, 0.6),
    "validation": (0.6, 0.8),
    "test": (0.8, 1.0),
}


class SampleSource(Source):
    """Crops of photographs inside installed packages: shows the machinery, measures no
    generalization."""

    name: Literal["sample"] = "sample"
    crops: int = Field(default=256, ge=1, le=1_000_000, description="training crops an epoch")
    scoring_crops: int = Field(
        default=48, ge=1, le=10_000, description="validation crops, and as many test crops"
    )

    def open(self, max_unreadable: float) -> PictureSets:
        """Read the photographs and lay out the crops.

        A photograph that is missing or damaged is left out with a warning. Raises ConfigError where
        none is left.
        """
        scenes = _read_scenes()
        windows: dict[Split, list[Window]] = {
            "train": _scattered(scenes, self.crops),
            "validation": _in_a_column(scenes, self.scoring_crops, "validation"),
            "test": _in_a_column(scenes, self.scoring_crops, "test"),
        }
        train, validation, test = (CropSet(scenes, windows[split]) for split in _REGIONS)
        return PictureSets(
            train=train,
            validation=validation,
            test=test,
            description=(
                f"crops of {len(scenes)} photographs inside installed packages "
                f"({len(train)} training, {len(validation)} validation, {len(test)} test) from "
                "disjoint regions of the same scenes: shows the machinery, measures no "
                "generalization"
            ),
            fingerprint=_fingerprint(scenes, windows),
            measures_generalization=False,
        )


@dataclass(frozen=True)
class Window:
    """A square region of a scene, in pixels."""

    scene: str
    top: int
    left: int
    side: int


@dataclass(frozen=True)
class CropSet:
    """Square windows of scenes held in memory."""

    scenes: dict[str, np.ndarray]
    windows: list[Window]

    def __len__(self) -> int:
        return len(self.windows)

    def picture(self, index: int, short_side: int = 0) -> np.ndarray:
        """Return the window's pixels, sRGB (side, side, 3) uint8."""
        del short_side
        at = self.windows[index]
        return self.scenes[at.scene][at.top : at.top + at.side, at.left : at.left + at.side]

    def name(self, index: int) -> str:
        """Return scene, side and corner, as in `coffee-120x120+360+40`, and the window's number."""
        at = self.windows[index]
        return f"{at.scene}-{at.side}x{at.side}+{at.left}+{at.top}#{index}"


def _read_scenes() -> dict[str, np.ndarray]:
    scenes: dict[str, np.ndarray] = {}
    for package, file in _PHOTOGRAPHS:
        spec = find_spec(package)  # finds the folder without importing the package
        if spec is None or spec.origin is None:
            warnings.warn(f"sample: {package} is not installed, {file} is left out", stacklevel=3)
            continue
        path = Path(spec.origin).parent / file
        try:
            scenes[path.stem] = read_rgb(path)
        except (UnreadablePicture, FileNotFoundError) as error:
            warnings.warn(f"sample: {path} is left out: {error}", stacklevel=3)
    if not scenes:
        packages = sorted({package for package, _ in _PHOTOGRAPHS})
        raise ConfigError(
            "data.source: the sample photographs are missing; install one of "
            f"{', '.join(packages)}, or set data.source={{name: folder, path: ...}}"
        )
    return scenes


def _fingerprint(scenes: dict[str, np.ndarray], windows: dict[Split, list["Window"]]) -> str:
    pixels = {name: digest_of(scene.tobytes()) for name, scene in scenes.items()}
    return fingerprint(
        {
            split: [digest_of(pixels[window.scene] + repr(window).encode()) for window in some]
            for split, some in windows.items()
        }
    )


def _columns(scene: np.ndarray, split: Split) -> tuple[int, int]:
    """Return the first column of a split's region and the first behind it."""
    start, stop = _REGIONS[split]
    return round(start * scene.shape[1]), round(stop * scene.shape[1])


def _scattered(scenes: dict[str, np.ndarray], count: int) -> list[Window]:
    """Scatter training windows, the same in every run, taking turns between the scenes.

    They are 1 to 1.6 times as wide as the scoring windows: with the random crop inside them, the
    things in training and scoring pictures come out equally large.
    """
    rng = np.random.default_rng(0)
    windows: list[Window] = []
    for index in range(count):
        name = list(scenes)[index % len(scenes)]
        scene = scenes[name]
        left, right = _columns(scene, "train")
        start, stop = _columns(scene, "validation")
        widest = min(scene.shape[0], right - left)
        side = min(round((stop - start) * rng.uniform(1.0, 1.6)), widest)
        top = int(rng.integers(scene.shape[0] - side + 1))
        windows.append(Window(name, top, left + int(rng.integers(right - left - side + 1)), side))
    return windows


def _in_a_column(scenes: dict[str, np.ndarray], count: int, split: Split) -> list[Window]:
    """Lay scoring windows as wide as the region evenly over its height, taking turns between the
    scenes, so that any few from the start show many scenes."""
    windows: list[Window] = []
    for index in range(count):
        turn, number = divmod(index, len(scenes))
        name = list(scenes)[number]
        scene = scenes[name]
        left, right = _columns(scene, split)
        side = min(right - left, scene.shape[0])
        turns = len(range(number, count, len(scenes)))
        top = round((scene.shape[0] - side) * turn / max(1, turns - 1))
        windows.append(Window(name, top, left, side))
    return windows
