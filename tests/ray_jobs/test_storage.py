import errno
import fcntl
from pathlib import Path

import pytest

from colorization.config import ConfigError
from storage import ROOT, lock_folder, storage_folder, trial_folder


def test_without_a_wish_everything_lies_under_runs_of_the_project_wherever_one_stands(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert storage_folder(None) == ROOT / "runs"
    assert (ROOT / "ray_jobs" / "tune.py").exists()


def test_a_relative_folder_is_meant_from_where_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert storage_folder("here/runs") == tmp_path / "here" / "runs"


def test_a_tilde_is_the_home_folder_and_a_file_address_its_path():
    assert storage_folder("~/runs") == Path.home() / "runs"
    assert storage_folder("file:///nfs/runs") == Path("/nfs/runs")


@pytest.mark.parametrize("address", ["s3://bucket/runs", "gs://x", "hdfs://y/z"])
def test_an_address_that_is_no_folder_is_refused_with_what_is_needed(address):
    with pytest.raises(ConfigError, match=f"--storage: found {address}.*directory"):
        storage_folder(address)


def test_folders_of_trials_sort_by_their_number():
    names = [trial_folder(Path("study"), number).name for number in (7, 12, 1234)]
    assert names == ["trial-0007", "trial-0012", "trial-1234"]


def test_a_file_system_without_locks_is_told_from_a_process_that_holds_one(tmp_path, monkeypatch):
    with (
        lock_folder(tmp_path, ""),
        pytest.raises(ConfigError, match=r"another process works in .*; take another"),
    ):
        lock_folder(tmp_path, "take another")

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(ConfigError, match=r"no locks \(flock\): No locks .*another --storage"):
        lock_folder(tmp_path, "take another")


def test_a_clusters_machines_say_where_studies_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("COLORIZATION_STORAGE", str(tmp_path))
    assert storage_folder(None) == tmp_path
    assert storage_folder("here") == Path("here").absolute()
    monkeypatch.setenv("COLORIZATION_STORAGE", "s3://bucket")
    with pytest.raises(ConfigError, match=r"COLORIZATION_STORAGE: found s3://bucket.*directory"):
        storage_folder(None)
