"""Studies that are interrupted, killed or cut off from MLflow, and go on with nothing lost."""

import os
import re
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from optuna.trial import TrialState

from started_cluster import started_cluster
from study_commands import ROOT, Done, Place, new_place

pytestmark = pytest.mark.slow

EPOCHS = 10
SPACE = """
search:
  trials: 2
  scheduler: {grace_period: 50}
experiment:
  data: {source: {name: sample, crops: 64, scoring_crops: 8}, size: 32}
  model:
    name: gan
    generator: {name: unet, width: 8}
    discriminator: {name: patch, width: 8, layers: 1}
    lambda_l1: !loguniform [1, 1000]
  train:
    batch_size: 16
    learning_rate: 0.002
    grid_pictures: 2
    stages:
      head_start: {turns: l1, epochs: 1, select: false}
      adversarial: {turns: adversarial, epochs: 9}
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with new_place(tmp_path) as made:
        (made.folder / "space.yaml").write_text(SPACE)
        yield made


def command(place: Place, *more: str) -> list[str]:
    space, storage = str(place.folder / "space.yaml"), str(place.storage)
    return ["--model", "gan", "--space", space, "--name", "s", "--storage", storage, *more]


def resumption(place: Place, *more: str) -> list[str]:
    return ["--name", "s", "--resume", "--storage", str(place.storage), *more]


def read_until(process: subprocess.Popen[str], pattern: str) -> str:
    """Read what a command prints, up to a line with the pattern."""
    assert process.stdout is not None
    read = ""
    for line in process.stdout:
        read += line
        if re.search(pattern, line):
            return read
    raise AssertionError(f"it ended without {pattern!r}:\n{read}")


def end(process: subprocess.Popen[str], number: signal.Signals, read: str) -> Done:
    """Send a signal to a command and all that it started, as Ctrl-C does; wait for its end."""
    os.killpg(process.pid, number)
    rest, _ = process.communicate(timeout=120)
    return Done(process.returncode, read + rest)


def assert_gone(place: Place, title: str = "") -> None:
    """Wait for the end of what an ended command had started; Ray's processes watch each other."""
    for pid, found in place.processes().items():
        if title in found:
            with suppress(ProcessLookupError):
                ended, _, _ = select.select([os.pidfd_open(pid)], [], [], 60)
                assert ended, f"still running: {found}"


def assert_nothing_lost_or_doubled(place: Place, trials: int = 2) -> None:
    found = place.trials("s")
    assert [trial.state for trial in found] == [TrialState.COMPLETE] * trials
    parent, children = place.runs("s")
    assert parent.info.status == "FINISHED"
    assert children.keys() == set(range(trials))
    for trial in found:
        run = children[trial.number]
        assert trial.user_attrs["epochs"] == EPOCHS
        selecting = [key for key in trial.user_attrs if key.startswith("epoch-")]
        assert sorted(selecting) == sorted(f"epoch-{n}" for n in range(1, EPOCHS))
        assert run.info.status == "FINISHED"
        assert place.steps(run, "ab_mae") == list(range(1, EPOCHS + 1))
        assert place.steps(run, "gray/ab_mae") == [0]
        metrics = place.storage / "studies" / "s" / f"trial-{trial.number:04d}" / "metrics.jsonl"
        assert len(metrics.read_text().splitlines()) == EPOCHS


def test_ctrl_c_closes_the_trials_as_killed_and_resume_goes_on(place):
    process = place.start("tune.py", *command(place))
    read = read_until(process, r"epoch 3 ")
    done = end(process, signal.SIGINT, read)
    assert done.code == 130, done.output
    assert "Traceback" not in done.output
    assert "goes on from here" in done.output
    assert_gone(place)
    parent, children = place.runs("s")
    assert parent.info.status == "KILLED"
    assert {run.info.status for run in children.values()} == {"KILLED"}
    assert {trial.state for trial in place.trials("s")} == {TrialState.RUNNING}
    again = place.run("tune.py", *resumption(place))
    assert again.code == 0, again.output
    (number,) = re.findall(r"trial (\d) epoch 3 ", read)
    assert not re.search(rf"trial {number} epoch [12] ", again.output), "it began anew"
    assert_nothing_lost_or_doubled(place)


