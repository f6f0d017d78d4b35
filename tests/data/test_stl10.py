"""Files in the layout of STL-10, with a few pictures each."""

import os
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import STL10

from colorization.config import ConfigError
from colorization.data.stl10 import Stl10Source
from written_pictures import all_names

COUNTS = {"train_X.bin": 10, "unlabeled_X.bin": 40}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, count in {**COUNTS, "test_X.bin": 3}.items():
        rng.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8).tofile(folder / name)
    return tmp_path


def test_pictures_are_those_that_torchvision_reads(root: Path) -> None:
    found = Stl10Source(root=str(root)).collect()
    # Its reader without its check of the official files' hashes.
    reader = STL10.__new__(STL10)
    reader.root = root
    for name, first in (("train_X.bin", 0), ("unlabeled_X.bin", 10)):
        pictures, _ = vars(STL10)["_STL10__loadfile"](reader, name)
        for number in (0, 3, len(pictures) - 1):
            expected = pictures[number].transpose(1, 2, 0)
            assert found.name(first + number) == f"{name}[{number}]"
            assert np.array_equal(found.picture(first + number), expected)


def test_training_and_unlabeled_pictures_are_split_and_the_official_test_is_left_out(
    root: Path,
) -> None:
    sets = Stl10Source(root=str(root), split="0.6/0.2/0.2").open(0.1)
    expected = {f"{name}[{i}]" for name, count in COUNTS.items() for i in range(count)}
    assert all_names(sets) == expected


@pytest.mark.parametrize("grown", [False, True])
def test_a_change_of_a_file_changes_the_versions_of_its_pictures_alone(
    grown: bool, root: Path
) -> None:
    found = Stl10Source(root=str(root)).collect()
    before = [found.version(i) for i in range(len(found))]
    path = root / "stl10_binary" / "unlabeled_X.bin"
    status = path.stat()
    if grown:
        path.write_bytes(path.read_bytes() + b"more")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + (not grown)))
    after = [found.version(i) for i in range(len(found))]
    changed = [old != new for old, new in zip(before, after, strict=True)]
    assert changed == [False] * 10 + [True] * 40


@pytest.mark.parametrize("size", [0, 27647, 50_000])
def test_a_part_of_a_picture_is_refused_with_its_size(root: Path, size: int) -> None:
    (root / "stl10_binary" / "unlabeled_X.bin").write_bytes(bytes(size))
    with pytest.raises(
        ConfigError, match=rf"unlabeled_X\.bin has {size} bytes; a multiple of 27648"
    ):
        Stl10Source(root=str(root)).collect()


def test_missing_files_are_named_with_the_way_to_get_them(root: Path) -> None:
    (root / "stl10_binary" / "unlabeled_X.bin").unlink()
    message = r"stl10_binary lacks unlabeled_X\.bin; .* data\.source\.download=true"
    with pytest.raises(ConfigError, match=message):
        Stl10Source(root=str(root)).collect()
