import json
import math
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_store import prepare
from tracking import RunStatus, Tracker, default_tracking_uri

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Run

from colorization.config import ConfigError

NewStore = Callable[[Path], str]


@pytest.fixture
def store(tmp_path, new_store: NewStore) -> str:
    return new_store(tmp_path / "store")


@pytest.fixture
def dead_server() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def open_tracker(tmp_path: Path, uri: str, messages: list[str] | None = None) -> Tracker:
    report = (messages if messages is not None else []).append
    return Tracker(tmp_path / "study", uri, "colorization", "gan-1", report)


def runs(uri: str) -> dict[str, Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("colorization")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    by_name = {str(run.info.run_name): run for run in found}
    assert len(by_name) == len(found), "a run is there twice"
    return by_name


def steps(uri: str, run: Run, metric: str) -> list[tuple[int, float]]:
    history = MlflowClient(uri).get_metric_history(run.info.run_id, metric)
    return sorted((m.step, m.value) for m in history)


def record_two_trials(tracker: Tracker, tmp_path: Path) -> None:
    grid = tmp_path / "grid.png"
    grid.write_bytes(b"a grid")
    tracker.parent({"trials": 2}, {"seed": "0"})
    for number in (0, 1):
        tracker.trial_started(number, f"trial-{number:04d}", {"model.lambda_l1": 80.0}, {})
        for epoch in (1, 2):
            tracker.epoch(number, epoch, {"ab_mae": 0.1 / epoch})
        tracker.file(number, grid, "grids")
    tracker.file(None, grid, "")
    tracker.trial_ended(0, "FINISHED")
    tracker.trial_ended(1, "KILLED", {"end": "stopped early after 2 epochs"})
    tracker.parent_metrics({"best": 0.05})
    tracker.parent_ended("FINISHED")


def test_a_study_becomes_a_parent_run_with_a_nested_run_per_trial(tmp_path, store):
    tracker = open_tracker(tmp_path, store)
    with tracker:
        record_two_trials(tracker, tmp_path)
        assert tracker.close()
    found = runs(store)
    parent, first, second = found["gan-1"], found["trial-0000"], found["trial-0001"]
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics == {"best": 0.05}
    assert parent.data.params == {"trials": "2"}
    assert first.info.status == "FINISHED"
    assert second.info.status == "KILLED"
    assert second.data.tags["end"] == "stopped early after 2 epochs"
    for number, run in enumerate((first, second)):
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params == {"model.lambda_l1": "80.0"}
        assert steps(store, run, "ab_mae") == [(1, 0.1), (2, 0.05)]
        assert tracker.run_id(number) == run.info.run_id
    assert tracker.parent_run_id == parent.info.run_id


def test_artifacts_lie_beside_the_database_and_not_in_the_working_directory(
    tmp_path, store, monkeypatch
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with open_tracker(tmp_path, store) as tracker:
        record_two_trials(tracker, tmp_path)
    (file, _) = (tmp_path / "store" / "mlartifacts").rglob("grids/grid.png")
    assert file.read_bytes() == b"a grid"
    assert not list(elsewhere.iterdir())


def test_runs_name_the_commit_and_the_program_they_come_from(tmp_path, store):
    with open_tracker(tmp_path, store) as tracker:
        tracker.parent({})
    tags = runs(store)["gan-1"].data.tags
    head = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True).stdout.strip()
    assert tags.get("mlflow.source.git.commit", "") == commit
    assert tags["mlflow.source.name"] == Path(sys.argv[0]).name


def test_a_dead_server_leaves_the_events_on_disk_and_the_next_start_sends_them(
    tmp_path, store, dead_server
):
    messages: list[str] = []
    tracker = open_tracker(tmp_path, dead_server, messages).start()
    record_two_trials(tracker, tmp_path)
    queued = (tmp_path / "study" / "mlflow-queue.jsonl").read_text().splitlines()
    assert len(queued) == 14
    assert tracker.run_id(0) is None
    assert not tracker.close(timeout=0.1)
    assert "14 events" in messages[-1]
    assert str(tmp_path / "study" / "mlflow-queue.jsonl") in messages[-1]
    assert f"ray_jobs/sync.py study --storage {tmp_path.parent}" in messages[-1]
    assert open_tracker(tmp_path, store).start().close()
    assert steps(store, runs(store)["trial-0001"], "ab_mae") == [(1, 0.1), (2, 0.05)]


def test_events_of_a_killed_process_are_sent_at_the_next_start(tmp_path, store):
    # Never started and never closed: what a process killed before sending anything leaves.
    record_two_trials(open_tracker(tmp_path, store), tmp_path)
    queue = tmp_path / "study" / "mlflow-queue.jsonl"
    with queue.open("a") as file:
        file.write('{"kind": "metrics", "num')  # killed while it wrote
    tracker = open_tracker(tmp_path, store).start()
    tracker.epoch(0, 3, {"ab_mae": 0.01})
    assert tracker.close()
    assert steps(store, runs(store)["trial-0000"], "ab_mae") == [(1, 0.1), (2, 0.05), (3, 0.01)]
    assert all(json.loads(line) for line in queue.read_text().splitlines())


def test_sending_all_events_a_second_time_doubles_nothing(tmp_path, store):
    with open_tracker(tmp_path, store) as tracker:
        record_two_trials(tracker, tmp_path)
    sent = tmp_path / "study" / "mlflow-sent.json"
    state = json.loads(sent.read_text())
    assert state["offset"] == (tmp_path / "study" / "mlflow-queue.jsonl").stat().st_size
    # Killed after everything was sent and before anything but the study's identity was noted.
    identity = {"study_id": state["memory"]["study_id"]}
    sent.write_text(json.dumps({"offset": 0, "memory": identity}))
    assert open_tracker(tmp_path, store).start().close()
    assert len(runs(store)) == 3
    assert steps(store, runs(store)["trial-0000"], "ab_mae") == [(1, 0.1), (2, 0.05)]


def test_an_epoch_told_again_after_a_kill_is_recorded_once(tmp_path, store):
    killed = open_tracker(tmp_path, store)  # before the study's storage had the epoch
    killed.trial_started(0, "trial-0000", {})
    killed.epoch(0, 0, {"gray/ab_mae": 0.3})
    killed.epoch(0, 1, {"ab_mae": 0.2})
    with open_tracker(tmp_path, store) as tracker:
        tracker.trial_started(0, "trial-0000", {})
        tracker.epoch(0, 0, {"gray/ab_mae": 0.3})
        tracker.epoch(0, 1, {"ab_mae": 0.2})
        tracker.epoch(0, 1, {"seconds": 4.0})  # other numbers of the same epoch
        tracker.epoch(0, 2, {"ab_mae": 0.1})
    run = runs(store)["trial-0000"]
    assert steps(store, run, "ab_mae") == [(1, 0.2), (2, 0.1)]
    assert steps(store, run, "gray/ab_mae") == [(0, 0.3)]
    assert steps(store, run, "seconds") == [(1, 4.0)]


def test_the_studys_numbers_and_files_are_recorded_again_where_they_changed(tmp_path, store):
    file = tmp_path / "best.yaml"
    for number, count in ((0.2, 1), (0.2, 1), (0.1, 2)):
        file.write_text(f"best: {number}")
        with open_tracker(tmp_path, store) as tracker:
            tracker.parent_metrics({"best": number})
            tracker.file(None, file, "")
        run = runs(store)["gan-1"]
        assert run.data.metrics == {"best": number}
        assert len(steps(store, run, "best")) == count
        (kept,) = (tmp_path / "store" / "mlartifacts").rglob("best.yaml")
        assert kept.read_text() == f"best: {number}"


def test_trials_that_ended_while_their_process_was_killed_are_closed(tmp_path, store):
    killed = open_tracker(tmp_path, store)
    for number in range(5):
        killed.trial_started(number, f"trial-{number:04d}", {})
    killed.trial_ended(0, "FINISHED", {"state": "COMPLETE"})
    killed.trial_ended(2, "KILLED", {"state": "interrupted"})  # stopped early, if it had lived
    killed.trial_ended(3, "FAILED", {"state": "FAIL"})
    killed.trial_started(3, "trial-0003", {})
    ended: dict[int, tuple[RunStatus, dict[str, str]]] = {
        0: ("FINISHED", {"state": "COMPLETE"}),
        1: ("FAILED", {"state": "FAIL", "cause": "diverged"}),
        2: ("KILLED", {"state": "PRUNED"}),
        3: ("FAILED", {"state": "FAIL"}),
    }
    queue = tmp_path / "study" / "mlflow-queue.jsonl"
    for _ in range(2):
        with open_tracker(tmp_path, store) as tracker:
            tracker.reconcile(ended)
        found = runs(store)
        for number, (status, tags) in ended.items():
            run = found[f"trial-{number:04d}"]
            assert run.info.status == status
            assert tags.items() <= run.data.tags.items()
        assert found["trial-0004"].info.status == "RUNNING"
        assert len(queue.read_text().splitlines()) == 12  # 9 before, and the three ends not known


def test_files_wait_until_they_are_sent(tmp_path, store, dead_server):
    model, grid = tmp_path / "model", tmp_path / "grid.png"
    model.mkdir()
    (model / "weights.pt").write_bytes(b"weights")
    grid.write_bytes(b"a grid")
    tracker = open_tracker(tmp_path, dead_server).start()
    tracker.trial_started(0, "trial-0000", {})
    tracker.file(0, model, "")
    tracker.file(0, grid, "grids")
    tracker.file(0, model, "")
    assert tracker.waiting_paths() == {model, grid}
    assert not tracker.close(timeout=0.1)
    tracker = open_tracker(tmp_path, store)
    assert tracker.waiting_paths() == {model, grid}
    with tracker:
        assert tracker.close()
    assert open_tracker(tmp_path, store).waiting_paths() == set()
    sent = [*(tmp_path / "store" / "mlartifacts").rglob("*.p*")]
    assert sorted(path.name for path in sent) == ["grid.png", "weights.pt"]


PICTURES = {
    "name": "photos-train",
    "digest": "0123456789ab",
    "source_type": "folder",
    "source": '{"name": "folder", "path": "/photos"}',
    "profile": '{"pictures": 80}',
    "context": "training",
}


def test_runs_name_the_pictures_they_read_each_set_once(tmp_path, store):
    held_out = {**PICTURES, "name": "photos-validation", "context": "validation"}
    for _ in range(2):  # the second time as an event that is sent twice, or a study that goes on
        with open_tracker(tmp_path, store) as tracker:
            tracker.parent({})
            tracker.inputs(None, [PICTURES, held_out])
            tracker.trial_started(0, "trial-0000", {})
            tracker.inputs(0, [PICTURES])
            assert tracker.close()
    found = runs(store)
    of_study = sorted(inputs(found["gan-1"]), key=lambda one: one["name"])
    assert of_study == [PICTURES, held_out]
    assert inputs(found["trial-0000"]) == [PICTURES]


def inputs(run: Run) -> list[dict[str, str]]:
    logged = []
    for one in run.inputs.dataset_inputs if run.inputs else ():
        (tag,) = one.tags
        assert tag.key == "mlflow.data.context"
        fields = {key: value for key, value in one.dataset if value is not None}
        logged.append({**fields, "context": tag.value})
    return logged


def test_a_continued_study_goes_on_in_the_same_runs(tmp_path, store):
    with open_tracker(tmp_path, store) as tracker:
        tracker.parent({})
        tracker.trial_started(0, "trial-0000", {"a": 1})
        tracker.epoch(0, 1, {"ab_mae": 0.2})
        tracker.trial_ended(0, "KILLED")
        tracker.parent_ended("KILLED")
    with open_tracker(tmp_path, store) as tracker:
        tracker.parent({})
        tracker.trial_started(0, "trial-0000", {"a": 1})
        tracker.epoch(0, 2, {"ab_mae": 0.1})
    found = runs(store)
    assert sorted(found) == ["gan-1", "trial-0000"]
    assert {run.info.status for run in found.values()} == {"RUNNING"}
    assert steps(store, found["trial-0000"], "ab_mae") == [(1, 0.2), (2, 0.1)]


def test_two_studies_of_one_name_in_two_folders_do_not_mix(tmp_path, store):
    for folder in ("one", "two"):
        with open_tracker(tmp_path / folder, store) as tracker:
            tracker.parent({})
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("colorization")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 2


def test_parameters_are_written_as_in_yaml_and_cut_to_what_mlflow_takes(tmp_path, store):
    params = {f"many.p{i}": i for i in range(150)}
    special = {"none": None, "yes": True, "betas": [0.5, 0.9], "text": "gan", "long": "x" * 7000}
    with open_tracker(tmp_path, store) as tracker:
        tracker.trial_started(0, "trial-0000", params | special)
        assert tracker.close()
    logged = runs(store)["trial-0000"].data.params
    assert len(logged) == 155
    assert (logged["none"], logged["yes"]) == ("null", "true")
    assert (logged["betas"], logged["text"]) == ("[0.5, 0.9]", "gan")
    assert len(logged["long"]) == 6000


def test_numbers_that_are_none_and_names_that_mlflow_refuses_are_logged(tmp_path, store):
    messages: list[str] = []
    numbers = {"nan": math.nan, "high": math.inf, "low": -math.inf, "a(b)": 1.0, "ok": 2.0}
    with open_tracker(tmp_path, store, messages) as tracker:
        tracker.epoch(0, 1, numbers)
    logged = runs(store)["trial-0000"].data.metrics
    assert math.isnan(logged["nan"])
    assert logged["high"] > 1e300
    assert logged["low"] < -1e300
    assert (logged["a_b_"], logged["ok"]) == (1.0, 2.0)
    assert not messages


def test_a_file_that_vanished_is_reported_and_holds_up_nothing(tmp_path, store):
    messages: list[str] = []
    gone = tmp_path / "gone.png"
    with open_tracker(tmp_path, store, messages) as tracker:
        tracker.file(0, gone, "grids")
        tracker.epoch(0, 1, {"ab_mae": 0.1})
        assert tracker.close()
    assert [str(gone) in message for message in messages] == [True]
    assert runs(store)["trial-0000"].data.metrics == {"ab_mae": 0.1}


def test_a_parameter_with_another_value_is_reported_and_the_others_are_logged(tmp_path, store):
    messages: list[str] = []
    with open_tracker(tmp_path, store, messages) as tracker:
        tracker.parent({"trials": 8})
        tracker.parent({"trials": 16, "seed": 1})
        assert tracker.close()
    assert runs(store)["gan-1"].data.params == {"trials": "8", "seed": "1"}
    assert len(messages) == 1
    assert "trials" in messages[0]


def test_a_run_deleted_in_mlflow_does_not_hold_up_the_others(tmp_path, store):
    with open_tracker(tmp_path, store) as tracker:
        tracker.trial_started(0, "trial-0000", {})
        tracker.trial_started(1, "trial-0001", {})
    MlflowClient(store).delete_run(str(tracker.run_id(0)))
    messages: list[str] = []
    with open_tracker(tmp_path, store, messages) as tracker:
        for epoch in (1, 2, 3):
            tracker.epoch(0, epoch, {"ab_mae": 0.1})
        tracker.epoch(1, 1, {"ab_mae": 0.1})
        assert tracker.close()
    assert runs(store)["trial-0001"].data.metrics == {"ab_mae": 0.1}
    refused, left = messages
    assert "trial 0" in refused
    assert "3 of them refused" in left


def test_the_environment_variable_wins_over_the_database_in_the_storage(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert default_tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert default_tracking_uri(tmp_path) == "http://mlflow:5000"


def test_a_place_where_mlflow_keeps_no_runs_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="sqlite:"):
        open_tracker(tmp_path, "./mlruns").start()


def test_a_damaged_database_is_refused_by_name(tmp_path):
    (tmp_path / "mlflow.db").write_text("no database" * 1000)
    with pytest.raises(ConfigError, match=r"mlflow\.db"):
        prepare(f"sqlite:///{tmp_path}/mlflow.db")