def test_sigterm_ends_a_study_like_ctrl_c(place):
    process = place.start("tune.py", *command(place))
    read = read_until(process, r"epoch 2 ")
    process.terminate()  # what `ray job stop` sends, to the command alone
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 130, read + rest
    assert {run.info.status for run in place.runs("s")[1].values()} == {"KILLED"}
    assert_gone(place)


def test_a_study_whose_driver_was_killed_goes_on_with_nothing_lost_or_doubled(place):
    process = place.start("tune.py", *command(place))
    read = read_until(process, r"epoch 4 ")
    process.kill()
    process.communicate()
    assert_gone(place, "ImplicitFunc")  # no trial trains on; what else Ray leaves does no harm
    assert re.search(r"trial \d epoch 4", read)
    again = place.run("tune.py", *resumption(place))
    assert again.code == 0, again.output
    assert_nothing_lost_or_doubled(place)


def test_a_trial_whose_process_was_killed_goes_on_from_its_last_checkpoint(place):
    process = place.start("tune.py", *command(place, "--trials", "1"))
    read = read_until(process, r"trial 0 epoch 4 ")
    (actor,) = [pid for pid, title in place.processes().items() if "ImplicitFunc" in title]
    os.kill(actor, signal.SIGKILL)
    rest, _ = process.communicate(timeout=300)
    output = read + rest
    assert process.returncode == 0, output
    assert "trial 0 goes on from its last checkpoint after a crash" in output
    assert len(re.findall(r"epoch 1 head_start", output)) == 1, "it began anew"
    assert_nothing_lost_or_doubled(place, trials=1)


def test_two_workers_train_each_trial_as_one_group(place):
    done = place.run("tune.py", *command(place, "--workers", "2"))
    assert done.code == 0, done.output
    assert "2 workers x (1 CPU), 1 at once" in done.output
    assert_nothing_lost_or_doubled(place)
    assert_gone(place)


def test_a_group_whose_worker_was_killed_goes_on_from_the_last_checkpoint(place):
    process = place.start("tune.py", *command(place, "--workers", "2", "--trials", "1"))
    read = read_until(process, r"trial 0 epoch 4 ")
    workers = [pid for pid, title in place.processes().items() if "TrainWorker" in title]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    rest, _ = process.communicate(timeout=400)
    assert process.returncode == 0, read + rest
    assert_nothing_lost_or_doubled(place, trials=1)


def test_a_dead_mlflow_server_stops_no_training_and_loses_nothing(place):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
    cut_off = place.run("tune.py", *command(place), env={"MLFLOW_TRACKING_URI": dead})
    assert cut_off.code == 1, cut_off.output
    assert "does not answer" in cut_off.output
    assert "registering failed" in cut_off.output
    assert "Traceback" not in cut_off.output
    assert [trial.state for trial in place.trials("s")] == [TrialState.COMPLETE] * 2
    assert not (place.storage / "mlflow.db").exists()
    again = place.run("tune.py", *resumption(place))
    assert again.code == 0, again.output
    assert_nothing_lost_or_doubled(place)
    assert place.client().get_model_version_by_alias("colorizer-gan", "champion")


def test_it_works_from_inside_ray_jobs_as_well(place):
    folder = ROOT / "ray_jobs"
    before = set(folder.iterdir())
    done = place.run("tune.py", *command(place, "--trials", "1"), cwd=folder)
    assert done.code == 0, done.output
    assert_nothing_lost_or_doubled(place, trials=1)
    assert set(folder.iterdir()) - before <= {folder / "__pycache__"}


def test_a_running_cluster_is_joined_and_goes_on_running(place):
    with started_cluster(place) as address:
        done = place.run("tune.py", *command(place), env={"RAY_ADDRESS": address})
        assert done.code == 0, done.output
        assert f"on the cluster at {address}" in done.output
        assert_nothing_lost_or_doubled(place)
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5):
            pass


