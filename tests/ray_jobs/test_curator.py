"""What a worker of a preparation leaves when it fails, and when it dies."""

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorization.data.curation.rules import CurationRules
from colorization.data.folder import FileCollection, FolderSource
from colorization.data.packing import read_part
from curator import Chunk, Curator

DEADLY = "2.png"


class DeadlyCollection(FileCollection):
    """A folder in which reading one picture ends the process, as a decoder's fault would."""

    def content(self, index: int) -> bytes:
        if self.names[index] == DEADLY:
            os._exit(9)
        return super().content(index)


class DeadlySource(FolderSource):
    def collect(self) -> FileCollection:
        found = super().collect()
        return DeadlyCollection(found.place, found.root, list(found.names))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        pixels = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((48, 48)).save(folder / f"{number}.png")
    return folder


def look(source: FolderSource, parts: Path, session: str) -> None:
    names = [f"{number}.png" for number in range(4)]
    Curator([source], CurationRules(), None, parts, session)(vars(Chunk("key", 0, 0, names)))


def dropped(parts: Path) -> list[str | None]:
    return [one.candidate.dropped for one in read_part(parts, "key")]


def die(source: FolderSource, parts: Path, session: str) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=look, args=(source, parts, session)
    )
    process.start()
    process.join()
    assert process.exitcode == 9


def test_a_picture_at_which_workers_die_is_dropped_and_the_others_are_kept(
    photos: Path, tmp_path: Path
) -> None:
    source, parts = DeadlySource(path=str(photos)), tmp_path / "parts"
    for _ in range(3):
        die(source, parts, "today")
    look(source, parts, "today")
    assert dropped(parts) == [None, None, "unreadable", None]
    assert "died 3 times" in read_part(parts, "key")[2].candidate.reason
    assert not list(parts.glob("*.log"))


def test_deaths_in_other_runs_are_forgotten(photos: Path, tmp_path: Path) -> None:
    source, parts = DeadlySource(path=str(photos)), tmp_path / "parts"
    for session in ("monday", "tuesday", "wednesday"):
        die(source, parts, session)
    look(FolderSource(path=str(photos)), parts, "thursday")
    assert dropped(parts) == [None] * 4


def test_a_part_that_cannot_be_written_costs_no_picture(photos: Path, tmp_path: Path) -> None:
    source, parts = FolderSource(path=str(photos)), tmp_path / "parts"
    (parts / "key.bin").mkdir(parents=True)  # in the way
    for _ in range(3):
        with pytest.raises(OSError, match=r"key\.bin"):
            look(source, parts, "today")
    (parts / "key.bin").rmdir()
    look(source, parts, "today")
    assert dropped(parts) == [None] * 4
