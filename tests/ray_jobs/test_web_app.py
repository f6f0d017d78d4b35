"""The HTTP interface without a server: what it answers, and what clients can take of it."""

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from asgi import Answer, ask
from bombs import bomb
from coloring_request import Answer as Coloring
from coloring_request import Colored, ColoringRequest, Refusal
from colorization.color_flags import FLAT_NAMES
from colorization.pictures import Picture, encode_picture
from served_model import About, Standing
from web_app import build_app
from web_limits import Limits

PNG = encode_picture(Picture(np.zeros((4, 5, 3), np.uint8)), ".png")
IMAGE = {"content-type": "image/png"}
JSON = {"content-type": "application/json"}


@dataclass
class Echo:
    """Gives back what it gets, once it is let."""

    asked: list[ColoringRequest] = field(default_factory=list)
    may: asyncio.Event | None = None
    answer: Coloring | None = None
    running: int = 2

    async def color(self, request: ColoringRequest) -> Coloring:
        self.asked.append(request)
        if self.may is not None:
            await self.may.wait()
        count = int(request.options.get("samples", 1))
        suffix = request.suffix or ".png"
        return self.answer or Colored([request.picture] * count, suffix, "gan version 3 (ü)", "3")

    async def standing(self) -> Standing:
        about = About("gan version 3 (ü)", "3", "gan", False, False)
        return Standing(about, "MLflow sleeps", {"foreground": "its weights are missing"})

    async def replicas(self) -> dict[str, int]:
        return {"RUNNING": self.running}


def post(
    backend: Echo,
    body: Any = PNG,
    headers: Mapping[str, str] = IMAGE,
    query: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
) -> Answer:
    app = build_app(backend, limits or Limits())
    return asyncio.run(ask(app, "POST", "/api/colorize", body, headers, query))


def get(backend: Echo, path: str) -> Answer:
    return asyncio.run(ask(build_app(backend, Limits()), "GET", path))


def body(**said: Any) -> bytes:
    return json.dumps({"picture": base64.b64encode(PNG).decode(), **said}).encode()


def test_a_picture_is_answered_by_a_picture_that_says_which_model_made_it() -> None:
    backend = Echo()
    answer = post(backend, query={"saturation": 1.5, "format": "webp"})
    assert (answer.status, answer.body) == (200, PNG)
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["x-model-version"] == "3"
    assert backend.asked == [ColoringRequest(PNG, {"saturation": "1.5"}, ".webp")]


def test_several_samples_come_as_json_and_a_mask_may_travel_in_one() -> None:
    backend = Echo()
    answer = post(backend, body(samples=2, mask="AAAA", temperature=None), JSON)
    assert answer.json["model"] == "gan version 3 (ü)"
    pictures = [base64.b64decode(sample["data"]) for sample in answer.json["pictures"]]
    assert pictures == [PNG, PNG]
    assert backend.asked[0].options == {"samples": 2, "mask": "AAAA", "temperature": None}


@pytest.mark.parametrize(
    ("content", "headers", "query", "status", "reason"),
    [
        (PNG, {}, {}, 415, "Content-Type: found none"),
        (PNG, {"content-type": "multipart/form-data; boundary=x"}, {}, 415, "multipart/form-data"),
        (b"hello", IMAGE, {}, 422, "found text"),
        (b"", IMAGE, {}, 422, "an empty file"),
        (PNG[:40], IMAGE, {}, 422, "needed is a whole picture"),
        (b"%PDF-1.4 ...", IMAGE, {}, 422, "a PDF document"),
        (b"{" * 100_000, JSON, {}, 422, "not JSON"),
        (b"[" * 100_000, JSON, {}, 422, "not JSON"),
        (b"\xff\xfe", JSON, {}, 422, "not JSON"),
        (b"[1, 2]", JSON, {}, 422, "has no picture"),
        (b'{"picture": "/etc/passwd!"}', JSON, {}, 422, "no base64"),
        (body(), JSON, {"format": "exe"}, 422, "format: found 'exe'; jpg, png, webp, tif"),
        (PNG, IMAGE, {"seed": [1, 2]}, 422, "seed: given twice"),
        (body(seed=1), JSON, {"seed": 1}, 422, "seed: given in the address and in the body"),
    ],
)
def test_a_request_that_is_of_no_use_is_refused_with_the_reason(
    content: bytes, headers: dict[str, str], query: dict[str, Any], status: int, reason: str
) -> None:
    backend = Echo()
    answer = post(backend, content, headers, query)
    assert answer.status == status
    assert reason in answer.json["error"]
    assert not backend.asked