TWELVE = [
    "search.trials=12",
    "search.scheduler={name: asha, grace_period: 2, reduction_factor: 2}",
    "train.stages.adversarial.epochs=4",
    "train.learning_rate=!loguniform [1e-4, 1e-2]",
    "--concurrent=1",
    "--seed=7",
]


def kill_at_a_random_moment(place: Place, process: subprocess.Popen[str], draw: Random) -> bool:
    """SIGKILL a command's process group after some lines and moments; tell whether it ran still."""
    assert process.stdout is not None
    for _ in range(draw.randint(4, 14)):
        if not process.stdout.readline():
            return False
    with suppress(subprocess.TimeoutExpired):
        process.wait(draw.uniform(0, 2))
    running = process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert_gone(place)
    return running


def what_is_known(place: Place) -> list[tuple[Any, ...]]:
    """Return all that must not hang on what happened to the study's processes."""
    trials = place.trials("s")
    numbers = [
        {
            name: {key: value for key, value in scores.items() if "second" not in key}
            for name, scores in trial.user_attrs.items()
            if name.startswith("epoch-")
        }
        for trial in trials
    ]
    return [
        (t.number, t.state, t.params, t.values, t.intermediate_values, t.user_attrs["epochs"], n)
        for t, n in zip(trials, numbers, strict=True)
    ]


def test_a_study_killed_five_times_ends_as_one_that_never_was(place, tmp_path):
    with new_place(tmp_path / "undisturbed") as calm:
        (calm.folder / "space.yaml").write_text(SPACE)
        done = calm.run("tune.py", *command(calm, *TWELVE))
        assert done.code == 0, done.output
        expected = what_is_known(calm)
    draw = Random(os.environ.get("KILL_SEED", "1"))
    words, kills = command(place, *TWELVE), 0
    while kills < 5:
        assert kill_at_a_random_moment(place, place.start("tune.py", *words), draw)
        words, kills = resumption(place), kills + 1
    last = place.run("tune.py", *words)
    assert last.code == 0, last.output
    assert what_is_known(place) == expected
    assert len(expected) == 12
    assert {state for _, state, *_ in expected} == {TrialState.COMPLETE, TrialState.PRUNED}
    parent, children = place.runs("s")
    assert parent.info.status == "FINISHED"
    assert children.keys() == set(range(12))
    for trial in place.trials("s"):
        run = children[trial.number]
        assert run.data.tags["state"] == trial.state.name
        assert run.info.status == {"COMPLETE": "FINISHED", "PRUNED": "KILLED"}[trial.state.name]
        assert place.steps(run, "ab_mae") == list(range(1, trial.user_attrs["epochs"] + 1))


@pytest.mark.parametrize("title", ["raylet", "gcs_server"])
def test_a_study_whose_ray_was_killed_ends_and_goes_on(place, title):
    process = place.start("tune.py", *command(place))
    read_until(process, r"epoch 3 ")
    (pid,) = [pid for pid, found in place.processes().items() if f"/{title} " in found]
    os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=180)
    assert process.returncode != 0
    assert_gone(place)
    again = place.run("tune.py", *resumption(place))
    assert again.code == 0, again.output
    assert_nothing_lost_or_doubled(place)


def test_finals_that_are_killed_go_on_and_their_winner_is_registered(place):
    finals = ["--finalists", "1", "--seeds", "2"]
    process = place.start("tune.py", *command(place, "--concurrent", "1", *finals))
    read = read_until(process, r"trial 2 epoch 4 ")
    assert re.search(r"finalists: trials [01] are trained again, 2 seeds each", read)
    end(process, signal.SIGKILL, read)
    again = place.run("tune.py", *resumption(place))
    assert again.code == 0, again.output
    assert "trial 0 started" not in again.output
    assert_nothing_lost_or_doubled(place, trials=4)
    of = [trial.user_attrs.get("finalist_of") for trial in place.trials("s")]
    assert of[:2] == [None, None]
    assert of[2] == of[3] in (0, 1)
    (version,) = place.client().search_model_versions("name = 'colorizer-gan'")
    assert version.tags["trial"] in ("2", "3")
    assert "by means over 2 seeds" in again.output
