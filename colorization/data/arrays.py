"""Pictures given as arrays of 8-bit Lab (system D's MIRFLICKR-25k)."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.lib.format import open_memmap
from pydantic import Field

from colorization.config import ConfigError
from colorization.data.collection import CollectedSource, Collection, file_version
from colorization.data.folder import AbsolutePath

_LIGHTNESS = "gray_scale.npy"
_COLOR = "ab{}.npy"


class ArraysSource(CollectedSource):
    """A folder with `gray_scale.npy` (n, H, W) and `ab1.npy`, `ab2.npy`, ... (n_i, H, W, 2).

    uint8, OpenCV's 8-bit Lab: L * 255/100, a + 128, b + 128. The color arrays follow each other in
    the order of the pictures.
    """

    name: Literal["arrays"] = "arrays"
    path: AbsolutePath = Field(min_length=1, description="the folder that holds the arrays")

    def collect(self) -> "ArrayCollection":
        """Map the arrays into memory.

        Raises ConfigError where files are missing or hold something else, naming file, shape and
        type, and where there is not one color picture for each lightness picture.
        """
        root = Path(self.path)
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
        return ArrayCollection(f"arrays in {root}", lightness, colors)


class ArrayCollection(Collection):
    """Pictures in arrays that stay on disk."""

    def __init__(self, place: str, lightness: np.memmap, colors: list[np.memmap]) -> None:
        super().__init__(place, [f"{_LIGHTNESS}[{i}]" for i in range(len(lightness))])
        self.lightness = lightness
        self.colors = colors

    def __reduce__(self) -> "tuple[Callable[..., ArrayCollection], tuple[object, ...]]":
        """Pickle the files' names: loader processes that are spawned would be sent every pixel."""
        colors = [c.filename for c in self.colors]
        return _map_again, (self.place, self.lightness.filename, colors)

    def content(self, index: int) -> bytes:
        """Return the bytes of lightness and color."""
        return self._lab(index).tobytes()

    def picture(self, index: int, short_side: int = 0) -> np.ndarray:
        """Return sRGB (H, W, 3) uint8."""
        del short_side
        return cv2.cvtColor(self._lab(index), cv2.COLOR_LAB2RGB)

    def version(self, index: int) -> str:
        """Return the versions of all arrays: a picture's colors lie where those before it end."""
        del index
        arrays = (self.lightness, *self.colors)
        return " ".join(file_version(Path(array.filename or "")) for array in arrays)

    def _lab(self, index: int) -> np.ndarray:
        offset = index
        for colors in self.colors:
            if offset < len(colors):
                return np.dstack([self.lightness[index], colors[offset]])
            offset -= len(colors)
        raise IndexError(f"no colors for picture {index}")


def _read(path: Path, dimensions: int) -> np.memmap:
    try:
        array = open_memmap(path, mode="r")  # refuses what np.load would unpickle or unzip
    except FileNotFoundError:
        raise ConfigError(
            f"data.source.path: no file {path}; {_LIGHTNESS} and {_COLOR.format(1)}, ... are needed"
        ) from None
    # NumPy raises whatever the damage of a header leads to, its tokenizer's errors among it.
    except Exception as error:
        raise ConfigError(f"data.source.path: cannot read {path}: {error}") from error
    if array.ndim != dimensions or array.dtype != np.uint8 or not array.size:
        raise ConfigError(
            f"data.source.path: {path} holds {array.dtype} of shape {array.shape}; uint8 with "
            f"{dimensions} dimensions, none of them 0, is needed"
        )
    return array


def _map_again(place: str, lightness: Path, colors: list[Path]) -> ArrayCollection:
    files = [open_memmap(path, mode="r") for path in (lightness, *colors)]
    return ArrayCollection(place, files[0], files[1:])
