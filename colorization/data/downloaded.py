"""Data sets of a known layout, which torchvision can download."""

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from colorization.config import ConfigError
from colorization.data.collection import CollectedSource
from colorization.data.folder import AbsolutePath


class DownloadedSource(CollectedSource):
    """A data set in torchvision's layout below `root`."""

    root: AbsolutePath = Field(
        min_length=1, description="the folder that torchvision downloads the set into"
    )
    download: bool = Field(default=False, description="fetch the files where they are missing")

    @abstractmethod
    def fetch(self) -> None:
        """Download the files."""

    def find_files(self, folder: str, names: Iterable[str]) -> list[Path]:
        """Return files below `root`/`folder`, downloaded where they are missing and may be.

        Raises ConfigError that names what is missing, or why it cannot be downloaded.
        """
        paths = [Path(self.root) / folder / name for name in names]
        if self.download and not all(path.exists() for path in paths):
            try:
                self.fetch()
            except (OSError, RuntimeError, ValueError, ImportError) as error:
                raise ConfigError(
                    f"data.source.download: cannot download to {self.root}: {error}"
                ) from error
        if missing := [path.name for path in paths if not path.exists()]:
            raise ConfigError(
                f"data.source.root: {Path(self.root) / folder} lacks {', '.join(missing)}; put "
                "them there, or set data.source.download=true"
            )
        return paths
