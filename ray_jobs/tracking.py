"""A study in MLflow: a parent run with one nested run per trial, written by a thread of its own."""

import getpass
import json
import logging
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from event_queue import Event, EventQueue
from mlflow_sender import Sender, is_refusal
from mlflow_store import default_tracking_uri, prepare

__all__ = ["RunStatus", "Tracker", "default_tracking_uri"]

log = logging.getLogger(__name__)

RunStatus = Literal["FINISHED", "KILLED", "FAILED"]

_VERSIONED = ("torch", "torchvision", "ray", "optuna", "mlflow")  # tags of every run

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds between two tries


class Tracker:
    """Writes a study into MLflow without ever making the caller wait for MLflow.

    Its methods add an event to a queue on disk in the study's folder and return; a thread sends
    them in order. What a dead server or a killed process left unsent is sent when the study is
    continued, into the same runs. Sending is at least once, and an event sent twice changes
    nothing (see Sender).

    An error of sending is reported once and tried again after growing pauses. An event that MLflow
    refuses for good (of a run that was deleted in the UI) is reported and left out. No such error
    reaches the caller.
    """

    def __init__(
        self,
        folder: Path,
        tracking_uri: str,
        experiment_name: str,
        study: str,
        report: Callable[[str], None] = log.warning,
    ) -> None:
        """Open the queue in the study's folder; `report` takes one-line messages for a person.

        `report` is called from the tracker's thread.
        """
        self.tracking_uri = tracking_uri
        self._study = study
        self._report = report
        self._queue = EventQueue(folder)
        self._sender = Sender(self._queue, tracking_uri, experiment_name, study, report)
        self._source = _source_tags()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._deadline = float("inf")

    def start(self) -> Self:
        """Start sending. An SQLite database is created or migrated first, which takes seconds.

        Raises ConfigError where MLflow cannot work with the tracking URI at all.
        """
        prepare(self.tracking_uri)
        self._queue.remember()
        self._thread = threading.Thread(target=self._send_events, name="mlflow", daemon=True)
        self._thread.start()
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self, timeout: float = 30.0) -> bool:
        """Send what waits, for so many seconds at most; tell whether everything was sent.

        A second call does nothing.
        """
        if self._thread is not None:
            self._deadline = time.monotonic() + timeout
            self._closing.set()
            self._thread.join(timeout + 0.5)
            self._thread = None
            if len(self._queue):
                self._report(
                    f"{len(self._queue)} events for MLflow at {self.tracking_uri} wait in "
                    f"{self._queue.path}; they are sent when the study is continued"
                )
        self._queue.close()
        return not len(self._queue)

    @property
    def parent_run_id(self) -> str | None:
        """The study's run; None before MLflow has it."""
        return self._sender.parent_run_id

    def run_id(self, number: int) -> str | None:
        """Return the run of a trial; None before MLflow has it."""
        return self._sender.run_id(number)

    def parent(self, params: Mapping[str, Any], tags: Mapping[str, str] | None = None) -> None:
        """Open the study's run, or go on with it."""
        self._start_run(None, self._study, params, tags)

    def parent_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log numbers of the whole study."""
        self._add("metrics", None, step=step, metrics=dict(metrics))

    def parent_ended(self, status: RunStatus, tags: Mapping[str, str] | None = None) -> None:
        """Close the study's run."""
        self._add("ended", None, status=status, tags=dict(tags or {}))

    def trial_started(
        self,
        number: int,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Open a trial's run below the study's, or go on with it; params have dotted keys."""
        self._start_run(number, name, params, tags)

    def epoch(self, number: int, step: int, metrics: Mapping[str, float]) -> None:
        """Log a trial's numbers after an epoch; NaN and infinity may be among them."""
        self._add("metrics", number, step=step, metrics=dict(metrics))

    def inputs(self, number: int | None, datasets: Sequence[Mapping[str, str]]) -> None:
        """Log which pictures a trial (None: the study) reads, as DataCard.inputs describes them."""
        self._add("inputs", number, datasets=[dict(dataset) for dataset in datasets])

    def file(self, number: int | None, path: Path, folder: str) -> None:
        """Upload a file, or what a directory holds, into a folder of a trial's artifacts.

        Number None means the study's artifacts, folder "" their top.
        It is read when it is sent: one that is gone by then is reported and left out.
        """
        self._add("file", number, path=str(path.resolve()), folder=folder)

    def trial_ended(
        self, number: int, status: RunStatus, tags: Mapping[str, str] | None = None
    ) -> None:
        """Close a trial's run."""
        self._add("ended", number, status=status, tags=dict(tags or {}))

    def _start_run(
        self,
        number: int | None,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str] | None,
    ) -> None:
        # As the YAML of an experiment would have it: true, null, 0.5, [1, 2].
        texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in params.items()}
        self._add("started", number, name=name, params=texts, tags={**self._source, **(tags or {})})

    def _add(self, kind: str, number: int | None, **fields: Any) -> None:
        time_ms = time.time_ns() // 1_000_000
        self._queue.append({"kind": kind, "number": number, "time": time_ms, **fields})

    def _send_events(self) -> None:
        """Send events in order until the tracker is closed and nothing waits, or time is over."""
        pause = _FIRST_PAUSE
        refused: set[tuple[str, int | None]] = set()
        while time.monotonic() < self._deadline:
            event = self._queue.first(timeout=0.1)
            if event is None:
                if self._closing.is_set():
                    return
                continue
            try:
                self._sender.send(event)
            # This thread must outlive whatever a client, a proxy or a disk raises; nothing is lost,
            # for the event stays in the queue.
            except Exception as error:
                if not is_refusal(error):
                    if pause == _FIRST_PAUSE:
                        self._report(
                            f"MLflow at {self.tracking_uri} does not answer; {len(self._queue)} "
                            f"events wait on disk, trying again ({_one_line(error)})"
                        )
                    self._wait(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    continue
                if (event["kind"], event["number"]) not in refused:
                    refused.add((event["kind"], event["number"]))
                    self._report(f"MLflow refuses {_describe(event)}: {_one_line(error)}")
            if pause > _FIRST_PAUSE:
                self._report(f"MLflow at {self.tracking_uri} answers again")
                pause = _FIRST_PAUSE
            self._queue.sent()

    def _wait(self, pause: float) -> None:
        """Pause between two tries; closing ends a long one, and short ones follow it."""
        if self._closing.is_set():
            time.sleep(max(0.0, min(_FIRST_PAUSE, self._deadline - time.monotonic())))
        else:
            self._closing.wait(pause)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _describe(event: Event) -> str:
    whose = "the study" if event["number"] is None else f"trial {event['number']}"
    return f"the event {event['kind']!r} of {whose}"


def _source_tags() -> dict[str, str]:
    """Say who started what, from which commit, with which versions."""
    tags = {"mlflow.source.name": Path(sys.argv[0]).name, "mlflow.source.type": "LOCAL"}
    tags["version.python"] = platform.python_version()
    tags |= {f"version.{package}": version(package) for package in _VERSIONED}
    try:
        tags["mlflow.user"] = getpass.getuser()
    except (KeyError, OSError):
        log.debug("the user has no name, as in a container with a bare user number")
    commit = _git("rev-parse", "HEAD")
    if commit:
        tags["mlflow.source.git.commit"] = commit
        tags["git.changed"] = "true" if _git("status", "--porcelain") else "false"
    return tags


def _git(*arguments: str) -> str | None:
    """Ask git about the project's checkout; None outside of one or where there is no git."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
