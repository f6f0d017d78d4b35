"""One attempt at a time writes into a trial's directory."""

import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from colorization.config import ConfigError
from failure import StillWritten
from storage import lock_folder

PATIENCE = 300.0  # seconds

log = logging.getLogger("colorization")


@contextmanager
def sole_writer(run: Path, patience: float | None = None) -> Iterator[None]:
    """Keep other attempts of a trial out of its directory; the system does when this process dies.

    A killed driver's process may still write there: it is waited for, and the log says so. Raises
    StillWritten after so many seconds, PATIENCE where none are given.
    """
    patience = PATIENCE if patience is None else patience
    started, waited_for = time.monotonic(), None
    while True:
        try:
            lock = lock_folder(run, "wait for it to end")
            break
        except ConfigError as error:
            holder = _holder(run)
            if time.monotonic() - started > patience:
                raise StillWritten(
                    f"{holder} has worked on this trial for {patience:.0f} s more, as an earlier "
                    "attempt; end it, and start the study again"
                ) from error
            if holder != waited_for:
                log.warning("waits for an earlier attempt: %s writes into %s", holder, run)
                waited_for = holder
            time.sleep(0.2)
    with lock:
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # loader processes may have inherited the file


def _holder(run: Path) -> str:
    return (run / "lock").read_text(encoding="utf-8") or "a process"
