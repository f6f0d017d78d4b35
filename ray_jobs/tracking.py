"""A study in MLflow: a parent run with one nested run per trial, written by a thread of its own."""

import getpass
import hashlib
import json
import logging
import platform
import shlex
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from colorization.code_version import code_version, library_hash
from delivery import Delivery
from event_queue import Event, EventQueue
from mlflow_sender import Sender
from mlflow_store import default_tracking_uri, prepare, without_password
from storage import short_path, storage_folder

__all__ = ["RunStatus", "Sent", "Tracker", "default_tracking_uri"]

log = logging.getLogger(__name__)

RunStatus = Literal["FINISHED", "KILLED", "FAILED"]

_VERSIONED = ("torch", "torchvision", "ray", "optuna", "mlflow")  # tags of every run


class Sent(NamedTuple):
    """What became of the events that waited."""

    sent: int
    left: int
    refused: int
    gone: int  # files that were not there any more
    troubles: list[str]  # why files are left


class Tracker:
    """Writes a study into MLflow without ever making the caller wait for MLflow.

    Its methods add an event to a queue on disk in the study's folder and return; a thread sends
    them in order. What a dead server or a killed process left unsent is sent when the study is
    continued or by `sync.py`, into the same runs. An epoch of a trial, a file and a data set are
    recorded once however often they are told, sending is at least once, and an event sent twice
    changes nothing: see EventQueue, Delivery and Sender. No error of MLflow or of a full disk
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

        `report` is called from the tracker's thread too. Raises ConfigError for a damaged queue.
        """
        self.tracking_uri = tracking_uri
        self._study = study
        self._folder = folder
        self._report = report
        self._queue = EventQueue(folder, report)
        memory = self._queue.memory
        self._sender = Sender(memory, tracking_uri, experiment_name, study, report)
        self._where = without_password(tracking_uri)
        self._delivery = Delivery(self._queue, self._sender, self._where, report)
        self._source = _source_tags()
        self._thread: threading.Thread | None = None
        self._closed = False

    def start(self) -> Self:
        """Start sending. An SQLite database is created or migrated first, which takes seconds.

        Raises ConfigError where MLflow cannot work with the tracking URI at all.
        """
        self._prepare()
        self._thread = threading.Thread(target=self._delivery.run, name="mlflow", daemon=True)
        self._thread.start()
        return self

    def _prepare(self) -> None:
        if trouble := prepare(self.tracking_uri):
            self._report(f"MLflow at {self._where} cannot be used now ({trouble})")
        self._delivery.remember()

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
        """Send what waits, for so many seconds at most; tell whether nothing is left.

        What is left is said with the command that sends it. A second call does nothing.
        """
        if self._closed:
            return not self._delivery.waiting
        self._closed = True
        if self._thread is not None:
            self._delivery.finish(timeout)
            self._thread.join(timeout + 0.5)
            waiting, refused = self._delivery.waiting, self._delivery.refused
            if waiting or refused:
                also = f", {refused} of them refused" if refused else ""
                self._report(
                    f"{waiting + refused} events for MLflow at {self._where} are not sent{also}; "
                    f"they lie in {self._queue.path} and are sent by: {_sync_command(self._folder)}"
                )
        if self._thread is None or not self._thread.is_alive():
            # Else a request still waits for its answer: the thread notes it, or dies with us.
            self._queue.close()
        return not self._delivery.waiting

    @property
    def has_moved(self) -> bool:
        """Whether the study was sent to MLflow at another address so far."""
        return self._sender.has_moved

    def send(self, patience: float) -> Sent:
        """Send all that waits, and what was refused once more; before or instead of `start`.

        Gives up where nothing is taken for `patience` seconds. Raises ConfigError as `start` does.
        """
        self._prepare()
        self._delivery.retry_refused()
        self._delivery.run_once(patience)
        done = self._delivery
        return Sent(done.sent, done.waiting, done.refused, done.gone, done.troubles)

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
        """Log numbers of the whole study; equal ones once."""
        numbers = dict(metrics)
        self._add("metrics", None, f"{step}/{_digest(numbers)}", step=step, metrics=numbers)

    def parent_ended(self, status: RunStatus, tags: Mapping[str, str] | None = None) -> None:
        """Close the study's run."""
        self._add("ended", None, None, status=status, tags=dict(tags or {}))

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
        """Log a trial's numbers after an epoch; NaN and infinity may be among them.

        Of numbers of the same names the first count: a process that is killed before the study's
        storage has an epoch tells it again.
        """
        once = f"{step}/{_digest(sorted(metrics))}"
        self._add("metrics", number, once, step=step, metrics=dict(metrics))

    def tags(self, number: int | None, tags: Mapping[str, str]) -> None:
        """Set tags of a trial's run, or of the study's (None)."""
        self._add("tags", number, None, tags=dict(tags))

    def inputs(self, number: int | None, datasets: Sequence[Mapping[str, str]]) -> None:
        """Log which pictures a trial (None: the study) reads, as DataCard.inputs describes them."""
        found = [dict(dataset) for dataset in datasets]
        self._add("inputs", number, _digest(found), datasets=found)

    def file(self, number: int | None, path: Path, folder: str) -> None:
        """Upload a file, or what a directory holds, into a folder of a trial's artifacts.

        Number None means the study's artifacts, folder "" their top. It is read when it is sent:
        one that is gone by then is reported and left out. A trial's is sent once, the study's as
        often as it is told, for it may have changed.
        """
        place = str(path.resolve())
        once = None if number is None else f"{folder}/{place}"
        self._add("file", number, once, path=place, folder=folder)

    def trial_ended(
        self, number: int, status: RunStatus, tags: Mapping[str, str] | None = None
    ) -> None:
        """Close a trial's run."""
        self._add("ended", number, None, status=status, tags=dict(tags or {}))

    def reconcile(self, ended: Mapping[int, tuple[RunStatus, Mapping[str, str]]]) -> None:
        """Close the runs of trials that have ended, each whose last event is not that very end.

        `ended` holds what the study's storage, the only truth, knows of them. A process that was
        killed between the two leaves trials that have ended there and not here.
        """
        last: dict[int, tuple[RunStatus, Mapping[str, str]]] = {}
        for event in self._queue.events("started", "ended"):
            if event["kind"] == "ended":
                last[event["number"]] = (event["status"], event["tags"])
            else:
                last.pop(event["number"], None)
        for number, (status, tags) in ended.items():
            if last.get(number) != (status, dict(tags)):
                self.trial_ended(number, status, tags)

    def waiting_paths(self) -> set[Path]:
        """Return the files and directories that are still to be uploaded."""
        later = {Path(event["path"]) for event in self._queue.events("file", waiting=True)}
        return later | self._delivery.files_aside

    def _start_run(
        self,
        number: int | None,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str] | None,
    ) -> None:
        # As the YAML of an experiment would have it: true, null, 0.5, [1, 2].
        texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in params.items()}
        all_tags = {**self._source, **(tags or {})}
        self._add("started", number, None, name=name, params=texts, tags=all_tags)

    def _add(self, kind: str, number: int | None, once: str | None, **fields: Any) -> None:
        """Append an event; `once` tells apart those of a kind and trial that are kept once each."""
        event: Event = {"kind": kind, "number": number, "time": time.time_ns() // 1_000_000}
        if once is not None:
            event["id"] = f"{'study' if number is None else number}/{kind}/{once}"
        self._queue.append(event | fields)


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _sync_command(folder: Path) -> str:
    """Return the command that sends what waits in a study's folder."""
    storage = folder.absolute().parent.parent
    words = [short_path(Path(sys.executable)), short_path(Path(__file__).with_name("sync.py"))]
    return shlex.join(
        [
            *words,
            folder.name,
            *(["--storage", str(storage)] if storage != storage_folder(None) else []),
        ]
    )


def _source_tags() -> dict[str, str]:
    """Say who started what, from which commit, with which versions."""
    tags = {"mlflow.source.name": Path(sys.argv[0]).name, "mlflow.source.type": "LOCAL"}
    tags["version.python"] = platform.python_version()
    tags |= {f"version.{package}": version(package) for package in _VERSIONED}
    try:
        tags["mlflow.user"] = getpass.getuser()
    except (KeyError, OSError):
        log.debug("the user has no name, as in a container with a bare user number")
    if code := code_version():
        tags["mlflow.source.git.commit"] = code.commit
        tags["git.changed"] = str(code.changed).lower()
    else:
        tags["library.hash"] = library_hash()
    return tags
