"""A queue on disk: what happened is kept before it is sent, so that nobody waits for a server."""

import hashlib
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from colorization.config import ConfigError

Event = dict[str, Any]

_CHUNK = 1 << 16  # bytes read at once


class Waiting(NamedTuple):
    """An event and the place of its line: the bytes before and behind it."""

    start: int
    end: int
    event: Event


class EventQueue:
    """Events in an append-only file of JSON lines, and how far it was sent.

    `mlflow-queue.jsonl` grows for as long as the study lives: another store would need all of it.
    `mlflow-sent.json` holds the number of bytes that were sent and what the sender must remember
    (`memory`, JSON types). Sending is at least once: a killed process sends again what it sent in
    its last second, so senders must bear repetition. One process at a time.

    An event with an `id` is kept once: one with the same id as an earlier event is dropped, also
    after a restart. An event is on the disk's platters when `append` returns. While the disk does
    not take it, it stays in memory and in its place in the order, and each append tries again.
    """

    def __init__(self, folder: Path, report: Callable[[str], None]) -> None:
        """Open or create the queue in a folder; `report` takes one-line messages for a person.

        Reads the whole file once. Raises ConfigError where what was sent cannot be known.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "mlflow-queue.jsonl"
        self._sent_path = folder / "mlflow-sent.json"
        self._report = report
        self._changed = threading.Condition()
        self._full = False  # the disk took no event when it was last asked
        state = _read_state(self._sent_path)
        self.memory: dict[str, Any] = state.get("memory", {"study_id": uuid.uuid4().hex})
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        self._unwritten = bytearray()  # whole lines that belong behind the file's
        self._size = 0  # bytes of the file that count: a killed writer leaves half a line
        self._next = 0  # where the oldest waiting event begins
        self._head: Waiting | None = None
        self._ids: set[int] = set()  # hashes of 64 bits, for the file may hold a million events
        self._waiting = 0
        self._scan(state.get("offset", 0))

    def _scan(self, offset: int) -> None:
        damaged = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                if self._size < offset:
                    self._next = self._size + len(line)
                else:
                    self._waiting += 1
                self._size += len(line)
                event = _parse(line)
                if event is None:
                    damaged += 1
                elif "id" in event:
                    self._ids.add(_hash(event["id"]))
        os.ftruncate(self._file, self._size)
        if damaged:
            self._report(f"{damaged} damaged lines in {self.path} are left out: their events lost")

    def __len__(self) -> int:
        """Return how many events wait."""
        return self._waiting

    def append(self, event: Event) -> None:
        """Add an event. Never waits for sending, and never fails because of the disk."""
        line = json.dumps(event).encode() + b"\n"
        with self._changed:
            if "id" in event:
                key = _hash(event["id"])
                if key in self._ids:
                    return
                self._ids.add(key)
            self._unwritten += line
            self._waiting += 1
            fault = self._write()
            first, self._full = fault is not None and not self._full, fault is not None
            self._changed.notify_all()
        if first:
            self._report(
                f"events for MLflow cannot be written to {self.path} and stay in memory, where a "
                f"crash would lose them: {fault}"
            )

    def _write(self) -> OSError | None:
        """Bring onto disk what is not there; return what is in the way, if anything is."""
        try:
            written = 0
            while written < len(self._unwritten):
                part = self._unwritten[written:]
                written += os.pwrite(self._file, part, self._size + written)
            os.fdatasync(self._file)
        except OSError as error:
            return error  # half a line is overwritten by the next try
        self._size += len(self._unwritten)
        self._unwritten.clear()
        return None

    def first(self, timeout: float) -> Waiting | None:
        """Return the oldest event, waiting at most so many seconds for one; it stays in place."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting, timeout)
            while self._waiting and self._head is None:
                line = self._line(self._next)
                end = self._next + len(line)
                event = _parse(line)
                if event is None:  # damaged, as was said when the file was opened
                    self._next, self._waiting = end, self._waiting - 1
                else:
                    self._head = Waiting(self._next, end, event)
            return self._head

    def at(self, start: int) -> Event:
        """Return the event whose line begins behind so many bytes, sent or not."""
        with self._changed:
            return json.loads(self._line(start))

    def _line(self, start: int) -> bytes:
        if start >= self._size:
            begin = start - self._size
            return bytes(self._unwritten[begin : self._unwritten.index(b"\n", begin) + 1])
        line = b""
        while not line.endswith(b"\n"):
            place = start + len(line)
            chunk = os.pread(self._file, min(_CHUNK, self._size - place), place)
            if not chunk:
                raise OSError(f"{self.path} has become shorter")
            line += chunk[: chunk.index(b"\n") + 1] if b"\n" in chunk else chunk
        return line

    def sent(self) -> None:
        """Count the oldest event as sent; `remember` makes that last."""
        with self._changed:
            assert self._head is not None
            self._next, self._head = self._head.end, None
            self._waiting -= 1

    def rewind(self, start: int = 0) -> None:
        """Let all events wait again from the one whose line begins behind so many bytes."""
        with self._changed:
            self._next, self._head = start, None
            self._waiting = sum(1 for _ in self._lines(start))

    def events(self, *kinds: str, waiting: bool = False) -> Iterator[Event]:
        """Yield the events of these kinds, sent or not, or those that wait; in order."""
        marks = [json.dumps({"kind": kind})[1:-1].encode() for kind in kinds]
        with self._changed:
            found = [
                line
                for line in self._lines(self._next if waiting else 0)
                if any(mark in line for mark in marks)
            ]
        for line in found:
            event = _parse(line)
            if event is not None and event["kind"] in kinds:
                yield event

    def _lines(self, start: int) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            file.seek(start)
            while start < self._size:
                line = file.readline()
                start += len(line)
                yield line
        yield from bytes(self._unwritten[start - self._size :]).splitlines(keepends=True)

    def remember(self) -> None:
        """Write `memory` and how far was sent to disk, in one step. Raises OSError."""
        with self._changed:
            state = json.dumps({"offset": self._next, "memory": self.memory})
        partial = self._sent_path.with_suffix(".partial")
        with partial.open("w") as file:
            file.write(state)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._sent_path)

    def close(self) -> None:
        """Close the file; waiting events stay in it. What the disk does not take is lost."""
        with self._changed:
            fault = self._write() if self._unwritten else None
            unsent = self._unwritten[max(0, self._next - self._size) :].count(b"\n")
            os.close(self._file)
            self._file = -1  # another file may get the number
        if fault and unsent:
            self._report(f"{unsent} events for MLflow are lost: {fault}, in {self.path}")


def _read_state(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        state = json.loads(path.read_text())
        if not isinstance(state, dict):
            raise ValueError(f"found {type(state).__name__}, not a mapping")
        return state
    except ValueError as error:
        raise ConfigError(
            f"{path} is damaged ({error}): restore it, or delete it to send everything once more, "
            "into new runs"
        ) from error


def _parse(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "kind" in event else None


def _hash(identity: str) -> int:
    return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8).digest())
