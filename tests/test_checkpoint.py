import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from colorization import checkpoint
from colorization.checkpoint import CheckpointError
from colorization.config import ConfigError
from colorization.experiment import Experiment
from full_disk import full_disk

Make = Callable[..., Experiment]


def state(epoch: int, best_epoch: int | None = None) -> dict[str, Any]:
    return {"epoch": epoch, "best_epoch": best_epoch, "weight": torch.full((2,), float(epoch))}


def kept(run: Path) -> list[str]:
    return sorted(path.name for path in (run / checkpoint.FOLDER).iterdir())


@pytest.mark.parametrize("keep", [2, 3])
def test_at_most_keep_stay_the_best_among_them(keep: int, tmp_path: Path) -> None:
    for epoch in range(1, 9):
        checkpoint.save(tmp_path, state(epoch, best_epoch=min(epoch, 3)), keep=keep)
        assert len(kept(tmp_path)) == min(epoch, keep)
        assert f"epoch-{min(epoch, 3):05d}" in kept(tmp_path)
        assert f"epoch-{epoch:05d}" in kept(tmp_path)


def test_without_a_best_the_newest_stay(tmp_path: Path) -> None:
    for epoch in range(1, 5):
        checkpoint.save(tmp_path, state(epoch), keep=2)
    assert kept(tmp_path) == ["epoch-00003", "epoch-00004"]


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, state(7, best_epoch=7), keep=2)
    assert checkpoint.latest(tmp_path) == path
    loaded = checkpoint.load(path)
    assert torch.equal(loaded.pop("weight"), torch.full((2,), 7.0))
    assert loaded == {"epoch": 7, "best_epoch": 7}


def test_a_checkpoint_half_written_is_ignored_and_cleared_away(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state(1), keep=2)
    half = tmp_path / checkpoint.FOLDER / ".epoch-00002-abcdef01"
    half.mkdir()
    (half / "state.pt").write_bytes(b"PK half")
    newest = checkpoint.latest(tmp_path)
    assert newest
    assert newest.name == "epoch-00001"
    checkpoint.save(tmp_path, state(2), keep=2)
    assert kept(tmp_path) == ["epoch-00001", "epoch-00002"]


def test_an_epoch_trained_again_replaces_its_checkpoint(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {**state(2), "attempt": 1}, keep=2)
    path = checkpoint.save(tmp_path, {**state(2), "attempt": 2}, keep=2)
    assert checkpoint.load(path)["attempt"] == 2
    assert kept(tmp_path) == ["epoch-00002"]


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", b"PK\x03\x04 torn"])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, state(1), keep=2)
    (path / "state.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"epoch-00001/state\.pt"):
        checkpoint.load(path)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    path = checkpoint.save(tmp_path, {**state(1), "trap": Trap()}, keep=2)
    with pytest.raises(CheckpointError, match=r"state\.pt"):
        checkpoint.load(path)
    assert not (tmp_path / "sprung").exists()


def test_the_best_is_the_one_the_summary_names_else_the_newest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no checkpoint"):
        checkpoint.best(tmp_path)
    for epoch in (1, 2):
        checkpoint.save(tmp_path, state(epoch, best_epoch=1), keep=2)
    assert checkpoint.best(tmp_path).name == "epoch-00002"
    (tmp_path / "best.json").write_text('{"epoch": 1}')
    assert checkpoint.best(tmp_path).name == "epoch-00001"


def test_a_directory_of_other_settings_is_refused_with_the_difference(
    tiny: Make, tmp_path: Path
) -> None:
    checkpoint.write_experiment(tmp_path, tiny())
    checkpoint.save(tmp_path, state(1), keep=2)
    with pytest.raises(ConfigError, match="other settings") as caught:
        checkpoint.write_experiment(tmp_path, tiny("model.lambda_l1=7"))
    assert "model.lambda_l1: 100.0 there, 7.0 here" in str(caught.value)
    assert "train." not in str(caught.value)
    assert checkpoint.read_run(tmp_path) == tiny()


def test_a_directory_without_a_checkpoint_takes_other_settings(tiny: Make, tmp_path: Path) -> None:
    checkpoint.write_experiment(tmp_path, tiny())  # and ended at a setting that cannot work
    checkpoint.write_experiment(tmp_path, tiny("model.lambda_l1=7"))
    assert checkpoint.read_run(tmp_path) == tiny("model.lambda_l1=7")


def test_a_run_may_go_on_with_other_settings_of_speed(tiny: Make, tmp_path: Path) -> None:
    checkpoint.write_experiment(tmp_path, tiny())
    checkpoint.save(tmp_path, state(1), keep=2)
    checkpoint.write_experiment(tmp_path, tiny("data.loader_workers=2"))
    assert checkpoint.read_run(tmp_path) == tiny()


def test_a_directory_that_holds_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no directory of a run"):
        checkpoint.read_run(tmp_path)


def test_a_full_disk_is_said_to_be_one_and_nothing_half_written_stays(tmp_path: Path):
    checkpoint.save(tmp_path, {"epoch": 1, "best_epoch": 1, "model": torch.zeros(3)}, keep=2)
    with full_disk(100_000), pytest.raises(OSError, match="File too large") as caught:
        checkpoint.save(
            tmp_path, {"epoch": 2, "best_epoch": 1, "model": torch.zeros(10**6)}, keep=2
        )
    assert caught.value.errno == errno.EFBIG
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["epoch-00001"]
