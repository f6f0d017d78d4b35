"""What a worker was at when it died, for the worker that takes its place."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_START = "start"


class CrashLog:
    """Counts how often workers died at each piece of work of a chunk, in one run of a job.

    Deaths in other runs do not count: whoever ends a run ends its workers too.
    """

    MOST = 3  # deaths at a piece of work before it is given up

    def __init__(self, at: TextIO, before: str) -> None:
        self._at = at
        attempts = before.split(f"{_START}\n")[1:]
        self._deaths = Counter(lines[-1] for one in attempts if (lines := one.splitlines()))
        self._write(_START)

    def gives_up(self, work: str) -> bool:
        """Tell whether workers died at this often enough."""
        return self._deaths[work] >= self.MOST

    def begin(self, work: str) -> None:
        """Take note of a piece of work, a line of text, before it is begun."""
        self._write(work)

    def _write(self, line: str) -> None:
        self._at.write(f"{line}\n")
        self._at.flush()


@contextmanager
def crash_log(folder: Path, key: str, session: str) -> Iterator[CrashLog]:
    """Keep the log of a chunk while it is worked on; `session` names the run of the job.

    An error says by itself what it is: only a death leaves the log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{key}-{session}.log"
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    try:
        with path.open("a", encoding="utf-8") as at:
            yield CrashLog(at, before)
    finally:
        path.unlink(missing_ok=True)
