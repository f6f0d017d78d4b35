import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from delivery import Delivery
from event_queue import Event, EventQueue
from full_disk import full_disk
from mlflow_sender import is_refusal
from mlflow_server import Server
from tracking import Tracker

# isort: split
from mlflow import MlflowClient, MlflowException
from mlflow.entities import Metric, Run
from mlflow.exceptions import RestException

NewStore = Callable[[Path], str]
EPOCHS = range(1, 31)


class Messages:
    """What the tracker said, and a way to wait until it says something."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self._heard = 0
        self._changed = threading.Condition()

    def __call__(self, message: str) -> None:
        with self._changed:
            self.said.append(message)
            self._changed.notify_all()

    def wait_for(self, text: str) -> None:
        """Wait for a message behind the one that was waited for before."""

        def is_said() -> bool:
            return any(text in message for message in self.said[self._heard :])

        with self._changed:
            assert self._changed.wait_for(is_said, 120), f"{text!r} not in {self.said}"
            while text not in self.said[self._heard]:
                self._heard += 1
            self._heard += 1


@contextmanager
def tracking(folder: Path, uri: str, messages: Messages) -> Iterator[Tracker]:
    with Tracker(folder / "study", uri, "colorization", "gan-1", messages) as tracker:
        tracker.parent({})
        yield tracker


def record(tracker: Tracker, number: int, *epochs: int) -> None:
    for epoch in epochs:
        tracker.epoch(number, epoch, {f"score-{i}": epoch + i / 100 for i in range(20)})


def runs(uri: str) -> dict[str, Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("colorization")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    by_name = {str(run.info.run_name): run for run in found}
    assert len(by_name) == len(found), "a run is there twice"
    return by_name


def steps_in_order(database: Path, run: Run, metric: str) -> list[int]:
    """Read a metric's steps in the order in which the database got them."""
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT step FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY rowid"
        return [step for (step,) in connection.execute(query, (run.info.run_id, metric))]


def assert_all_is_there(database: Path, trial: str = "trial-0000") -> None:
    run = runs(f"sqlite:///{database}")[trial]
    assert run.info.status == "FINISHED"
    for metric in ("score-0", "score-19"):
        assert steps_in_order(database, run, metric) == list(EPOCHS)


@pytest.fixture
def database(tmp_path, new_store: NewStore) -> Path:
    new_store(tmp_path / "store")
    return tmp_path / "store" / "mlflow.db"


def test_a_full_disk_of_the_database_loses_and_doubles_nothing(tmp_path, database):
    messages = Messages()
    with tracking(tmp_path, f"sqlite:///{database}", messages) as tracker:
        tracker.trial_started(0, "trial-0000", {})
        with full_disk(database.stat().st_size):
            record(tracker, 0, *EPOCHS)
            messages.wait_for("does not answer as it should")
        tracker.trial_ended(0, "FINISHED")
        messages.wait_for("answers again")
        assert tracker.close()
    assert_all_is_there(database)
    assert len(messages.said) == 2


def test_a_locked_database_is_waited_for(tmp_path, database, monkeypatch):
    messages = Messages()
    with tracking(tmp_path, f"sqlite:///{database}", messages) as tracker:
        tracker.trial_started(0, "trial-0000", {})
        with closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            record(tracker, 0, *EPOCHS)
            tracker.trial_ended(0, "FINISHED")
            other.execute("COMMIT")
        assert tracker.close()
    assert_all_is_there(database)


def test_a_full_store_of_files_holds_up_no_numbers_and_loses_no_file(tmp_path, database):
    messages = Messages()
    uri = f"sqlite:///{database}"
    pictures = [tmp_path / f"{epoch}.png" for epoch in EPOCHS]
    blocked = database.with_name("mlartifacts")
    blocked.write_text("a file where a folder must be")
    with tracking(tmp_path, uri, messages) as tracker:
        for epoch, picture in zip(EPOCHS, pictures, strict=True):
            picture.write_bytes(b"a picture")
            tracker.file(0, picture, "pictures")
            record(tracker, 0, epoch)
        tracker.trial_ended(0, "FINISHED")
        messages.wait_for("does not take a file")
        tracker.parent_ended("FINISHED")
        assert tracker.waiting_paths() == set(pictures)
        assert not tracker.close(timeout=3)
    assert_all_is_there(database)
    assert "30 events" in messages.said[-1]
    blocked.unlink()
    with tracking(tmp_path, uri, messages) as tracker:
        messages.wait_for("takes files again")
        assert tracker.waiting_paths() == set()
        assert tracker.close()
    found = blocked.rglob("*.png")
    assert {path.name for path in found} == {picture.name for picture in pictures}


