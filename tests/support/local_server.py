"""The server's application in this process, without Ray: for its page, and for bad clients."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import uvicorn

from coloring_request import Answer, ColoringRequest, Refusal
from picture_service import PictureService
from served_model import Standing
from web_app import Backend, build_app
from web_limits import Limits


class InProcess:
    """Colors one picture after the other, as long as it may."""

    def __init__(self, service: PictureService) -> None:
        self._service, self._hands = service, ThreadPoolExecutor(1)
        self.asked: list[ColoringRequest] = []
        self.may = threading.Event()
        self.may.set()

    async def color(self, request: ColoringRequest) -> Answer:
        self.asked.append(request)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._hands, self._color, request)

    def _color(self, request: ColoringRequest) -> Answer:
        self.may.wait(60)
        asked = self._service.read(request)
        if isinstance(asked, Refusal):
            return asked
        (answer,) = self._service.answer([asked])
        assert answer is not None
        return answer

    async def standing(self) -> Standing:
        return Standing(self._service.about, lacks=self._service.lacks())

    async def replicas(self) -> dict[str, int]:
        return {"RUNNING": 1}


@contextmanager
def local_server(backend: Backend, limits: Limits | None = None) -> Iterator[str]:
    """Serve on a free port of loopback; yield the address."""
    app = build_app(backend, limits or Limits())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app, log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()
