"""A study in which everything that may fail does: each trial ends in its true state."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from optuna.trial import TrialState

from designs import grid_point
from full_disk import full_disk
from mlflow_server import Server
from space import Space
from study_commands import Place, new_place

# isort: split
from mlflow import MlflowClient

pytestmark = pytest.mark.slow

# Two networks, the second with a layer that no memory holds, by three learning rates, of which the
# last lets the loss become infinite.
SPACE = """
search: {trials: 6, scheduler: {name: none}, sampler: {name: grid}}
experiment:
  data: {source: {name: sample, crops: 4, scoring_crops: 2}, size: 512}
  model:
    name: cvae
    network: !choice
      - {name: unet, width: 4}
      - {name: naive, width: 128}
  train:
    batch_size: 2
    learning_rate: !choice [0.001, 0.002, 1.0]
    weight_decay: 1.0
    grid_pictures: 1
    stages: {vae: {turns: vae, epochs: 6}}
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with new_place(tmp_path) as made:
        (made.folder / "space.yaml").write_text(SPACE)
        yield made


@pytest.fixture
def server(tmp_path: Path, new_store) -> Iterator[Server]:
    new_store(tmp_path / "mlflow")
    server = Server(tmp_path / "mlflow" / "mlflow.db")
    try:
        yield server
    finally:
        server.kill()


def what_is_planted(file: Path) -> dict[int, str]:
    """Name by their numbers what is to happen to the trials."""
    space = Space.read(file)
    fates = {0.001: "killed", 0.002: "raises", 1.0: "diverges"}
    planted = {}
    for number in range(6):
        drawn = grid_point(space, 3, 0, number)
        alright = drawn["model.network"] == "unet"
        planted[number] = fates[drawn["train.learning_rate"]] if alright else "out of memory"
    return planted


def kill_trial(place: Place) -> None:
    (actor,) = [pid for pid, title in place.processes().items() if "ImplicitFunc" in title]
    os.kill(actor, signal.SIGKILL)


def follow(
    process: subprocess.Popen[str],
    place: Place,
    server: Server,
    killed: int,
    fill_disk: Callable[[], object],
) -> str:
    """Stop MLflow while three trials start, then fill its disk; kill one trial's process once."""
    assert process.stdout is not None
    output, started = "", 0
    for line in process.stdout:
        output += line
        if re.search(r"trial \d started", line):
            started += 1
            if started == 1:
                server.signal(signal.SIGSTOP)
            if started == 4:
                fill_disk()
                server.signal(signal.SIGCONT)
        if f"trial {killed} epoch 3 " in line and "after a crash" not in output:
            kill_trial(place)
        if "Ranking" in line or "registering failed" in line:
            break
    rest, _ = process.communicate(timeout=300)
    return output + rest


def test_every_trial_ends_in_its_true_state_and_every_record_is_in_mlflow(place, server):
    planted = what_is_planted(place.folder / "space.yaml")
    numbers = {fate: number for number, fate in planted.items()}
    in_the_way = place.storage / "studies" / "s" / f"trial-{numbers['raises']:04d}" / "checkpoints"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("a file where a folder is to be")
    flags = ["--name", "s", "--storage", str(place.storage)]
    begin = ["--model", "cvae", "--space", str(place.folder / "space.yaml"), "--concurrent", "1"]
    env = {"MLFLOW_TRACKING_URI": server.uri}
    database = place.folder / "mlflow" / "mlflow.db"

    process = place.start("tune.py", *begin, *flags, env=env)
    with ExitStack() as disk:

        def fill_disk() -> None:
            disk.enter_context(full_disk(database.stat().st_size, *server.processes()))

        output = follow(process, place, server, numbers["killed"], fill_disk)
    assert process.returncode == 1, output  # nothing could be registered
    assert "Traceback" not in output
    assert "events wait on disk" in output
    assert "sync.py" in output
    assert re.search(r"preflight memory: warning: the largest trial", output)

    sync = place.run("sync.py", "s", "--storage", str(place.storage), env=env)
    assert sync.code == 0, sync.output

    causes = {"raises": "error", "diverges": "diverged", "out of memory": "out of memory"}
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("colorization")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    runs = {run.data.tags["colorization.trial"]: run for run in found}
    assert len(found) == 7
    trials = place.trials("s")
    for trial in trials:
        fate, run = planted[trial.number], runs[str(trial.number)]
        if fate == "killed":
            assert trial.state == TrialState.COMPLETE
            assert run.info.status == "FINISHED"
        else:
            assert trial.state == TrialState.FAIL, (fate, trial.user_attrs)
            assert trial.user_attrs["cause"] == causes[fate], trial.user_attrs["reason"]
            assert run.info.status == "FAILED"
            assert run.data.tags["cause"] == causes[fate]
            assert run.data.tags["reason"] == trial.user_attrs["reason"]
        epochs = trial.user_attrs.get("epochs", 0)
        history = client.get_metric_history(run.info.run_id, "ab_mae")
        assert sorted(point.step for point in history) == list(range(1, epochs + 1))
    assert trials[numbers["killed"]].user_attrs["epochs"] == 6
    assert "NotADirectoryError" in trials[numbers["raises"]].user_attrs["reason"]
    assert "checkpoint.py" in trials[numbers["raises"]].user_attrs["reason"]

    # After six epochs it may be worse than gray.
    again = place.run("tune.py", *flags, "--resume", "--promote", "always", env=env)
    assert again.code == 0, again.output
    assert client.get_model_version_by_alias("colorizer-cvae", "champion")
    assert client.get_run(runs["study"].info.run_id).info.status == "FINISHED"
