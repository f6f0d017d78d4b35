"""Where a job's pictures lie and its colored copies go: a folder, or any URL that fsspec knows."""

from pathlib import Path
from typing import NamedTuple

import fsspec
from fsspec import AbstractFileSystem

from colorization.config import ConfigError
from colorization.outputs import inside, is_picture


class Found(NamedTuple):
    """Pictures in the order of names, and those whose names are no path below a folder."""

    pictures: list[Path]
    strange: list[str]


class PicturePlace:
    """Files below a folder, or below a URL (s3://, gs://, file://). Survives pickling.

    Files of a URL are named by paths relative to it; those of a folder by their own.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.is_remote = "://" in url

    def list_pictures(self) -> Found:
        """Return the pictures below the URL; none: it is one file, or empty.

        Files with other suffixes and hidden ones are passed over. A store's names may be anything:
        `a//b.jpg`, `../a.jpg`. Raises ConfigError where there is no way to see it.
        """
        try:
            files, root = self._files()
            found = [] if files.isfile(root) else files.find(root)
        except ImportError as error:
            raise ConfigError(
                f"{self.url} needs a package that is not installed: {error}"
            ) from error
        # Stores raise what their clients do, of no common kind.
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise ConfigError(f"{self.url} cannot be read: {reason}") from error
        names = [path.removeprefix(f"{root}/") for path in found if is_picture(Path(path))]
        return Found(
            sorted(Path(name) for name in names if _is_below(name)),
            sorted(name for name in names if not _is_below(name)),
        )

    def local(self, path: Path, folder: Path) -> Path:
        """Return where a file lies on this machine: a folder's own, or a copy below `folder`.

        A file that is not there has a place too, in a folder that is. Raises what the store does.
        """
        if not self.is_remote:
            return path
        copy = inside(folder, folder / path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        files, root = self._files()
        if files.exists(f"{root}/{path}"):
            files.get_file(f"{root}/{path}", str(copy))
        return copy

    def put(self, path: Path, file: Path) -> None:
        """Copy a file that `local` named to where it belongs. Raises what the store does."""
        if not self.is_remote:
            return
        files, root = self._files()
        target = f"{root}/{path}"
        files.makedirs(target.rpartition("/")[0], exist_ok=True)
        files.put_file(str(file), target)

    def address(self, path: Path) -> str:
        """Return what a person calls a file."""
        return f"{self.url}/{path}" if self.is_remote else str(path)

    def _files(self) -> tuple[AbstractFileSystem, str]:
        # Not kept: connections survive no pickling; fsspec keeps its own.
        files, root = fsspec.core.url_to_fs(self.url)
        return files, root.rstrip("/")


def _is_below(name: str) -> bool:
    """Tell whether a name is that of a file below a folder, and of no other one there."""
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts and str(path) == name