def test_too_many_pixels_are_known_before_they_are_decoded() -> None:
    answer = post(Echo(), bomb())
    assert answer.status == 413
    assert "12000 x 12000 pixels; this server takes at most 100 megapixels" in answer.json["error"]


def test_announced_bytes_beyond_the_limit_are_not_read_at_all() -> None:
    announced = {**IMAGE, "content-length": str(10**12)}
    answer = post(Echo(), PNG, announced)
    assert answer.status == 413
    assert answer.read == 0


def test_bytes_that_nobody_announced_are_read_up_to_the_limit_alone() -> None:
    answer = post(Echo(), [bytes(300_000)] * 100, limits=Limits(megabytes=1))
    assert answer.status == 413
    assert "at most 1 MB" in answer.json["error"]
    assert answer.read == 1_200_000


def test_an_upload_that_stands_still_ends_with_408() -> None:
    async def never() -> bytes:
        await asyncio.Event().wait()
        return b""

    answer = post(Echo(), [PNG[:20], never], limits=Limits(upload_seconds=0.05))
    assert answer.status == 408
    assert "too slow" in answer.json["error"]


def test_an_upload_that_breaks_off_costs_nothing_else() -> None:
    assert post(Echo(), [PNG[:20]]).status == 400


def test_coloring_that_takes_too_long_ends_with_504() -> None:
    answer = post(Echo(may=asyncio.Event()), limits=Limits(seconds=0.05))
    assert answer.status == 504


def test_what_the_replicas_refuse_keeps_its_status_and_reason() -> None:
    answer = post(Echo(answer=Refusal(422, "saturation: found 9")))
    assert (answer.status, answer.json) == (422, {"error": "saturation: found 9"})


def test_more_than_may_wait_are_told_to_come_again_and_the_others_are_served() -> None:
    backend = Echo(may=asyncio.Event())
    app = build_app(backend, Limits(waiting=3))

    async def crowd() -> tuple[list[Answer], Answer, Answer]:
        tasks = [
            asyncio.create_task(ask(app, "POST", "/api/colorize", PNG, IMAGE)) for _ in range(3)
        ]
        while len(backend.asked) < 3:
            await asyncio.sleep(0)
        fourth = await ask(app, "POST", "/api/colorize", PNG, IMAGE)
        counters = await ask(app, "GET", "/metrics")
        assert backend.may is not None
        backend.may.set()
        return await asyncio.gather(*tasks), fourth, counters

    first, fourth, counters = asyncio.run(crowd())
    assert [answer.status for answer in first] == [200, 200, 200]
    assert fourth.status == 503
    assert fourth.headers["retry-after"] == "5"
    assert b"colorization_waiting 3.0" in counters.body


def test_health_says_what_colors_and_why_the_alias_is_not_followed() -> None:
    answer = get(Echo(), "/healthz")
    assert answer.status == 200
    assert answer.json == {
        "status": "ready",
        "model": "gan version 3 (ü)",
        "version": "3",
        "replicas": {"RUNNING": 2},
        "waiting": 0,
        "registry": "MLflow sleeps",
    }
    assert get(Echo(running=0), "/healthz").status == 503


def test_metrics_count_requests_by_status_and_strange_paths_together() -> None:
    app = build_app(Echo(), Limits())

    async def some() -> str:
        await ask(app, "POST", "/api/colorize", PNG, IMAGE)
        await ask(app, "POST", "/api/colorize", b"hello", IMAGE)
        for number in range(3):
            await ask(app, "GET", f"/strange/{number}")
        return (await ask(app, "GET", "/metrics")).body.decode()

    text = asyncio.run(some())
    assert 'colorization_requests_total{path="/api/colorize",status="200"} 1.0' in text
    assert 'colorization_requests_total{path="/api/colorize",status="422"} 1.0' in text
    assert 'colorization_requests_total{path="other",status="404"} 3.0' in text
    assert 'colorization_request_seconds_count{path="/api/colorize"} 2.0' in text
    assert 'colorization_model{model="gan version 3 (ü)",version="3"} 1.0' in text


@pytest.mark.parametrize(
    "path",
    [
        "/docs",
        "/redoc",
        "/../serve.py",
        "/page/index.html",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//page.js",
    ],
)
def test_what_has_no_address_is_not_found(path: str) -> None:
    assert get(Echo(), path).status == 404


def test_a_site_whose_name_points_here_is_refused_where_only_this_machine_is_served() -> None:
    elsewhere = {**IMAGE, "host": "evil.example:8000"}
    refused = post(Echo(), headers=elsewhere)
    assert refused.status == 400
    assert "Host: found 'evil.example:8000'" in refused.json["error"]
    app = build_app(Echo(), Limits(), loopback=False)
    answer = asyncio.run(ask(app, "POST", "/api/colorize", PNG, elsewhere))
    assert answer.status == 200


