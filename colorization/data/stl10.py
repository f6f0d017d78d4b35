"""STL-10: 105,000 pictures of 96 x 96 pixels to train on."""

from typing import Literal

from pydantic import Field

from colorization.config import ConfigError
from colorization.data.collection import CollectedSource
from colorization.data.folder import AbsolutePath
from colorization.data.planes import PlaneFile, PlanesCollection, find_files

_SIDE = 96
_FILES = ("train_X.bin", "unlabeled_X.bin")
_FOLDER = "stl10_binary"  # as torchvision names it


class Stl10Source(CollectedSource):
    """STL-10's training and unlabeled pictures, split by `split`; its own test is never read."""

    name: Literal["stl10"] = "stl10"
    root: AbsolutePath = Field(min_length=1, description="the folder that holds stl10_binary")
    download: bool = Field(default=False, description="fetch the files where they are missing")

    def collect(self) -> PlanesCollection:
        """Map the pictures into memory.

        Raises ConfigError where files are missing or hold a part of a picture.
        """
        files: list[PlaneFile] = []
        for path in find_files(self.root, _FOLDER, _FILES, self._fetch if self.download else None):
            size, length = path.stat().st_size, 3 * _SIDE**2
            if not size or size % length:
                raise ConfigError(
                    f"data.source.root: {path} has {size} bytes; a multiple of {length}, "
                    "three planes of 96 x 96, is needed: download it again"
                )
            files.append(PlaneFile(path, 0, size // length))
        return PlanesCollection(f"STL-10 in {self.root}", files, _SIDE, by_columns=True)

    def _fetch(self) -> None:
        from torchvision.datasets import STL10  # takes seconds to import

        STL10(self.root, "unlabeled", download=True)
