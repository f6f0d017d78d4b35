"""A registered model behind the server that `mlflow models serve` starts."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError


class ModelServer:
    """The server's processes; to be left with `with`."""

    def __init__(self, model_uri: str, tracking_uri: str, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "server.log"
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model_uri]
        command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
        own = {"MLFLOW_TRACKING_URI": tracking_uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
        # MLflow starts uvicorn by its name.
        own["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--workers", "1"],
                cwd=folder,
                env={**os.environ, **own},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> "ModelServer":
        pause = threading.Event()
        while self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/ping", timeout=60):
                    return self
            except (HTTPError, URLError):  # not listening yet
                pause.wait(0.5)
        raise AssertionError(f"the server did not start: {self._log.read_text()[-2000:]}")

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def post(self, body: bytes, content: str = "application/json") -> tuple[int, Any]:
        """Send a request; return its status and its answer, JSON where that is what it is."""
        headers = {"Content-Type": content}
        request = urllib.request.Request(f"{self.url}/invocations", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.loads(answer.read())
        except HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                return error.code, json.loads(text)
            except json.JSONDecodeError:
                return error.code, text

    def color(
        self, pictures: Sequence[bytes | str], params: dict[str, Any] | None = None
    ) -> tuple[int, Any]:
        """Send pictures; return the status and the rows of the answer, or the error."""
        rows = [[base64.b64encode(p).decode() if isinstance(p, bytes) else p] for p in pictures]
        request: dict[str, Any] = {"dataframe_split": {"columns": ["picture"], "data": rows}}
        if params is not None:
            request["params"] = params
        status, answer = self.post(json.dumps(request).encode())
        return status, answer["predictions"] if status == 200 else answer
