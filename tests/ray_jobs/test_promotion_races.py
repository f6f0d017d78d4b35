"""Two promotions at once, as two processes on one store."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from champion import Champion
from mlflow_server import Server
from registered_models import NAME, Trained, champion_of, register_again, train

# isort: split
from mlflow import MlflowClient

SUPPORT = Path(__file__).resolve().parents[1] / "support"
CHAMPION, GOOD, BEST = 0.3, 0.2, 0.05  # errors of planted colors


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[Path], str]) -> Trained:
    return train(tmp_path_factory.mktemp("races"), new_store)


def start(uri: str, *arguments: str) -> subprocess.Popen[str]:
    root = str(SUPPORT.parents[1])
    return subprocess.Popen(
        [sys.executable, str(SUPPORT / "promoting.py"), uri, *arguments],
        env={**os.environ, "PYTHONPATH": root, "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def race(trained: Trained, uri: str) -> None:
    """Two challengers are both scored against the same champion before either moves the alias."""
    client = MlflowClient(uri)
    runs = [MlflowClient(trained.uri).create_run("1").info.run_id for _ in range(3)]
    old, good, best = (register_again(trained, run_id) for run_id in runs)
    client.set_registered_model_alias(NAME, "champion", old)
    errors = json.dumps(dict(zip(runs, (CHAMPION, GOOD, BEST), strict=True)))
    processes = {version: start(uri, version, errors, runs[0]) for version in (good, best)}
    for process in processes.values():
        assert process.stdout is not None
        assert process.stdout.readline() == "scored\n"
    for process in processes.values():
        assert process.stdin is not None
        process.stdin.write("go on\n")
        process.stdin.flush()
    answers = {v: p.communicate()[0].splitlines() for v, p in processes.items()}
    assert [process.returncode for process in processes.values()] == [0, 0]

    # Whoever came second was judged again, beside the first.
    decided = {version: json.loads(lines[-1]) for version, lines in answers.items()}
    assert champion_of(client) == best
    assert decided[best][0] is True
    if decided[good][0]:
        assert decided == {good: [True, old], best: [True, good]}
        moves = [(old, good), (good, best)]
    else:
        assert decided == {good: [False, best], best: [True, old]}
        moves = [(old, best)]
    again = f"{NAME} has another champion since version"
    assert sum(again in line for lines in answers.values() for line in lines) == 1
    history = [m for m in Champion(client, NAME).moves if m.policy == "if-better"]
    assert [(move.before, move.after) for move in history[-len(moves) :]] == moves
    assert {move.state for move in history} == {"done"}
    for version in (good, best):
        tags = client.get_model_version(NAME, version).tags
        told = "promoted" if decided[version][0] else "not promoted"
        assert tags["promotion.decision"] == told
        assert tags["promotion.champion.version"] == decided[version][1]
    assert [model.name for model in client.search_registered_models()] == [NAME]


def test_two_promotions_at_once_end_with_the_better_one_and_both_decisions_stand(trained):
    race(trained, trained.uri)


@pytest.mark.slow
def test_two_promotions_at_once_through_a_server_end_so_too(tmp_path, new_store):
    trained = train(tmp_path, new_store)
    server = Server(tmp_path / "store" / "mlflow.db")
    try:
        race(trained, server.uri)
    finally:
        server.kill()
