"""Requests to an ASGI application without a server or a network, also those of a bad client."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

Part = bytes | Callable[[], Awaitable[bytes]]


@dataclass(frozen=True)
class Answer:
    """What an application answered, and how much of the body it had read by then."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    read: int

    @property
    def json(self) -> Any:
        """Return the body's JSON."""
        return json.loads(self.body)


async def ask(
    app: Any,
    method: str,
    path: str,
    body: bytes | Sequence[Part] = b"",
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, Any] | None = None,
) -> Answer:
    """Send a request; a body of several parts has no announced length, and then the client goes.

    A part may be a function that is awaited for it.
    """
    parts = [body] if isinstance(body, bytes) else list(body)
    sent = {"host": "127.0.0.1:8000", **(headers or {})}
    if isinstance(body, bytes):
        sent.setdefault("content-length", str(len(body)))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": urlencode(query or {}, doseq=True).encode(),
        "headers": [(k.lower().encode(), v.encode()) for k, v in sent.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    given = 0

    async def receive() -> dict[str, Any]:
        nonlocal given
        if not parts:
            return {"type": "http.disconnect"}
        part = parts.pop(0)
        content = part if isinstance(part, bytes) else await part()
        given += len(content)
        more = bool(parts) or not isinstance(body, bytes)
        return {"type": "http.request", "body": content, "more_body": more}

    said: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    await app(scope, receive, send)
    start = next(message for message in said if message["type"] == "http.response.start")
    content = b"".join(message.get("body", b"") for message in said)
    names = {k.decode("latin-1"): v.decode("latin-1") for k, v in start["headers"]}
    return Answer(start["status"], names, content, given)
