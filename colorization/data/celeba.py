"""CelebA: 202,599 faces of 178 x 218 pixels."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from colorization.config import ConfigError
from colorization.data.collection import CollectedSource
from colorization.data.folder import AbsolutePath, FileCollection
from colorization.data.planes import find_files

_PICTURES = "img_align_celeba"
_FOLDER = "celeba"  # as torchvision names it


class CelebASource(CollectedSource):
    """CelebA's aligned faces, split by `split` as the published colorizers do."""

    name: Literal["celeba"] = "celeba"
    root: AbsolutePath = Field(
        min_length=1, description="the folder that holds celeba/img_align_celeba/*.jpg"
    )
    download: bool = Field(default=False, description="fetch the files where they are missing")

    def collect(self) -> FileCollection:
        """List the faces; raises ConfigError where their folder is missing or empty."""
        (folder,) = find_files(
            self.root, _FOLDER, [_PICTURES], self._fetch if self.download else None
        )
        names = sorted(path.name for path in Path(folder).glob("*.jpg"))
        if not names:
            raise ConfigError(
                f"data.source.root: no pictures (*.jpg) in {folder}; unpack {_PICTURES}.zip there"
            )
        return FileCollection(f"CelebA in {self.root}", folder, names)

    def _fetch(self) -> None:
        from torchvision.datasets import CelebA  # takes seconds to import

        CelebA(self.root, download=True)
