"""AWS's instance metadata, as far as spot machines read them, on loopback."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "AQAEAfake"


class Metadata(ThreadingHTTPServer):
    """Answers as version 2 does: nothing without a token, 404 while there is no notice."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.notice: str | None = None
        self.asked = threading.Semaphore(0)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def take_back_in(self, seconds: float) -> None:
        """Give the notice that AWS does, to the second."""
        then = datetime.now(UTC) + timedelta(seconds=seconds)
        text = then.isoformat(timespec="seconds").replace("+00:00", "Z")
        self.notice = json.dumps({"action": "terminate", "time": text})


class _Handler(BaseHTTPRequestHandler):
    server: Metadata  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_PUT(self) -> None:
        lasting = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        found = self.path == "/latest/api/token" and lasting.isdigit()
        self._answer(200 if found else 400, TOKEN if found else "")

    def do_GET(self) -> None:
        if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            self._answer(401, "")
        elif self.path == "/latest/meta-data/spot/instance-action" and self.server.notice:
            self._answer(200, self.server.notice)
        else:
            self._answer(404, "")
        self.server.asked.release()

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def metadata_server() -> Iterator[Metadata]:
    """Serve until the end."""
    with Metadata() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
