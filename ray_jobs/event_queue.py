"""A queue on disk: what happened is kept before it is sent, so that nobody waits for a server."""

import json
import threading
import uuid
from collections import deque
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class EventQueue:
    """Events in an append-only file of JSON lines, and how many of them were sent.

    `mlflow-queue.jsonl` grows, `mlflow-sent.json` holds the count and what the sender must remember
    (`memory`, JSON types). A process that was killed between sending an event and counting it sends
    that one event again: at least once, so senders must bear repetition. One process at a time.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "mlflow-queue.jsonl"
        self._sent_path = folder / "mlflow-sent.json"
        self._changed = threading.Condition()
        state = json.loads(self._sent_path.read_text()) if self._sent_path.exists() else {}
        self._sent: int = state.get("sent", 0)
        self.memory: dict[str, Any] = state.get("memory", {"study_id": uuid.uuid4().hex})
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]  # a killed writer leaves half a line
        self._file = self.path.open("ab")
        self._file.truncate(len(whole))
        self._waiting = deque(json.loads(line) for line in whole.splitlines()[self._sent :])

    def __len__(self) -> int:
        """Return how many events wait."""
        return len(self._waiting)

    def append(self, event: Event) -> None:
        """Add an event; it has left this process when the call returns. Never waits for sending."""
        line = json.dumps(event).encode() + b"\n"
        with self._changed:
            self._file.write(line)
            self._file.flush()
            self._waiting.append(json.loads(line))
            self._changed.notify_all()

    def first(self, timeout: float) -> Event | None:
        """Return the oldest event, waiting at most so many seconds for one; it stays in place."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting, timeout)
            return self._waiting[0] if self._waiting else None

    def sent(self) -> None:
        """Count the oldest event as sent and keep `memory`."""
        with self._changed:
            self._waiting.popleft()
            self._sent += 1
            self.remember()

    def remember(self) -> None:
        """Write `memory` and the count to disk, in one step."""
        partial = self._sent_path.with_suffix(".partial")
        partial.write_text(json.dumps({"sent": self._sent, "memory": self.memory}))
        partial.replace(self._sent_path)

    def close(self) -> None:
        """Close the file; waiting events stay in it."""
        self._file.close()
