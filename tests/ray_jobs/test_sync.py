import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from storage import lock_folder
from sync import main, sync
from tracking import Tracker

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Run

from colorization.config import ConfigError

NewStore = Callable[[Path], str]


@pytest.fixture
def storage(tmp_path, new_store: NewStore, monkeypatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    new_store(tmp_path / "storage")
    return tmp_path / "storage"


@pytest.fixture
def dead_server() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def record(storage: Path, name: str, uri: str | None = None, timeout: float = 0.1) -> list[str]:
    """Record a study, sent to an address or to none so far; return what it said."""
    said: list[str] = []
    where = uri or f"sqlite:///{storage}/mlflow.db"
    tracker = Tracker(storage / "studies" / name, where, "colorization", name, said.append)
    tracker.parent({})
    tracker.trial_started(0, "trial-0000", {})
    for epoch in (1, 2):
        tracker.epoch(0, epoch, {"ab_mae": 0.1 / epoch})
    tracker.trial_ended(0, "FINISHED")
    tracker.parent_ended("FINISHED")
    if uri:
        tracker.start().close(timeout)
    else:
        tracker.close()
    return said


def runs(uri: str) -> dict[str, Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("colorization")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    studies = {f"{r.data.tags['colorization.study']}/{r.info.run_name}": r for r in found}
    assert len(studies) == len(found), "a run is there twice"
    return studies


def uri_of(storage: Path) -> str:
    return f"sqlite:///{storage}/mlflow.db"


def points(uri: str, run: Run) -> list[tuple[int, float]]:
    history = MlflowClient(uri).get_metric_history(run.info.run_id, "ab_mae")
    return [(point.step, point.value) for point in history]


def test_all_studies_are_sent_once_and_a_second_time_nothing_is(storage, capsys):
    for name in ("a", "b"):
        record(storage, name)
    assert sync(None, str(storage), None) == 0
    out = capsys.readouterr().out
    assert [line.split(" sent")[0] for line in out.splitlines()] == ["a: 6 events", "b: 6 events"]
    assert sync(None, str(storage), None) == 0
    assert capsys.readouterr().out.startswith("a: 0 events sent")
    found = runs(uri_of(storage))
    assert sorted(found) == ["a/a", "a/trial-0000", "b/b", "b/trial-0000"]
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert points(uri_of(storage), found["a/trial-0000"]) == [(1, 0.1), (2, 0.05)]


def test_one_study_is_sent_by_its_name(storage):
    for name in ("a", "b"):
        record(storage, name)
    assert sync("b", str(storage), None) == 0
    assert sorted(runs(uri_of(storage))) == ["b/b", "b/trial-0000"]


def test_a_wrong_name_is_refused_with_those_that_there_are(storage):
    for name in ("a", "b"):
        record(storage, name)
    with pytest.raises(ConfigError, match=r"'c'.*a, b"):
        sync("c", str(storage), None)


def test_a_study_that_a_process_works_on_is_left_alone_and_others_are_sent(storage, capsys):
    for name in ("a", "b"):
        record(storage, name)
    with lock_folder(storage / "studies" / "a", ""):
        assert sync(None, str(storage), None) == 1
    assert "a: another process works in" in capsys.readouterr().out
    assert sorted(runs(uri_of(storage))) == ["b/b", "b/trial-0000"]


def test_a_dead_server_is_named_and_loses_nothing(storage, dead_server, capsys):
    record(storage, "a")
    assert sync("a", str(storage), dead_server, patience=0.5) == 1
    out = capsys.readouterr().out
    assert "6 wait still" in out
    assert f"MLflow at {dead_server} does not answer" in out
    assert "Connection refused" in out
    assert sync("a", str(storage), uri_of(storage)) == 0
    assert sorted(runs(uri_of(storage))) == ["a/a", "a/trial-0000"]


def test_another_address_must_be_given_and_then_gets_everything(
    storage, tmp_path, new_store, capsys
):
    other = new_store(tmp_path / "other")
    record(storage, "a", other, timeout=60)
    assert sync("a", str(storage), None) == 1
    assert "--tracking-uri" in capsys.readouterr().out
    assert sync("a", str(storage), uri_of(storage)) == 0
    found = runs(uri_of(storage))
    assert points(uri_of(storage), found["a/trial-0000"]) == [(1, 0.1), (2, 0.05)]


def test_what_mlflow_refused_is_said_each_time_and_sent_once_it_may_be(storage, capsys):
    record(storage, "a")
    assert sync("a", str(storage), None) == 0
    client = MlflowClient(uri_of(storage))
    trial = runs(uri_of(storage))["a/trial-0000"]
    client.delete_run(trial.info.run_id)
    tracker = Tracker(storage / "studies" / "a", uri_of(storage), "colorization", "a", print)
    with tracker:
        tracker.epoch(0, 3, {"ab_mae": 0.03})
        tracker.trial_ended(0, "FINISHED")
        tracker.parent_ended("FINISHED")
    for _ in range(2):
        capsys.readouterr()
        assert sync("a", str(storage), None) == 1
        out = capsys.readouterr().out
        assert "MLflow refuses the event 'metrics' of trial 0" in out
        assert "2 refused" in out
    client.restore_run(trial.info.run_id)
    assert sync("a", str(storage), None) == 0
    run = runs(uri_of(storage))["a/trial-0000"]
    assert points(uri_of(storage), run) == [(1, 0.1), (2, 0.05), (3, 0.03)]
    assert run.info.status == "FINISHED"


def test_a_file_that_is_gone_is_said_and_is_no_success(storage, tmp_path, capsys):
    tracker = Tracker(storage / "studies" / "a", uri_of(storage), "colorization", "a", print)
    tracker.file(0, tmp_path / "gone.png", "")
    tracker.close()
    assert sync("a", str(storage), None) == 1
    assert f"{tmp_path}/gone.png was gone" in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_that_a_studys_end_names_sends_what_waits(storage, dead_server):
    (said,) = [line for line in record(storage, "a", dead_server) if "sent by" in line]
    command = said.partition("sent by: ")[2]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri_of(storage)}
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "6 events sent" in done.stdout
    assert sorted(runs(uri_of(storage))) == ["a/a", "a/trial-0000"]


def test_a_wrong_name_on_the_command_line_is_one_message_and_status_2(storage, monkeypatch, capsys):
    record(storage, "a")
    monkeypatch.setattr(sys, "argv", ["sync.py", "b", "--storage", str(storage)])
    assert main() == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
