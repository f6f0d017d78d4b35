"""Pictures given as arrays of 8-bit Lab (system D's MIRFLICKR-25k)."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal, Self

import cv2
import numpy as np
from numpy.lib.format import open_memmap
from pydantic import Field, model_validator

from colorization.config import ConfigError
from colorization.data.folder import AbsolutePath
from colorization.data.picture_sets import PictureSets, Source, check_shares, split_of

_LIGHTNESS = "gray_scale.npy"
_COLOR = "ab{}.npy"


class ArraysSource(Source):
    """A folder with `gray_scale.npy` (n, H, W) and `ab1.npy`, `ab2.npy`, ... (n_i, H, W, 2).

    uint8, OpenCV's 8-bit Lab: L * 255/100, a + 128, b + 128. The color arrays follow each other in
    the order of the pictures.
    """

    name: Literal["arrays"] = "arrays"
    path: AbsolutePath = Field(min_length=1, description="the folder that holds the arrays")
    validation: float = Field(default=0.1, gt=0, lt=1, description="share for validation")
    test: float = Field(default=0.1, gt=0, lt=1, description="share for the test")

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> Self:
        check_shares(self.validation, self.test)
        return self

    def open(self, max_unreadable: float) -> PictureSets:
        """Map the arrays into memory and split them by a hash of each picture's middle row.

        Raises ConfigError where files are missing or hold something else, naming file, shape and
        type, where there is not one color picture for each lightness picture, and where a split
        comes out empty.
        """
        del max_unreadable  # an array is readable whole or not at all
        root = Path(self.path).expanduser()
        lightness = _read(root / _LIGHTNESS, dimensions=3)
        colors: list[np.memmap] = []
        while (path := root / _COLOR.format(len(colors) + 1)).exists() or not colors:
            colors.append(_read(path, dimensions=4))
            if colors[-1].shape[1:] != (*lightness.shape[1:], 2):
                raise ConfigError(
                    f"data.source.path: {path} has shape {colors[-1].shape}; beside {_LIGHTNESS} "
                    f"of shape {lightness.shape} it must be (n, {lightness.shape[1]}, "
                    f"{lightness.shape[2]}, 2)"
                )
        if (found := sum(map(len, colors))) != len(lightness):
            files = ", ".join(_COLOR.format(i + 1) for i in range(len(colors)))
            raise ConfigError(
                f"data.source.path: {root}: {_LIGHTNESS} holds {len(lightness)} pictures, "
                f"{files} together {found}"
            )
        splits: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
        for index, picture in enumerate(lightness):
            splits[split_of(_share(picture), self.validation, self.test)].append(index)
        if empty := [split for split, indices in splits.items() if not indices]:
            raise ConfigError(
                f"data.source.path: of {len(lightness)} pictures in {root} none came into "
                f"{empty[0]}; more pictures are needed, or another data.source.{empty[0]}"
            )
        counts = ", ".join(f"{len(indices)} {split}" for split, indices in splits.items())
        return PictureSets(
            train=ArraySet(lightness, colors, splits["train"]),
            validation=ArraySet(lightness, colors, splits["validation"]),
            test=ArraySet(lightness, colors, splits["test"]),
            description=f"arrays in {root} ({counts}), split by a hash of each picture's content",
            measures_generalization=True,
        )


@dataclass(frozen=True)
class ArraySet:
    """Some pictures out of arrays that stay on disk."""

    lightness: np.memmap
    colors: list[np.memmap]
    indices: list[int]

    def __reduce__(self) -> "tuple[Callable[..., ArraySet], tuple[object, ...]]":
        """Pickle the files' names: loader processes that are spawned would be sent every pixel."""
        return _map_again, (
            self.lightness.filename,
            [c.filename for c in self.colors],
            self.indices,
        )

    def __len__(self) -> int:
        return len(self.indices)

    def picture(self, index: int) -> np.ndarray:
        """Return sRGB (H, W, 3) uint8."""
        number = offset = self.indices[index]
        for colors in self.colors:
            if offset < len(colors):
                lab = np.dstack([self.lightness[number], colors[offset]])
                return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
            offset -= len(colors)
        raise IndexError(f"no colors for picture {number}")

    def name(self, index: int) -> str:
        """Return the picture's place in `gray_scale.npy`."""
        return f"{_LIGHTNESS}[{self.indices[index]}]"


def _read(path: Path, dimensions: int) -> np.memmap:
    try:
        array = open_memmap(path, mode="r")  # refuses what np.load would unpickle or unzip
    except FileNotFoundError:
        raise ConfigError(
            f"data.source.path: no file {path}; {_LIGHTNESS} and {_COLOR.format(1)}, ... are needed"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"data.source.path: cannot read {path}: {error}") from error
    if array.ndim != dimensions or array.dtype != np.uint8 or not array.size:
        raise ConfigError(
            f"data.source.path: {path} holds {array.dtype} of shape {array.shape}; uint8 with "
            f"{dimensions} dimensions, none of them 0, is needed"
        )
    return array


def _map_again(lightness: Path, colors: list[Path], indices: list[int]) -> ArraySet:
    files = [open_memmap(path, mode="r") for path in (lightness, *colors)]
    return ArraySet(files[0], files[1:], indices)


def _share(lightness: np.ndarray) -> float:
    """Hash a picture's middle row to a number in [0, 1): reading it all would take minutes."""
    row = np.ascontiguousarray(lightness[len(lightness) // 2])
    return int.from_bytes(blake2b(row.tobytes(), digest_size=6).digest(), "big") / 2**48
