"""A tree of pictures on disk."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from colorization.config import ConfigError
from colorization.data.collection import CollectedSource, EncodedCollection, ends_of, file_version
from colorization.data.splits import Split
from colorization.pictures import PICTURE_SUFFIXES, UnreadablePicture, check_regular, read_file

_SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train",
    "val": "validation",
    "validation": "validation",
    "test": "test",
}


def absolute(path: str) -> str:
    """Return what workers on the cluster, which start elsewhere, mean the same folder by."""
    return str(Path(path).expanduser().absolute())


AbsolutePath = Annotated[str, AfterValidator(absolute)]


class FolderSource(CollectedSource):
    """Any tree of pictures; subfolders `train` and `val` (and `test`) are taken as the splits."""

    name: Literal["folder"] = "folder"
    path: AbsolutePath = Field(
        min_length=1, description="the folder; it is searched with all below it"
    )

    def collect(self) -> "FileCollection":
        """Find the pictures in the folder and below.

        With subfolders `train` and `val` (or `validation`) or `test` these are the splits, and
        what lies outside of them is left out. Raises ConfigError where the folder is missing, is a
        file, cannot be read, holds no pictures, or has an empty one among the splits' subfolders.
        """
        root = Path(self.path)
        found = [file.as_posix() for file in _find_pictures(root)]
        place, names, given = divided_by_folders(str(root), found, lambda at: _folders(root / at))
        return FileCollection(place, root, names, given)


def divided_by_folders(
    place: str, names: Sequence[str], folders_in: Callable[[str], Iterable[str]]
) -> tuple[str, Sequence[str], list[Split] | None]:
    """Take folders named like splits as the splits.

    They are looked for at the root and, where all pictures lie below one folder there, in that one.
    `names` are paths below the root, `folders_in` lists the names of the folders in a folder.
    Returns what messages call the place, the pictures that are kept and the split of each, None
    where no folder says it. Raises ConfigError where there are no pictures or a split's folder has
    none.
    """
    if not names:
        raise ConfigError(
            f"data.source.path: no pictures in {place} or below; "
            f"files ending in {', '.join(sorted(PICTURE_SUFFIXES))} are looked for"
        )
    above = ""
    places = split_folders(sorted(folders_in(above)))
    tops = {name.split("/", 1)[0] if "/" in name else "" for name in names}
    if not places and len(tops) == 1 and (top := tops.pop()):
        above = f"{top}/"
        places = split_folders(sorted(folders_in(above)))
    if not places:
        return place, names, None
    folders = [name.removeprefix(above).split("/", 1)[0] for name in names]
    inside = [
        (name, folder) for name, folder in zip(names, folders, strict=True) if folder in places
    ]
    if empty := places.keys() - set(folders):
        raise ConfigError(
            f"data.source.path: no pictures in {place}/{above}{min(empty)}, which is a split by "
            f"its name; put pictures into its subfolder {min(empty)}"
        )
    if outside := len(names) - len(inside):
        place += f" ({outside} outside of {', '.join(places)} left out)"
    return place, [name for name, _ in inside], [places[folder] for _, folder in inside]


def split_folders(names: list[str]) -> dict[str, Split]:
    """Return the split that each folder among `names` stands for; none without one for training
    and another: `val` or `test` alone say nothing, they may be the names of anything."""
    places: dict[str, Split] = {
        name: _SPLIT_FOLDERS[name.lower()] for name in names if name.lower() in _SPLIT_FOLDERS
    }
    return places if "train" in places.values() and len(set(places.values())) > 1 else {}


def is_picture_name(name: str) -> bool:
    """Tell by a file's name whether it is taken for a picture; a leading dot marks thumbnails and
    metadata of desktops."""
    return not name.startswith(".") and Path(name).suffix.lower() in PICTURE_SUFFIXES


class FileCollection(EncodedCollection):
    """Picture files below a root, decoded when asked for."""

    def __init__(
        self, place: str, root: Path, names: Sequence[str], given: Sequence[Split] | None = None
    ) -> None:
        """Take the root and the files' paths below it, with forward slashes."""
        super().__init__(place, names, given)
        self.root = root

    def path(self, index: int) -> Path:
        """Return where a picture lies."""
        return self.root / self.names[index]

    def content(self, index: int) -> bytes:
        """Read a file; raises UnreadablePicture."""
        return read_file(self.path(index), str(self.path(index)))

    def version(self, index: int) -> str:
        """Return the file's size and time of change; of one that cannot be reached why."""
        return file_version(self.path(index))

    def ends(self, index: int) -> tuple[bytes, bytes, int]:
        """Read the two ends of a file only; raises UnreadablePicture."""
        path = self.path(index)
        check_regular(path, str(path))
        try:
            with path.open("rb") as file:
                return ends_of(file, 0, file.seek(0, os.SEEK_END))
        except FileNotFoundError:
            raise UnreadablePicture(f"{path}: no such file") from None
        except OSError as error:
            raise UnreadablePicture(f"{path}: cannot be read: {error.strerror}") from error


def _folders(root: Path) -> Iterator[str]:
    return (entry.name for entry in root.iterdir() if entry.is_dir())


def _find_pictures(root: Path) -> list[Path]:
    """List the pictures below a folder, relative to it and sorted, so that every rank and every run
    sees one order."""
    if not root.exists():
        raise ConfigError(f"data.source.path: no folder {root} (seen from {Path.cwd()})")
    if not root.is_dir():
        raise ConfigError(f"data.source.path: {root} is a file, the folder around it is needed")
    return sorted(file.relative_to(root) for file in _walk(root))


def _walk(root: Path) -> Iterator[Path]:
    # Datasets are often assembled from links, so links are followed, but each folder once: a link
    # to a folder above would never end.
    seen = {root.resolve()}
    for folder, subfolders, files in os.walk(root, onerror=_refuse, followlinks=True):
        here = Path(folder)
        kept: list[str] = []
        for name in sorted(subfolders):
            target = (here / name).resolve()
            if not name.startswith(".") and target not in seen:
                seen.add(target)
                kept.append(name)
        subfolders[:] = kept
        yield from (here / name for name in files if is_picture_name(name))


def _refuse(error: OSError) -> None:
    raise ConfigError(
        f"data.source.path: cannot read the folder {error.filename}: {error.strerror}"
    )
