"""STL-10: 105,000 pictures of 96 x 96 pixels to train on."""

from typing import Literal

from colorization.config import ConfigError
from colorization.data.downloaded import DownloadedSource
from colorization.data.planes import PlaneFile, PlanesCollection

_SIDE = 96
_FILES = ("train_X.bin", "unlabeled_X.bin")
_FOLDER = "stl10_binary"  # as torchvision names it


class Stl10Source(DownloadedSource):
    """STL-10's training and unlabeled pictures, split by `split`; its own test is never read."""

    name: Literal["stl10"] = "stl10"

    def collect(self) -> PlanesCollection:
        """Map the pictures into memory.

        Raises ConfigError where files are missing or hold a part of a picture.
        """
        files: list[PlaneFile] = []
        for path in self.find_files(_FOLDER, _FILES):
            size, length = path.stat().st_size, 3 * _SIDE**2
            if not size or size % length:
                raise ConfigError(
                    f"data.source.root: {path} has {size} bytes; a multiple of {length}, "
                    "three planes of 96 x 96, is needed: download it again"
                )
            files.append(PlaneFile(path, 0, size // length))
        return PlanesCollection(f"STL-10 in {self.root}", files, _SIDE, by_columns=True)

    def fetch(self) -> None:
        """Download the files."""
        from torchvision.datasets import STL10  # takes seconds to import

        STL10(self.root, "unlabeled", download=True)