def test_one_file_that_cannot_be_read_holds_up_no_other(tmp_path, database):
    messages = Messages()
    good = [tmp_path / f"{number}.png" for number in range(5)]
    for picture in good:
        picture.write_bytes(b"a picture")
    bad = tmp_path / "folder"
    bad.mkdir()
    (bad / "broken.png").symlink_to(tmp_path / "nothing")
    with tracking(tmp_path, f"sqlite:///{database}", messages) as tracker:
        for path in (bad, *good):
            tracker.file(0, path, "")
        messages.wait_for("does not take a file")
        while tracker.waiting_paths() != {bad}:
            assert len(messages.said) == 1
        assert not tracker.close(timeout=0.1)
    artifacts = database.with_name("mlartifacts").rglob("*.png")
    assert {path.name for path in artifacts} >= {picture.name for picture in good}
    assert str(bad) in messages.said[0]
    assert "1 events" in messages.said[-1]


def test_a_new_database_in_the_place_of_the_old_one_gets_everything(tmp_path, database, new_store):
    messages = Messages()
    uri = f"sqlite:///{database}"
    with tracking(tmp_path, uri, messages) as tracker:
        tracker.trial_started(0, "trial-0000", {})
        record(tracker, 0, *EPOCHS[:10])
    new_store(database.parent)
    with tracking(tmp_path, uri, messages) as tracker:
        record(tracker, 0, *EPOCHS[10:])
        tracker.trial_ended(0, "FINISHED")
        assert tracker.close()
    assert_all_is_there(database)
    assert "does not know the study" in messages.said[0]


def test_a_database_replaced_while_the_study_runs_gets_everything(tmp_path, database, new_store):
    messages = Messages()
    with tracking(tmp_path, f"sqlite:///{database}", messages) as tracker:
        tracker.trial_started(0, "trial-0000", {})
        record(tracker, 0, *EPOCHS[:10])
        tracker.inputs(0, [])
        while tracker.run_id(0) is None:
            assert not messages.said
        MlflowClient(f"sqlite:///{database}").create_experiment("another")
        with closing(sqlite3.connect(database)) as old:  # as one that was restored from a backup
            for table in ("metrics", "latest_metrics", "params", "tags", "runs"):
                old.execute(f"DELETE FROM {table}")
            old.execute("DELETE FROM experiments WHERE name = 'colorization'")
            old.commit()
        record(tracker, 0, *EPOCHS[10:])
        tracker.trial_ended(0, "FINISHED")
        assert tracker.close()
    assert_all_is_there(database)


def test_mlflow_at_another_address_gets_everything_once_and_so_does_the_first(
    tmp_path, database, new_store
):
    other = tmp_path / "other" / "mlflow.db"
    new_store(other.parent)
    places = (database, other, database)
    for place, epochs in zip(places, (EPOCHS[:10], EPOCHS[10:20], EPOCHS[20:]), strict=True):
        with tracking(tmp_path, f"sqlite:///{place}", Messages()) as tracker:
            tracker.trial_started(0, "trial-0000", {})
            record(tracker, 0, *epochs)
            tracker.trial_ended(0, "FINISHED")
            assert tracker.close()
    assert_all_is_there(database)
    run = runs(f"sqlite:///{other}")["trial-0000"]
    assert steps_in_order(other, run, "score-0") == list(EPOCHS[:20])


def test_runs_that_a_hung_server_created_twice_are_deleted_when_the_trial_ends(tmp_path, database):
    uri = f"sqlite:///{database}"
    with tracking(tmp_path, uri, Messages()) as tracker:
        tracker.trial_started(0, "trial-0000", {})
        record(tracker, 0, *EPOCHS)
        assert tracker.close()
    first = runs(uri)["trial-0000"]
    tags = {key: value for key, value in first.data.tags.items() if key.startswith("colorization")}
    MlflowClient(uri).create_run(first.info.experiment_id, run_name="trial-0000", tags=tags)
    with tracking(tmp_path, uri, Messages()) as tracker:
        tracker.trial_ended(0, "FINISHED")
        assert tracker.close()
    assert runs(uri)["trial-0000"].info.run_id == first.info.run_id
    assert_all_is_there(database)


