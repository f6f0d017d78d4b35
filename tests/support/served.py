"""ray_jobs/serve.py as a process on loopback, and what clients good and bad do to it."""

import http.client
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlencode

import psutil

from study_commands import Place


class Reply(NamedTuple):
    """A server's answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body's JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    port: int
    pid: int
    place: Place
    said: list[str]

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            names = {key.lower(): value for key, value in answer.getheaders()}
            return Reply(answer.status, names, answer.read())
        finally:
            connection.close()

    def color(self, picture: bytes, kind: str = "image/png", **options: Any) -> Reply:
        """Have a picture colored."""
        path = f"/api/colorize?{urlencode(options)}"
        return self.ask("POST", path, picture, {"Content-Type": kind})

    def raw(self, *parts: bytes | float) -> bytes:
        """Write bytes to the server, pausing for the numbers between them; return the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as line:
            for part in parts:
                if isinstance(part, bytes):
                    line.sendall(part)
                else:
                    threading.Event().wait(part)
            line.settimeout(30)
            got = b""
            while chunk := line.recv(1 << 16):
                got += chunk
                if b"\r\n\r\n" in got and b'{"error"' in got:
                    break
            return got

    def health(self) -> Any:
        """Return what the server says of itself."""
        return self.ask("GET", "/healthz").json

    def until(self, holds: Callable[[Any], bool]) -> Any:
        """Wait for a state of the server's health, four minutes at most; return it."""
        end, health = time.monotonic() + 240, None
        while time.monotonic() < end:
            health = self.health()
            if holds(health):
                return health
            threading.Event().wait(0.2)
        raise AssertionError(f"it never came to that: {health}")

    def processes(self, name: str) -> list[psutil.Process]:
        """Return the processes of a deployment."""
        title = f"ServeReplica:colorization:{name}"
        return [
            psutil.Process(pid) for pid, line in self.place.processes().items() if title in line
        ]


@contextmanager
def serving(place: Place, *words: str, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run a server on a free port; it is ended as Ctrl-C does, and leaves nothing behind."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = place.start("serve.py", "--port", str(port), *words, env=env)
    assert process.stdout is not None
    said: list[str] = []
    try:
        for line in process.stdout:
            said.append(line)
            if re.search(r" on http://.*Ctrl-C ends it", line):
                break
        else:
            raise AssertionError(f"the server did not start: {''.join(said)}")
        reader = threading.Thread(target=lambda: said.extend(process.stdout or ()))
        reader.start()
        yield Server(port, process.pid, place, said)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=240) == 0, "".join(said)
        reader.join()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def picture(width: int = 60, height: int = 40) -> bytes:
    """Return the PNG of a gray ramp."""
    import numpy as np

    from colorization.pictures import Picture, encode_picture

    ramp = np.linspace(0, 255, width, dtype=np.uint8)[None, :, None]
    return encode_picture(Picture(np.tile(ramp, (height, 1, 3))), ".png")