@pytest.mark.parametrize(
    ("listens", "named"), [("127.0.0.2", "127.0.0.2:8000"), ("::1", "[::1]:8000"), ("::1", "[::1]")]
)
def test_the_loopback_address_that_it_listens_on_is_answered(listens: str, named: str) -> None:
    app = build_app(Echo(), Limits(), host=listens)
    assert asyncio.run(ask(app, "GET", "/healthz", headers={"host": named})).status == 200


def test_an_error_that_nobody_expected_is_counted_and_answered_like_others() -> None:
    class Broken(Echo):
        async def color(self, request: ColoringRequest) -> Coloring:
            raise KeyError(request.suffix)

    app = build_app(Broken(), Limits())

    async def both() -> tuple[Answer, Answer]:
        failed = await ask(app, "POST", "/api/colorize", PNG, IMAGE)
        return failed, await ask(app, "GET", "/metrics")

    failed, counters = asyncio.run(both())
    assert failed.status == 500
    assert failed.json == {"error": "the server failed: KeyError; its log says more"}
    assert "content-security-policy" in failed.headers
    assert b'{path="/api/colorize",status="500"} 1.0' in counters.body


def test_uploads_that_stand_still_take_no_place_from_a_picture_that_is_there() -> None:
    async def crowd() -> tuple[Answer, Answer]:
        app, begun, gone = build_app(Echo(), Limits(waiting=1)), [], asyncio.Event()

        async def stands() -> bytes:
            begun.append(1)
            await gone.wait()
            return b""

        async def send(count: int) -> list[asyncio.Task[Answer]]:
            sent = [
                asyncio.create_task(ask(app, "POST", "/api/colorize", [PNG[:20], stands], IMAGE))
                for _ in range(count)
            ]
            while len(begun) < count:
                await asyncio.sleep(0)
            return sent

        slow = await send(3)
        served = await ask(app, "POST", "/api/colorize", PNG, IMAGE)
        begun.clear()
        slow += await send(1)
        fifth = await ask(app, "POST", "/api/colorize", PNG, IMAGE)
        gone.set()
        await asyncio.gather(*slow)
        return served, fifth

    served, fifth = asyncio.run(crowd())
    assert served.status == 200
    assert fifth.status == 503
    assert "4 pictures are being sent already" in fifth.json["error"]


def test_uploads_hold_no_more_together_than_those_that_may_wait_could() -> None:
    async def crowd() -> tuple[Answer, Answer]:
        app, sent, go = build_app(Echo(), Limits(megabytes=0.001, waiting=1)), [], asyncio.Event()

        async def stands() -> bytes:
            sent.append(1)
            await go.wait()
            return b""

        half = bytes(600)
        first = asyncio.create_task(ask(app, "POST", "/api/colorize", [half, stands], IMAGE))
        while not sent:
            await asyncio.sleep(0)
        second = await ask(app, "POST", "/api/colorize", [half], IMAGE)
        go.set()
        await first
        return second, await ask(app, "POST", "/api/colorize", PNG + half, IMAGE)

    second, third = asyncio.run(crowd())
    assert second.status == 503
    assert "fill the memory" in second.json["error"]
    assert second.headers["retry-after"] == "5"
    assert third.status == 200


def test_no_upload_lasts_longer_than_minutes_however_many_bytes_are_allowed() -> None:
    assert Limits(megabytes=1).longest_upload == 35
    assert Limits(megabytes=2000).longest_upload == 270


def test_the_page_forbids_itself_everything_from_elsewhere() -> None:
    answer = get(Echo(), "/")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    for name in ("page.css", "page.js", "request.js", "icon.svg"):
        assert get(Echo(), f"/{name}").status == 200


def test_openapi_names_every_option_and_every_answer() -> None:
    described = get(Echo(), "/openapi.json").json["paths"]["/api/colorize"]["post"]
    in_address = {parameter["name"] for parameter in described["parameters"]}
    assert in_address >= set(FLAT_NAMES) - {"mask", "reference"}
    whole = described["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert set(whole) == {*FLAT_NAMES, "picture", "format"}
    assert all("description" in option for option in whole.values())
    assert {"200", "408", "413", "415", "422", "503", "504"} <= set(described["responses"])


def test_the_server_tells_its_limits_and_what_it_lacks() -> None:
    app = build_app(Echo(), replace(Limits(), megabytes=3, megapixels=7))
    told = asyncio.run(ask(app, "GET", "/api/model")).json
    assert (told["max_megabytes"], told["max_megapixels"]) == (3, 7)
    assert told["lacks"] == ["foreground"]
