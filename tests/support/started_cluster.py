"""A cluster of one machine that a person started with `ray start`, for commands to join."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from study_commands import Place


@contextmanager
def started_cluster(place: Place, cpus: int = 2) -> Iterator[str]:
    """Start one, yield its address, and kill at the end whatever runs in its place."""
    ray = str(Path(sys.executable).with_name("ray"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    head = [ray, "start", "--head", "--port", str(port), "--num-cpus", str(cpus)]
    dashboard = ["--include-dashboard", "true", "--dashboard-port", "0"]
    try:
        subprocess.run(
            [*head, *dashboard], env=place.environment(), check=True, capture_output=True
        )
        yield f"127.0.0.1:{port}"
    finally:
        for pid in place.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
