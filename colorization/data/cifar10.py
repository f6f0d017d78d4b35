"""CIFAR-10: 60,000 pictures of 32 x 32 pixels."""

import pickletools
from itertools import pairwise
from pathlib import Path
from typing import Literal

from colorization.config import ConfigError
from colorization.data.downloaded import DownloadedSource
from colorization.data.planes import PlaneFile, PlanesCollection
from colorization.data.splits import Split

_SIDE = 32
_BYTES = {"BINSTRING", "BINBYTES", "BINBYTES8", "BYTEARRAY8"}  # as pickles of Python 2 and 3 do
_FILES: dict[str, Split] = {f"data_batch_{i}": "train" for i in range(1, 6)}
_FILES["test_batch"] = "test"
_FOLDER = "cifar-10-batches-py"  # as torchvision names it


class Cifar10Source(DownloadedSource):
    """CIFAR-10's own files; its test pictures are the test, validation comes out of training."""

    name: Literal["cifar10"] = "cifar10"

    def collect(self) -> PlanesCollection:
        """Find the pixels in the six batches, of which nothing is unpickled.

        Raises ConfigError where files are missing or hold something else.
        """
        paths = self.find_files(_FOLDER, _FILES)
        files = [_pixels(path) for path in paths]
        return PlanesCollection(
            f"CIFAR-10 in {self.root}", files, _SIDE, False, list(_FILES.values())
        )

    def fetch(self) -> None:
        """Download the files."""
        from torchvision.datasets import CIFAR10  # takes seconds to import

        CIFAR10(self.root, download=True)


def _pixels(path: Path) -> PlaneFile:
    """Find the one long string in a pickle by reading its instructions without obeying them."""
    length = 3 * _SIDE**2
    found: list[tuple[int, int]] = []
    try:
        instructions = pickletools.genops(path.read_bytes())
        for (kind, value, _), (_, _, following) in pairwise(instructions):
            # Bytes stand at an instruction's end.
            if kind.name in _BYTES and value and following and len(value) >= length:
                found.append((following, len(value)))
    except (OSError, ValueError) as error:
        raise ConfigError(f"data.source.root: cannot read {path}: {error}") from error
    if len(found) != 1 or found[0][1] % length:
        raise ConfigError(
            f"data.source.root: {path} holds strings of {[size for _, size in found]} bytes; one "
            f"of a multiple of {length}, the pixels, is needed"
        )
    ((end, size),) = found
    return PlaneFile(path, end - size, size // length)