def test_only_what_mlflow_will_never_take_is_a_refusal(tmp_path, database):
    uri = f"sqlite:///{database}"
    client = MlflowClient(uri)
    run = client.create_run(client.create_experiment("e"), tags={}).info.run_id

    def error_of(act: Callable[[], object]) -> Exception:
        with pytest.raises(MlflowException) as caught:
            act()
        return caught.value

    assert is_refusal(error_of(lambda: client.get_run("0" * 32)))
    client.delete_run(run)
    assert is_refusal(error_of(lambda: client.log_metric(run, "a", 1.0)))
    client.restore_run(run)
    metrics = [Metric(f"{i}", 1.0, 1, i) for i in range(1000)]
    with full_disk(database.stat().st_size):
        assert not is_refusal(error_of(lambda: client.log_batch(run, metrics=metrics)))
    broken = bytearray(database.read_bytes())
    broken[24:28] = b"\xff" * 4  # what tells SQLite that the file has changed
    broken[4096:] = b"\xff" * (len(broken) - 4096)
    database.write_bytes(broken)
    damaged = error_of(lambda: client.log_metric(run, "b", 1.0))
    assert "malformed" in str(damaged)
    assert not is_refusal(damaged)
    proxy = RestException({"error_code": "BAD_REQUEST", "message": "QueuePool limit of size 5"})
    assert not is_refusal(proxy)
    assert is_refusal(RestException({"error_code": "ENDPOINT_NOT_FOUND", "message": ""}))
    assert is_refusal(RestException({"error_code": "NOT_IMPLEMENTED", "message": ""}))
    assert not is_refusal(ConnectionError("refused"))


class _NoInputs:
    """A sender to an older server, which does not know inputs; or to a proxy without one."""

    parent_run_id = "a run"

    def __init__(self, *, is_there: bool) -> None:
        self._is_there = is_there

    def forgets(self) -> bool:
        if not self._is_there:
            self._fail()
        return False

    def send(self, event: Event) -> None:
        if not self._is_there or event["kind"] == "inputs":
            self._fail()

    def _fail(self) -> None:
        message = "API request to http://me:secret@host:5000/api failed with error code 404"
        raise RestException({"error_code": "ENDPOINT_NOT_FOUND", "message": message})


@pytest.mark.parametrize("is_there", [True, False])
def test_only_what_an_older_server_does_not_know_is_left_out_and_no_password_is_told(
    is_there: bool, tmp_path
):
    messages = Messages()
    queue = EventQueue(tmp_path, messages)
    for kind in ("metrics", "inputs", "metrics"):
        queue.append({"kind": kind, "number": 0})
    sender = cast(Any, _NoInputs(is_there=is_there))
    delivery = Delivery(queue, sender, "http://host:5000", messages)
    delivery.run_once(patience=0.2)
    counts = delivery.sent, delivery.refused, delivery.waiting
    assert counts == ((2, 1, 0) if is_there else (0, 0, 3))
    assert "http://me:***@host:5000/api" in messages.said[0]
    assert "secret" not in "".join(messages.said)


@pytest.fixture
def server(database) -> Iterator[Server]:
    server = Server(database)
    try:
        yield server
    finally:
        server.kill()


@pytest.mark.slow
def test_a_server_that_hangs_dies_and_has_a_full_disk_gets_everything_once_and_in_order(
    tmp_path, database, server, monkeypatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    messages = Messages()
    pictures = [tmp_path / f"{number}.png" for number in range(3)]
    for picture in pictures:
        picture.write_bytes(b"x" * 3000)
    with tracking(tmp_path, server.uri, messages) as tracker:
        tracker.trial_started(0, "trial-0000", {})
        record(tracker, 0, *EPOCHS[:10])
        server.signal(signal.SIGSTOP)  # accepts connections and never answers
        tracker.trial_started(1, "trial-0001", {})
        tracker.file(0, pictures[0], "pictures")
        record(tracker, 0, *EPOCHS[10:15])
        messages.wait_for("does not answer as it should")
        server.signal(signal.SIGCONT)
        messages.wait_for("answers again")
        server.kill()
        tracker.file(0, pictures[1], "pictures")
        record(tracker, 0, *EPOCHS[15:20])
        messages.wait_for("does not answer as it should")
        server.start()
        messages.wait_for("answers again")
        with full_disk(2000, *server.processes()):
            tracker.file(0, pictures[2], "pictures")
            record(tracker, 0, *EPOCHS[20:])
            messages.wait_for("does not answer as it should")
        for number in (0, 1):
            tracker.trial_ended(number, "FINISHED")
        messages.wait_for("answers again")
        assert tracker.close(timeout=90)
    assert not any("MLflow refuses" in message for message in messages.said)
    assert_all_is_there(database)
    found = runs(f"sqlite:///{database}")
    assert sorted(found) == ["gan-1", "trial-0000", "trial-0001"]
    sent = {path.name: path.read_bytes() for path in tmp_path.rglob("pictures/*.png")}
    assert sent == {picture.name: b"x" * 3000 for picture in pictures}
