"""Batches in the layout of CIFAR-10's Python version, with a few pictures each."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from colorization.config import ConfigError
from colorization.data.cifar10 import Cifar10Source
from colorization.data.planes import PlanesCollection
from written_pictures import names

COUNT = 12
FILES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def text(content: bytes) -> bytes:
    """Return the instruction with which Python 2 pickled a string."""
    return b"T" + len(content).to_bytes(4, "little") + content


def pickled(pixels: np.ndarray, protocol: int) -> bytes:
    """Pickle a batch (n, 3072) as Python 3 does, or, for protocol 0, roughly as Python 2 did."""
    if protocol:
        content = {b"data": pixels, b"labels": [3] * len(pixels), b"filenames": [b"a.png"]}
        return pickle.dumps(content, protocol)
    return b"\x80\x02}(" + text(b"data") + text(pixels.tobytes()) + text(b"labels") + b"]u."


@pytest.fixture
def rgb() -> np.ndarray:
    """Pictures (6 batches, COUNT, 32, 32, 3)."""
    shape = (len(FILES), COUNT, 32, 32, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(params=[0, 3, 4, 5])
def root(rgb: np.ndarray, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name, batch in zip(FILES, rgb, strict=True):
        rows = np.ascontiguousarray(batch.transpose(0, 3, 1, 2)).reshape(COUNT, -1)
        (folder / name).write_bytes(pickled(rows, request.param))
    return tmp_path


def collected(root: Path) -> PlanesCollection:
    return Cifar10Source(root=str(root)).collect()


def test_every_picture_is_that_of_the_batch(root: Path, rgb: np.ndarray) -> None:
    found = collected(root)
    assert found.name(0) == "data_batch_1[0]"
    assert found.name(len(found) - 1) == f"test_batch[{COUNT - 1}]"
    for index, expected in enumerate(rgb.reshape(-1, 32, 32, 3)):
        assert np.array_equal(found.picture(index), expected)


def test_the_official_test_is_the_test_and_validation_comes_out_of_training(root: Path) -> None:
    sets = Cifar10Source(root=str(root), split="0.6/0.3/0.1").open(0.1)
    assert names(sets.test) == [f"test_batch[{i}]" for i in range(COUNT)]
    assert len(sets.train) + len(sets.validation) == 5 * COUNT
    assert 8 <= len(sets.validation) <= 28
    assert not any(
        name.startswith("test") for name in [*names(sets.train), *names(sets.validation)]
    )


def test_pixels_are_not_sent_to_loader_processes(root: Path) -> None:
    found = collected(root)
    content = pickle.dumps(found)
    assert len(content) < 2000
    again = pickle.loads(content)
    assert list(again.names) == list(found.names)
    assert again.given == found.given
    assert np.array_equal(again.picture(30), found.picture(30))


class Trap:
    opened = False

    def __reduce__(self) -> tuple[object, ...]:
        return (setattr, (Trap, "opened", True))


def test_nothing_is_unpickled(root: Path) -> None:
    (root / "cifar-10-batches-py" / "data_batch_1").write_bytes(
        pickle.dumps({"trap": Trap(), "data": np.zeros((2, 3072), np.uint8)})
    )
    assert collected(root).picture(1).max() == 0
    assert not Trap.opened


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot read .*data_batch_2"),
        (b"\x80\x02}(" + text(bytes(3072))[:900], "cannot read .*data_batch_2"),
        (b"dear all", "cannot read .*data_batch_2|data_batch_2 holds"),
        (pickle.dumps(np.zeros(3073, np.uint8)), r"data_batch_2 holds strings of \[3073\] bytes"),
        (pickle.dumps([1, 2]), r"data_batch_2 holds strings of \[\] bytes; .* multiple of 3072"),
    ],
)
def test_a_file_that_is_no_batch_is_named(root: Path, content: bytes, message: str) -> None:
    (root / "cifar-10-batches-py" / "data_batch_2").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        collected(root)


def test_missing_files_are_named_with_the_way_to_get_them(root: Path) -> None:
    (root / "cifar-10-batches-py" / "test_batch").unlink()
    (root / "cifar-10-batches-py" / "data_batch_4").unlink()
    message = r"cifar-10-batches-py lacks data_batch_4, test_batch; .* data\.source\.download=true"
    with pytest.raises(ConfigError, match=message):
        collected(root)


def test_a_download_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"download: cannot download to .*file: "):
        Cifar10Source(root=str(tmp_path / "file"), download=True).collect()


def test_files_that_are_there_are_not_downloaded(root: Path) -> None:
    assert len(Cifar10Source(root=str(root), download=True).collect()) == 6 * COUNT
