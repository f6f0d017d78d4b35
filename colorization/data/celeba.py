"""CelebA: 202,599 faces of 178 x 218 pixels."""

from pathlib import Path
from typing import Literal

from colorization.config import ConfigError
from colorization.data.downloaded import DownloadedSource
from colorization.data.folder import FileCollection

_PICTURES = "img_align_celeba"
_FOLDER = "celeba"  # as torchvision names it


class CelebASource(DownloadedSource):
    """CelebA's aligned faces, split by `split` as the published colorizers do."""

    name: Literal["celeba"] = "celeba"

    def collect(self) -> FileCollection:
        """List the faces; raises ConfigError where their folder is missing or empty."""
        (folder,) = self.find_files(_FOLDER, [_PICTURES])
        names = sorted(path.name for path in Path(folder).glob("*.jpg"))
        if not names:
            raise ConfigError(
                f"data.source.root: no pictures (*.jpg) in {folder}; unpack {_PICTURES}.zip there"
            )
        return FileCollection(f"CelebA in {self.root}", folder, names)

    def fetch(self) -> None:
        """Download the files."""
        from torchvision.datasets import CelebA  # takes seconds to import

        CelebA(self.root, download=True)
