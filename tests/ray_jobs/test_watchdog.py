"""What is said of trials that wait or are silent, and what of dead ones is freed."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial

from cluster import Shape
from study_commands import Place, new_place
from watchdog import Watchdog

ONE = Shape(1, 1, 0)


class Watched:
    """A watchdog over made-up trials, a clock that is set, and a cluster's made-up resources."""

    def __init__(
        self,
        shape: Shape = ONE,
        total: Callable[[], Mapping[str, float]] = lambda: {"CPU": 2},
        free: Callable[[], Mapping[str, float]] = lambda: {"CPU": 0},
    ) -> None:
        self.now, self.said = 0.0, []
        self._asks, self._next = threading.Semaphore(0), 0.0

        def asked() -> Mapping[str, float]:
            self._asks.release()
            return total()

        clock = lambda: self.now  # noqa: E731
        self.dog = Watchdog(self.said.append, shape, clock=clock, total=asked, free=free)

    def look(self, now: float, *, wait: bool = True, **statuses: str) -> None:
        """Look at a time, and `wait` until the thread has begun to ask Ray, if it does."""
        self.now = now
        trials: list[Any] = [
            SimpleNamespace(
                status=status, config={"number": int(name[1:]), "directory": f"s/{name}"}
            )
            for name, status in statuses.items()
        ]
        self.dog.look(trials)
        if wait and now >= self._next:
            self._next = now + 5
            assert self._asks.acquire(timeout=60)

    def messages(self) -> list[str]:
        self.dog.close()
        return self.said


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_trial_that_waits_half_a_minute_is_told_with_what_it_waits_for(watched: Watched):
    watched.look(0, t1=Trial.RUNNING, t2=Trial.RUNNING, t3=Trial.PENDING)
    watched.look(29, t1=Trial.RUNNING, t2=Trial.RUNNING, t3=Trial.PENDING)
    watched.look(35, t1=Trial.RUNNING, t2=Trial.RUNNING, t3=Trial.PENDING)
    assert watched.messages() == [
        "trial 3 waits for 1 worker x (1 CPU): 0 of 2 CPU free, trials 1, 2 run"
    ]


def test_it_is_told_again_after_ten_minutes_and_not_before(watched: Watched):
    for minute in range(21):
        watched.look(60 * minute, t0=Trial.PENDING)
    assert len(watched.messages()) == 2


def test_waiting_begins_anew_with_a_new_wait(watched: Watched):
    watched.look(0, t0=Trial.PENDING)
    watched.look(20, t0=Trial.RUNNING)
    watched.look(40, t0=Trial.PENDING)  # it crashed, and is tried again
    watched.look(60, t0=Trial.PENDING)
    assert watched.messages() == []


def test_a_machine_that_was_lost_is_named():
    totals = iter([{"CPU": 16, "GPU": 2}, {"CPU": 8, "GPU": 1}])
    watched = Watched(Shape(1, 1, 1), lambda: next(totals), lambda: {"CPU": 7})
    watched.look(0, t0=Trial.PENDING)
    watched.look(31, t0=Trial.PENDING)
    assert watched.messages() == [
        "trial 0 waits for 1 worker x (1 CPU + 1 GPU): 7 of 8 CPU free, 0 of 1 GPU free, the "
        "cluster has 8 CPU now, it had 16, the cluster has 1 GPU now, it had 2, no trial of this "
        "study runs"
    ]


def test_ray_is_asked_no_more_than_every_five_seconds():
    asked = []

    def total() -> dict[str, float]:
        asked.append(1)
        return {"CPU": 2}

    watched = Watched(ONE, total)
    for tenth in range(100):
        watched.look(tenth / 10, t0=Trial.RUNNING)
    watched.messages()
    assert len(asked) == 2


def test_a_trial_that_reports_is_not_called_silent(watched: Watched):
    for minute in range(60):
        watched.look(60 * minute, t0=Trial.RUNNING)
        watched.dog.heard(0)
    assert watched.messages() == []


def test_silence_is_told_after_ten_minutes_and_again_after_twice_as_long(watched: Watched):
    watched.look(0, t2=Trial.RUNNING)
    watched.now = 40
    watched.dog.heard(2)
    for minute in range(1, 64):
        watched.look(40 + 60 * minute, t2=Trial.RUNNING)
    said = watched.messages()
    assert [re.findall(r"reported for (\d+) min", line)[0] for line in said] == ["10", "20", "40"]
    assert said[0] == (
        "trial 2 has not reported for 10 min; its longest epoch took 40 s; what it last said is in "
        f"{Path('s/t2/trial.log')}"
    )


