"""Who may change the champion: one at a time, also after a holder died or hung."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import registry_mutex as module
from mlflow_server import Server
from registry_mutex import MutexBusy, MutexLost, registry_mutex

# isort: split
from mlflow import MlflowClient

ROOT = Path(__file__).resolve().parents[2]
LOCK = "model.promoting"

HOLDER = """
import sys
sys.path.insert(0, "ray_jobs")
from registry_mutex import registry_mutex
from mlflow import MlflowClient
with registry_mutex(MlflowClient(sys.argv[1]), "model", print):
    print("held", flush=True)
    sys.stdin.readline()
"""

# Counts in a file without a lock of its own: two at once would lose a count.
COUNTER = """
import pathlib, sys
sys.path.insert(0, "ray_jobs")
from registry_mutex import registry_mutex
from mlflow import MlflowClient
client, file = MlflowClient(sys.argv[1]), pathlib.Path(sys.argv[2])
for _ in range(8):
    with registry_mutex(client, "model", print):
        assert not (claim := file.with_suffix(".claim")).exists(), "two hold it"
        claim.touch()
        file.write_text(str(int(file.read_text()) + 1))
        claim.unlink()
"""


@pytest.fixture
def uri(tmp_path: Path, new_store: Callable[[Path], str]) -> str:
    return new_store(tmp_path / "store")


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def locks(uri: str) -> list[str]:
    return [model.name for model in MlflowClient(uri).search_registered_models()]


def test_nothing_is_left_of_a_lock_that_was_freed(uri):
    client = MlflowClient(uri)
    for _ in range(2):
        with registry_mutex(client, "model", print) as held:
            held.require()
            assert locks(uri) == [LOCK]
            description = json.loads(client.get_registered_model(LOCK).description or "")
            assert description["pid"] == os.getpid()
        assert locks(uri) == []


def test_it_is_freed_when_what_it_guards_fails(uri):
    with pytest.raises(KeyError), registry_mutex(MlflowClient(uri), "model", print):
        raise KeyError
    assert locks(uri) == []


def test_another_waits_until_it_is_free_and_gives_up_in_the_end(uri):
    client, order = MlflowClient(uri), []

    def second() -> None:
        with registry_mutex(MlflowClient(uri), "model", print):
            order.append("second")

    with registry_mutex(client, "model", print):
        with pytest.raises(MutexBusy, match=rf"process {os.getpid()} on"):
            registry_mutex(client, "model", print, patience=0).__enter__()
        waiting = threading.Thread(target=second)
        waiting.start()
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


def test_the_lock_of_a_killed_process_is_broken_at_once_with_a_message(uri):
    holder = start(HOLDER, uri)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    said: list[str] = []
    with registry_mutex(MlflowClient(uri), "model", said.append):
        assert len(said) == 1
        assert f"of process {holder.pid} on" in said[0]
        assert "that process is gone" in said[0]


def test_a_lock_from_elsewhere_is_broken_once_it_was_seen_for_long_enough(uri, monkeypatch):
    client, said = MlflowClient(uri), []
    monkeypatch.setattr(module, "_machine", lambda: "another")
    hung = registry_mutex(client, "model", print, stale=0.2)
    first = hung.__enter__()
    monkeypatch.undo()
    with registry_mutex(client, "model", said.append, stale=0.2):
        assert "for over 0 s" in said[0]
        # Its holder comes back: it may do nothing, and does not free the lock of the next.
        with pytest.raises(MutexLost, match="nothing was done"):
            first.require()
        with pytest.raises(MutexLost, match="taken over by another"):
            hung.__exit__(None, None, None)
        assert LOCK in locks(uri)
    assert LOCK not in locks(uri)


def test_a_late_breaker_of_a_broken_lock_does_not_break_the_next(uri):
    """Two saw the same dead holder; the second one acts when a third has the lock already."""
    client = MlflowClient(uri)
    dead = {"token": "dead", "pid": 1, "host": "gone"}
    client.create_registered_model(LOCK, description=json.dumps(dead))
    assert module._rename(client, LOCK, "dead")
    with registry_mutex(client, "model", print):
        assert not module._rename(client, LOCK, "dead")
        assert LOCK in locks(uri)
    # Even one that had looked before, and whose request only comes now, hits a name that is taken.
    client.create_registered_model(LOCK, description="{}")
    with pytest.raises(module.MlflowException, match="already exists"):
        client.rename_registered_model(LOCK, f"{LOCK}.dead")


def test_what_is_left_of_a_broken_lock_is_deleted_after_a_while(uri, monkeypatch):
    client = MlflowClient(uri)
    client.create_registered_model(f"{LOCK}.dead")
    client.create_registered_model("model.promotingly")
    with registry_mutex(client, "model", print):
        assert sorted(locks(uri)) == [LOCK, f"{LOCK}.dead", "model.promotingly"]
    monkeypatch.setattr(module, "_KEPT", -1.0)
    with registry_mutex(client, "model", print):
        assert sorted(locks(uri)) == [LOCK, "model.promotingly"]


def count_together(uri: str, folder: Path, processes: int) -> int:
    file = folder / "count"
    file.write_text("0")
    counters = [start(COUNTER, uri, str(file)) for _ in range(processes)]
    assert [counter.wait() for counter in counters] == [0] * processes
    return int(file.read_text())


def test_processes_that_all_want_it_never_hold_it_together(uri, tmp_path):
    assert count_together(uri, tmp_path, 2) == 16
    assert locks(uri) == []


@pytest.mark.slow
def test_nor_do_they_through_a_server(tmp_path, new_store):
    new_store(tmp_path / "store")
    server = Server(tmp_path / "store" / "mlflow.db")
    try:
        assert count_together(server.uri, tmp_path, 3) == 24
        assert locks(server.uri) == []
    finally:
        server.kill()
