"""Pictures of one size that lie behind each other in files, plane after plane."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from colorization.data.collection import Collection, file_version
from colorization.data.splits import Split


class PlaneFile(NamedTuple):
    """A file and the pictures in it, which begin at a byte and have (3, side, side) bytes each."""

    path: Path
    start: int
    pictures: int


class PlanesCollection(Collection):
    """Pictures in files that stay on disk: red, green and blue plane of one after the other."""

    def __init__(
        self,
        place: str,
        files: Sequence[PlaneFile],
        side: int,
        by_columns: bool,
        given: Sequence[Split] | None = None,
    ) -> None:
        """Map the files into memory; `by_columns` says that a plane is stored column by column.

        `given` has one split for each file.
        """
        names = [f"{file.path.name}[{i}]" for file in files for i in range(file.pictures)]
        splits = given and [
            split for file, split in zip(files, given, strict=True) for _ in range(file.pictures)
        ]
        super().__init__(place, names, splits)
        self._made_of = (place, files, side, by_columns, given)
        self._by_columns = by_columns
        self._planes = [
            np.memmap(file.path, np.uint8, "r", file.start, (file.pictures, 3, side, side))
            for file in files
        ]
        self._first = np.cumsum([0, *(file.pictures for file in files)])

    def __reduce__(self) -> tuple[Callable[..., "PlanesCollection"], tuple[Any, ...]]:
        """Pickle the files' names: loader processes that are spawned would be sent every pixel."""
        return PlanesCollection, self._made_of

    def content(self, index: int) -> bytes:
        """Return the bytes of the three planes."""
        return self._stored(index).tobytes()

    def picture(self, index: int, short_side: int = 0) -> np.ndarray:
        """Return sRGB (side, side, 3) uint8."""
        del short_side
        order = (2, 1, 0) if self._by_columns else (1, 2, 0)
        return np.ascontiguousarray(self._stored(index).transpose(order))

    def version(self, index: int) -> str:
        """Return the version of the file that the picture lies in."""
        _, files, *_ = self._made_of
        return file_version(files[self._file(index)].path)

    def _stored(self, index: int) -> np.ndarray:
        file = self._file(index)
        return self._planes[file][index - self._first[file]]

    def _file(self, index: int) -> int:
        return int(np.searchsorted(self._first, index, side="right")) - 1