def test_epochs_of_hours_make_it_wait_ten_times_as_long(watched: Watched):
    watched.look(0, t0=Trial.RUNNING)
    watched.now = 3600
    watched.dog.heard(0)
    watched.look(3600 * 10, t0=Trial.RUNNING)
    watched.look(3600 * 11 + 5, t0=Trial.RUNNING)
    (said,) = watched.messages()
    assert "for 600 min; its longest epoch took 60 min" in said


def test_a_trial_that_never_reported_is_silent_too(watched: Watched):
    watched.look(0, t0=Trial.RUNNING)
    watched.look(601, t0=Trial.RUNNING)
    (said,) = watched.messages()
    assert "trial 0 has not reported for 10 min; it never has yet" in said


def test_a_trial_that_ended_is_forgotten(watched: Watched):
    watched.look(0, t0=Trial.RUNNING)
    watched.look(700, t0=Trial.TERMINATED)
    watched.look(1400, t0=Trial.PENDING)  # of a number that comes again nothing is left
    assert watched.messages() == []


@pytest.mark.parametrize("kind", [ConnectionError, AttributeError])
def test_an_error_of_ray_is_told_once_and_ends_nothing(kind: type[Exception]):
    def fails() -> dict[str, float]:
        raise kind(f"no answer at {watched.now}")

    watched = Watched(ONE, fails)
    for minute in range(4):
        watched.look(60 * minute, t0=Trial.RUNNING)
    watched.look(601 + 60, t0=Trial.RUNNING)
    said = watched.messages()
    assert said[0].startswith(f"cannot ask Ray what trials wait for: {kind.__name__}: no answer at")
    assert "trial 0 has not reported" in said[1]
    assert len(said) == 2


def test_while_ray_does_not_answer_one_round_waits_with_all_that_is_to_be_said():
    answers, asked = threading.Event(), []

    def total() -> dict[str, float]:
        asked.append(1)
        assert answers.wait(60)
        return {"CPU": 2}

    watched = Watched(ONE, total)
    watched.look(0, t0=Trial.PENDING, t1=Trial.RUNNING)
    for now in range(5, 700, 5):
        watched.look(now, wait=False, t0=Trial.PENDING, t1=Trial.RUNNING)
    answers.set()
    said = watched.messages()
    assert len(asked) == 2
    assert "trial 1 has not reported for 10 min" in said[0]
    assert said[1:] == ["trial 0 waits for 1 worker x (1 CPU): 0 of 2 CPU free, trial 1 runs"]


SPACE = """
search: {trials: 1}
experiment:
  data: {source: {name: sample, crops: 32, scoring_crops: 8}, size: 32}
  model:
    name: gan
    generator: {name: unet, width: 4}
    discriminator: {name: patch, width: 4, layers: 1}
    lambda_l1: !loguniform [1, 1000]
  train: {batch_size: 8, grid_pictures: 2, stages: {adversarial: {turns: adversarial, epochs: 2}}}
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with new_place(tmp_path) as made:
        (made.folder / "space.yaml").write_text(SPACE)
        yield made


def wait_for(
    process: subprocess.Popen[str], what: Callable[[], list[int]], patience: float = 900
) -> list[int]:
    """Ask again and again, until there is an answer; a busy machine takes minutes to start Ray."""
    deadline = time.monotonic() + patience
    while not (found := what()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


@pytest.mark.slow
def test_what_a_trial_held_that_died_while_its_workers_started_is_freed(place: Place):
    def titled(title: str) -> list[int]:
        return [pid for pid, found in place.processes().items() if title in found]

    space, storage = str(place.folder / "space.yaml"), str(place.storage)
    flags = ["--space", space, "--name", "s", "--storage", storage, "--workers", "2"]
    flags += ["--preflight", "off"]  # it forms a group of workers, too
    process = place.start("tune.py", "--model", "gan", *flags)
    # They have their resources, but Ray Train's own cleaner does not know of them yet.
    wait_for(process, lambda: titled("TrainWorker"))
    (trial,) = titled("ImplicitFunc")
    os.kill(trial, signal.SIGKILL)
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    assert "freed 2 workers x (1 CPU), which a trial that died had reserved" in output, output
