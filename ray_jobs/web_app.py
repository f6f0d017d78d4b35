"""The HTTP interface: a picture in, a colored picture out, and what watches over that."""

import asyncio
import base64
import logging
import re
import time
from importlib.metadata import version
from typing import Protocol

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coloring_request import Answer, Colored, ColoringRequest
from served_model import Standing
from web_answers import (
    Fault,
    Health,
    ModelAnswer,
    Sample,
    Samples,
    coloring_answers,
    coloring_request,
)
from web_limits import Gate, Held, Limits, Problem
from web_metrics import CONTENT_TYPE_LATEST, Metrics
from web_page import HEADERS, add_page
from web_request import CONTENT_TYPES, read_request

_LOOPBACK = {"localhost", "127.0.0.1", "[::1]"}
_NO_ANSWER = 499  # the client went before there was one
_LOG = logging.getLogger(__name__)


class Backend(Protocol):
    """What does the work behind the interface."""

    async def color(self, request: ColoringRequest) -> Answer:
        """Color a picture."""
        ...

    async def standing(self) -> Standing:
        """Return the model in use, and what stands against its alias and against options."""
        ...

    async def replicas(self) -> dict[str, int]:
        """Count the replicas that color, by state; those of "RUNNING" do."""
        ...


def build_app(
    backend: Backend, limits: Limits, loopback: bool = True, host: str = "127.0.0.1"
) -> FastAPI:
    """Make the application; on `loopback` requests that were sent to other names are refused.

    (A page of another site could have its name point here.) `host` is where it listens.
    """
    app = FastAPI(
        title="Colorization",
        version=version("colorization"),
        summary="Gives gray photographs their colors.",
        docs_url=None,  # FastAPI's pages load scripts from elsewhere
        redoc_url=None,
    )
    gate, metrics = Gate(limits.waiting, "waiting"), Metrics()
    sending = Gate(limits.uploads, "being sent")  # slow lines take no place from what is there
    held = Held(limits.held_megabytes)
    add_page(app)

    @app.post(
        "/api/colorize",
        responses=coloring_answers(),
        openapi_extra=coloring_request(),
        response_class=Response,
        summary="Color a picture",
    )
    async def colorize(request: Request) -> Response:
        """The body is the encoded picture, and the address has the options; or it is JSON.

        One sample is answered by the encoded picture, the bytes that the command line writes; it
        has the size of the one sent. Several are answered by JSON.
        """
        with held.enter() as hold:
            with sending.enter():
                asked = await read_request(request, limits, hold)
            with gate.enter():
                try:
                    async with asyncio.timeout(limits.seconds):
                        answer = await backend.color(asked)
                except TimeoutError as error:
                    raise Problem(
                        504, f"coloring took longer than {limits.seconds:g} s, wait included"
                    ) from error
        return _written(answer)

    @app.get("/api/model", summary="What the server has and takes")
    async def model() -> ModelAnswer:
        standing = await backend.standing()
        found = standing.about
        return ModelAnswer(
            model=found.label,
            version=found.version,
            family=found.family,
            draws=found.draws,
            takes_reference=found.takes_reference,
            takes_instances=found.takes_instances,
            lacks=sorted(standing.lacks),
            max_megabytes=limits.megabytes,
            max_megapixels=limits.megapixels,
        )

    @app.get("/healthz", responses={503: {"model": Health}}, summary="Whether it works")
    async def healthz(response: Response) -> Health:
        standing, replicas = await asyncio.gather(backend.standing(), backend.replicas())
        ready = replicas.get("RUNNING", 0) > 0
        response.status_code = 200 if ready else 503
        return Health(
            status="ready" if ready else "no replica is ready",
            model=standing.about.label,
            version=standing.about.version,
            replicas=replicas,
            waiting=gate.inside,
            registry=standing.registry,
        )

    @app.get("/metrics", response_class=Response, summary="Counters, for Prometheus")
    async def counters() -> Response:
        standing = await backend.standing()
        return Response(metrics.text(gate.inside, standing.about), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(Problem)
    async def refuse(request: Request, problem: Problem) -> Response:
        return _fault(problem.status, problem.reason, problem.headers)

    @app.exception_handler(HTTPException)
    async def refuse_plainly(request: Request, error: HTTPException) -> Response:
        reason = f"{request.method} {request.url.path[:200]}: {error.detail}"
        return _fault(error.status_code, reason, dict(error.headers or {}))

    if loopback:
        own = f"[{host}]" if ":" in host else host
        app.add_middleware(_Addressed, hosts={*_LOOPBACK, own.lower()})
    app.add_middleware(
        _Watched, metrics=metrics, paths={getattr(route, "path", "") for route in app.routes}
    )
    return app


def _written(answer: Answer) -> Response:
    if not isinstance(answer, Colored):
        raise Problem(answer.status, answer.reason)
    kind = CONTENT_TYPES[answer.suffix]
    headers = {"X-Model": _header(answer.model), "X-Model-Version": answer.version}
    if len(answer.pictures) == 1:
        return Response(answer.pictures[0], media_type=kind, headers=headers)
    samples = [
        Sample(type=kind, data=base64.b64encode(picture).decode()) for picture in answer.pictures
    ]
    several = Samples(model=answer.model, pictures=samples)
    return Response(several.model_dump_json(), media_type="application/json", headers=headers)


def _header(text: str) -> str:
    return text.encode("latin-1", "replace").decode("latin-1")


def _fault(status: int, reason: str, headers: dict[str, str]) -> Response:
    return JSONResponse(Fault(error=reason).model_dump(), status, headers)


class _Addressed:
    """Refuses requests that were sent to a name which is none of this server's."""

    def __init__(self, app: ASGIApp, hosts: set[str]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "")
            if re.sub(r":\d*$", "", host).lower() not in self._hosts:
                own = ", ".join(sorted(self._hosts))
                reason = f"Host: found {host[:200]!r}; this server answers to {own} alone"
                app = _fault(400, reason, {})
        await app(scope, receive, send)


class _Watched:
    """Counts requests, and puts the headers on each answer that keep browsers from mischief.

    An error that nobody expected is answered here: what Starlette calls for it lies further out.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: set[str]) -> None:
        self._app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), _NO_ANSWER

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        try:
            await self._app(scope, receive, note)
        except Exception as error:
            if status != _NO_ANSWER:
                raise
            _LOG.exception("%s %s", scope["method"], scope["path"])
            said = f"the server failed: {type(error).__name__}; its log says more"
            await _fault(500, said, {})(scope, receive, note)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.count(path, status, time.perf_counter() - start)
