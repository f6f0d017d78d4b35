"""Brings the events of a queue to MLflow in order, through outages, refusals and full disks."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from event_queue import Event, EventQueue, Waiting
from mlflow_sender import NOT_OFFERED, GoneError, Sender, is_refusal
from mlflow_store import without_password

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds between two tries
_REPEATED = 1.0  # seconds of sending that the next process repeats after a kill

# done: never to be sent again; later: not taken now; rewound: everything is to be sent again
Outcome = Literal["done", "later", "rewound"]


class Delivery:
    """Sends what waits in a queue until all of it is taken.

    An error is reported once and the event tried again after growing pauses; others wait behind it,
    in order. A file steps aside, so that one that cannot be read or a full artifact store holds up
    no numbers. An event that MLflow refuses for good, of a run that was deleted in its UI, is
    reported and left out until `retry_refused`. A store that does not know the study's runs gets
    all events from the first.
    """

    def __init__(
        self, queue: EventQueue, sender: Sender, where: str, report: Callable[[str], None]
    ) -> None:
        """Send from `queue` by `sender`; `where` names MLflow in messages."""
        self.sent = 0
        self.gone = 0  # files that were not there any more
        self._queue, self._sender = queue, sender
        self._where, self._report = where, report
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._patience: float | None = None
        self._is_store_known = False
        self._error: Exception | None = None  # why the last event was not taken
        self._pause = _FIRST_PAUSE
        self._aside: list[int] = queue.memory.setdefault("aside", [])  # where their lines begin
        self._aside_errors: dict[int, str] = {}
        self._aside_pause, self._aside_time = _FIRST_PAUSE, 0.0
        self._aside_failed = 0  # in a row
        self._said: set[tuple[str, int | None]] = set()
        self._remember_time: float | None = None  # None: nothing is new
        self._cannot_remember = False

    @property
    def waiting(self) -> int:
        """How many events were neither sent nor refused."""
        return len(self._queue) + len(self._aside)

    @property
    def refused(self) -> int:
        """How many events MLflow refused, in earlier sessions too."""
        return self._queue.memory.get("refused", {}).get("events", 0)

    @property
    def files_aside(self) -> set[Path]:
        """The files and directories whose upload failed and is tried again."""
        return {Path(self._queue.at(start)["path"]) for start in list(self._aside)}

    @property
    def troubles(self) -> list[str]:
        """Why files that wait were not taken."""
        return [self._aside_errors[start] for start in self._aside if start in self._aside_errors]

    def retry_refused(self) -> None:
        """Let everything since the first refused event wait again, for the order must stay."""
        if refused := self._queue.memory.pop("refused", None):
            self._queue.rewind(refused["first"])

    def run(self) -> None:
        """Send events until `finish` was called and nothing waits, or its time is over."""
        while time.monotonic() < self._deadline:
            if not self._step() and self._closing.is_set() and not self.waiting:
                break
            if self._remember_time is not None and time.monotonic() >= self._remember_time:
                self.remember()
        self.remember()

    def run_once(self, patience: float) -> None:
        """Send what waits; give up where nothing was taken for so many seconds."""
        self._patience = patience
        self.finish(patience)
        self.run()

    def finish(self, timeout: float) -> None:
        """Let `run` end once nothing waits, at the latest in so many seconds."""
        self._deadline = time.monotonic() + timeout
        self._closing.set()

    def remember(self) -> None:
        """Write to disk what was sent; where that fails, it may be sent a second time."""
        self._remember_time = None
        try:
            self._queue.remember()
        except OSError as error:
            if not self._cannot_remember:
                self._report(f"cannot note what was sent to MLflow, trying again ({error})")
            self._cannot_remember = True
            self._changed()
        else:
            self._cannot_remember = False

    def _changed(self) -> None:
        if self._remember_time is None:
            self._remember_time = time.monotonic() + _REPEATED

    def _step(self) -> bool:
        """Send an event, or try to; tell whether there was one."""
        if not self._is_store_known:
            if self._learn_store() == "later":
                self._failed()
            return True
        if self._aside and time.monotonic() >= self._aside_time:
            self._send_aside()
            return True
        waiting = self._queue.first(timeout=0.1)
        if waiting is None:
            return False
        is_file = waiting.event["kind"] == "file"
        # While one file is not taken, others join it untried: a store may take a minute to fail.
        outcome = "later" if is_file and self._aside else self._send(waiting.event, waiting.start)
        if outcome == "done":
            self._succeeded()
            self._queue.sent()
        elif outcome == "later" and is_file:
            self._put_aside(waiting)
        elif outcome == "later":
            self._failed()
        return True

    def _send(self, event: Event, start: int) -> Outcome:
        try:
            self._sender.send(event)
        except GoneError as error:
            self.gone += 1
            self._report(str(error))
        # This thread must outlive whatever a client, a proxy or a disk raises; nothing is lost,
        # for the event stays in the queue.
        except Exception as error:
            if getattr(error, "error_code", None) in ("RESOURCE_DOES_NOT_EXIST", *NOT_OFFERED):
                # A new database may be in the place of the old one, or a proxy without its server.
                outcome = self._learn_store()
                if outcome != "done":
                    return outcome
                if self._sender.parent_run_id is None:  # it lacked no run but the experiment
                    return self._later(error)
            if not is_refusal(error):
                return self._later(error)
            refused = self._queue.memory.setdefault("refused", {"first": start, "events": 0})
            refused["first"] = min(refused["first"], start)
            refused["events"] += 1
            about = (event["kind"], event["number"])
            if about not in self._said:
                self._said.add(about)
                self._report(f"MLflow refuses {_describe(event)}: {_one_line(error)}")
        else:
            self.sent += 1
        return "done"

    def _learn_store(self) -> Outcome:
        """Find out whether the store knows the study's runs; else all events wait again."""
        self._is_store_known = False
        try:
            forgets = self._sender.forgets()
        except Exception as error:  # as in `_send`
            return self._later(error)
        self._is_store_known = True
        if not forgets:
            return "done"
        self._aside.clear()
        self._queue.memory.pop("refused", None)
        self._queue.rewind()
        self._report(
            f"MLflow at {self._where} does not know the study: all its {len(self._queue)} events "
            "are sent there"
        )
        return "rewound"

    def _later(self, error: Exception) -> Outcome:
        self._error = error
        return "later"

    def _succeeded(self) -> None:
        self._changed()
        if self._patience is not None:
            self._deadline = time.monotonic() + self._patience
        if self._pause > _FIRST_PAUSE:
            self._report(f"MLflow at {self._where} answers again")
            self._pause = _FIRST_PAUSE

    def _failed(self) -> None:
        if self._pause == _FIRST_PAUSE:
            self._report(
                f"MLflow at {self._where} does not answer as it should; {self.waiting} events wait "
                f"on disk, trying again ({_one_line(self._error)})"
            )
        if self._closing.is_set():
            time.sleep(max(0.0, min(_FIRST_PAUSE, self._deadline - time.monotonic())))
        else:
            self._closing.wait(self._pause)  # closing ends a long pause, and short ones follow it
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _put_aside(self, waiting: Waiting) -> None:
        if not self._aside:
            self._aside_time = time.monotonic() + _FIRST_PAUSE
            self._aside_errors[waiting.start] = self._trouble_with(waiting.event)
            self._report(
                f"MLflow at {self._where} does not take a file; others wait with it on disk, "
                f"trying again ({self._aside_errors[waiting.start]})"
            )
        self._aside.append(waiting.start)
        self._queue.sent()
        self._changed()

    def _send_aside(self) -> None:
        start = self._aside[0]
        event = self._queue.at(start)
        outcome = self._send(event, start)
        if outcome == "rewound":
            return
        self._changed()
        if outcome == "later":
            self._aside.append(start)  # before it is taken out: others look whether it waits
        self._aside.pop(0)
        if outcome == "later":
            self._aside_errors[start] = self._trouble_with(event)
            self._aside_failed += 1
            # In a hurry all get their turn before the first gets another.
            if not self._closing.is_set() or self._aside_failed % len(self._aside) == 0:
                self._aside_time = time.monotonic() + self._aside_pause
                longest = _FIRST_PAUSE if self._closing.is_set() else _LONGEST_PAUSE
                self._aside_pause = min(2 * self._aside_pause, longest)
            return
        self._succeeded()
        self._aside_errors.pop(start, None)
        self._aside_pause, self._aside_failed = _FIRST_PAUSE, 0
        if not self._aside:
            self._report(f"MLflow at {self._where} takes files again")

    def _trouble_with(self, event: Event) -> str:
        return f"{event['path']}: {_one_line(self._error)}"


def _one_line(error: Exception | None) -> str:
    text = without_password(" ".join(str(error).split())) or type(error).__name__
    # Clients put what they did first and what went wrong last.
    return text if len(text) <= 300 else f"{text[:120]} ... {text[-180:]}"


def _describe(event: Event) -> str:
    whose = "the study" if event["number"] is None else f"trial {event['number']}"
    return f"the event {event['kind']!r} of {whose}"
