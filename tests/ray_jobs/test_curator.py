"""What a worker of a preparation leaves when it fails, and when it dies."""

import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import curator
import instance_search
from colorization.data.curation.rules import CurationRules
from colorization.data.folder import FileCollection, FolderSource
from colorization.data.packing import read_part
from colorization.experiment import build_model
from colorization.inference import PictureColorizer
from colorization.instances import Detection
from curator import Chunk, Curator
from instance_search import Spotter
from tiny_pair import tiny_experiment

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


def die(source: FolderSource, parts: Path, session: str, does: Callable[..., None] = look) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=does, args=(source, parts, session)
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


class DeadlyColorizer(PictureColorizer):
    """Ends the process at a picture that is nearly white."""

    def color_seen(self, seen: Any, *others: Any, **more: Any) -> list[torch.Tensor]:
        if any(one.mean() > 0.9 for one in seen):
            os._exit(9)
        return super().color_seen(seen, *others, **more)


def test_a_picture_at_whose_colors_workers_die_is_dropped_and_the_others_are_kept(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.asarray(Image.open(photos / DEADLY)) // 16 + 240
    Image.fromarray(pixels).save(photos / DEADLY)
    box = {"label": "dog", "bbox": [4, 4, 40, 40]}
    found = tmp_path / "found.jsonl"
    lines = [json.dumps({"name": f"{n}.png", "instances": [box]}) for n in range(4)]
    found.write_text("\n".join(lines))
    model = build_model(tiny_experiment(seed=1))
    painter: Any = "files"
    monkeypatch.setattr(curator, "_load", lambda *_: DeadlyColorizer(model, 32))

    def color(source: FolderSource, parts: Path, session: str) -> None:
        torch.set_num_threads(1)
        rules = CurationRules(size=32, instances="colored", min_side=16)
        names = [f"{number}.png" for number in range(4)]
        own = Curator([source], rules, None, parts, session, found, painter)
        own(vars(Chunk("key", 0, 0, names)))

    source, parts = FolderSource(path=str(photos)), tmp_path / "parts"
    for _ in range(6):  # three times all together, three times that picture alone
        die(source, parts, "today", color)
    color(source, parts, "today")
    assert dropped(parts) == [None, None, "unreadable", None]
    assert "that colored the things in it died" in read_part(parts, "key")[2].candidate.reason
    assert not list(parts.glob("*.log"))


def test_a_picture_at_which_the_detector_dies_is_named_and_the_others_are_looked_at(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nothing:
        def __init__(self, device: str) -> None:
            pass

        def find(self, rgb: np.ndarray) -> list[Detection]:
            return []

    monkeypatch.setattr(instance_search, "MaskRCNNDetector", Nothing)
    said: list[str] = []

    def spot(source: FolderSource, parts: Path, session: str) -> None:
        names = [f"{number}.png" for number in range(4)]
        row = Spotter([source], parts, session, gpu=False)(vars(Chunk("key", 0, 0, names)))
        said.append(row["said"])

    source, parts = DeadlySource(path=str(photos)), tmp_path / "parts"
    for _ in range(3):
        die(source, parts, "today", spot)
    spot(source, parts, "today")
    lines = (parts / "key-instances.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["0.png", "1.png", "3.png"]
    assert said[0].startswith(f"{DEADLY}: workers died 3 times")
