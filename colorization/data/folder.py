"""A tree of pictures on disk."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from PIL import Image
from pydantic import AfterValidator, Field, model_validator

from colorization.config import ConfigError
from colorization.data.picture_sets import PictureSets, Source, check_shares, some_names, split_of
from colorization.pictures import read_rgb

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_SPLIT_FOLDERS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
_READERS = 16  # threads that check headers: they wait for the disk, not for a processor
_PROBE = 32 * 1024  # bytes read at either end of a file for its hash


# Absolute, so that workers on the cluster, which start elsewhere, mean the same folder.
AbsolutePath = Annotated[str, AfterValidator(lambda path: str(Path(path).expanduser().absolute()))]


class FolderSource(Source):
    """Any tree of pictures; subfolders `train` and `val` (and `test`) are taken as the splits."""

    name: Literal["folder"] = "folder"
    path: AbsolutePath = Field(
        min_length=1, description="the folder; it is searched with all below it"
    )
    validation: float = Field(
        default=0.1, gt=0, lt=1, description="share for validation where no subfolder says it"
    )
    test: float = Field(
        default=0.1, gt=0, lt=1, description="share for the test where no subfolder says it"
    )

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> Self:
        check_shares(self.validation, self.test)
        return self

    def open(self, max_unreadable: float) -> PictureSets:
        """Find the pictures, check their headers, and split them.

        With subfolders `train` and `val` (or `validation`) or `test` these are the splits; a
        missing one is taken out of `train`. Else a hash of each file's content decides: a
        picture stays in its split when others are added, and copies of one land in one split.
        Raises ConfigError where the folder is missing, is a file, holds no pictures, where more
        than the share `max_unreadable` cannot be read, or where a split comes out empty.
        """
        root = Path(self.path).expanduser()
        found = _find_pictures(root)
        if not found:
            raise ConfigError(
                f"data.source.path: no pictures in {root} or below; "
                f"files ending in {', '.join(sorted(_SUFFIXES))} are looked for"
            )
        places = _split_folders(root)
        outside: list[Path] = []
        # `val` or `test` alone say nothing: they may be the names of anything.
        by_folder = "train" in places.values() and len(set(places.values())) > 1
        if by_folder:
            outside = [file for file in found if file.parts[0] not in places]
            found = [file for file in found if file.parts[0] in places]
        with ThreadPoolExecutor(_READERS) as pool:
            shares = list(pool.map(_probe, [root / file for file in found]))
        unreadable = [str(f) for f, share in zip(found, shares, strict=True) if share is None]
        if len(unreadable) > max_unreadable * len(found):
            raise ConfigError(
                f"data.max_unreadable: {len(unreadable)} of {len(found)} pictures in {root} cannot "
                f"be read, {max_unreadable:g} of them may be: {some_names(unreadable)}"
            )
        splits: dict[str, list[Path]] = {"train": [], "validation": [], "test": []}
        for file, share in zip(found, shares, strict=True):
            if share is not None:
                folder = places.get(file.parts[0]) if by_folder else None
                splits[self._split(folder, share, set(places.values()))].append(file)
        for split, files in splits.items():
            if not files:
                raise ConfigError(self._advice(root, split, splits, places if by_folder else {}))
        how = "split by subfolder" if by_folder else "split by a hash of each file's content"
        if outside:
            how += f"; {len(outside)} outside of these subfolders left out"
        counts = ", ".join(f"{len(files)} {split}" for split, files in splits.items())
        return PictureSets(
            train=FileSet(root, splits["train"]),
            validation=FileSet(root, splits["validation"]),
            test=FileSet(root, splits["test"]),
            description=f"pictures in {root} ({counts}), {how}",
            measures_generalization=True,
            unreadable=unreadable,
        )

    def _split(self, folder: str | None, share: float, given: set[str]) -> str:
        """Choose a picture's split from its subfolder's split, if any, and its hash in [0, 1)."""
        if folder is None:
            return split_of(share, self.validation, self.test)
        if folder == "train" and "test" not in given and share >= 1 - self.test:
            return "test"
        if folder == "train" and "validation" not in given and share < self.validation:
            return "validation"
        return folder

    def _advice(
        self, root: Path, split: str, splits: dict[str, list[Path]], places: dict[str, str]
    ) -> str:
        total = sum(map(len, splits.values()))
        problem = f"data.source.path: of {total} pictures in {root} none came into {split}; "
        if empty := [folder for folder, place in places.items() if place == split]:
            return f"{problem}put pictures into its subfolder {empty[0]}"
        if split == "train":
            return f"{problem}add pictures, or lower data.source.validation and data.source.test"
        return (
            f"{problem}raise data.source.{split} (now {getattr(self, split):g}), add pictures, or "
            f"sort them into subfolders train, validation and test"
        )


@dataclass(frozen=True)
class FileSet:
    """Picture files below a root, decoded when asked for."""

    root: Path
    files: list[Path]

    def __len__(self) -> int:
        return len(self.files)

    def picture(self, index: int) -> np.ndarray:
        """Decode a picture to sRGB (H, W, 3) uint8; raises UnreadablePicture."""
        return read_rgb(self.root / self.files[index])

    def name(self, index: int) -> str:
        """Return the path below the root, with forward slashes."""
        return self.files[index].as_posix()


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
        for name in files:  # a leading dot: thumbnails and metadata of desktops, not pictures
            if not name.startswith(".") and Path(name).suffix.lower() in _SUFFIXES:
                yield here / name


def _refuse(error: OSError) -> None:
    raise ConfigError(
        f"data.source.path: cannot read the folder {error.filename}: {error.strerror}"
    )


def _split_folders(root: Path) -> dict[str, str]:
    """Return the subfolders named like a split and the split each stands for."""
    return {
        entry.name: _SPLIT_FOLDERS[entry.name.lower()]
        for entry in sorted(root.iterdir())
        if entry.is_dir() and entry.name.lower() in _SPLIT_FOLDERS
    }


def _probe(path: Path) -> float | None:
    """Hash a picture's content to a number in [0, 1), or return None where its header is none of a
    picture's.

    The hash is of the length and of both ends: whole files would take minutes for a large set.
    """
    try:
        with path.open("rb") as file, Image.open(file):
            length = file.seek(0, os.SEEK_END)
            file.seek(0)
            content = file.read(_PROBE)
            file.seek(max(0, length - _PROBE))
            content += file.read(_PROBE)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    digest = blake2b(length.to_bytes(8, "big") + content, digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48
