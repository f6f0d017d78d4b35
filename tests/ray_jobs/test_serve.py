"""serve.py as a person runs it: an alias followed under load, lost processes, hostile clients."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO

import pytest
from PIL import Image

from bombs import bomb
from champion import ALIAS
from registered_models import NAME, Trained, register_again, train
from served import Reply, Server, picture, serving
from started_cluster import started_cluster
from study_commands import Place, new_place

# isort: split
from mlflow import MlflowClient

from colorization.inference import PictureColorizer
from colorization.photographs import colorize_bytes
from stored_models import load_model

pytestmark = pytest.mark.slow

ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Served:
    """A champion behind a server of two replicas."""

    server: Server
    trained: Trained
    place: Place

    def promote(self, version: str) -> None:
        MlflowClient(self.trained.uri).set_registered_model_alias(NAME, ALIAS, version)


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[object], str]
) -> Iterator[Served]:
    with new_place(tmp_path_factory.mktemp("served")) as place:
        trained = train(place.folder / "trained", new_store)
        version = register_again(trained)
        MlflowClient(trained.uri).set_registered_model_alias(NAME, ALIAS, version)
        words = ["--model", f"models:/{NAME}@{ALIAS}", "--tracking-uri", trained.uri]
        words += ["--replicas", "2", "--max-waiting", "12", "--max-megabytes", "2"]
        words += ["--upload-timeout", "10", "--max-megapixels", "20"]
        with serving(place, *words, env=ONE_THREAD) as server:
            yield Served(server, trained, place)
        nothing_is_left(place)


def nothing_is_left(place: Place) -> None:
    """Wait until all processes are gone: those of Ray's dashboard notice the end themselves."""
    for _ in range(600):
        if not place.processes():
            return
        threading.Event().wait(0.1)
    raise AssertionError(f"processes were left behind: {place.processes()}")


class Load:
    """Clients that ask without pause for as long as the block lasts."""

    def __init__(self, server: Server, clients: int) -> None:
        self._server, self._stop = server, threading.Event()
        self.replies: list[Reply] = []
        self._pool = ThreadPoolExecutor(clients)
        self._clients = clients

    def _ask(self) -> None:
        while not self._stop.is_set():
            self.replies.append(self._server.color(picture()))

    def __enter__(self) -> "Load":
        self._tasks = [self._pool.submit(self._ask) for _ in range(self._clients)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for task in self._tasks:
            task.result(timeout=120)
        self._pool.shutdown()


def test_pictures_are_the_command_lines_and_health_metrics_and_openapi_are_there(
    served: Served, one_thread: None
) -> None:
    colored = served.server.color(picture(203, 150), saturation=1.5)
    assert (colored.status, colored.headers["content-type"]) == (200, "image/png")
    stored = load_model(served.trained.run)
    colorizer = PictureColorizer(stored.model, stored.experiment.data.size)
    from colorization.coloring import ColorOptions

    expected = colorize_bytes(colorizer, picture(203, 150), ColorOptions(saturation=1.5))
    assert [colored.body] == expected
    health = served.server.until(lambda found: found["replicas"].get("RUNNING") == 2)
    assert health["status"] == "ready"
    assert health["version"] == colored.headers["x-model-version"]
    metrics = served.server.ask("GET", "/metrics").body.decode()
    assert 'colorization_requests_total{path="/api/colorize",status="200"}' in metrics
    assert "/api/colorize" in served.server.ask("GET", "/openapi.json").json["paths"]
    assert b"<title>Colorization</title>" in served.server.ask("GET", "/").body


def test_an_alias_that_moves_under_load_is_followed_without_a_failed_request(
    served: Served,
) -> None:
    before = served.server.health()["version"]
    version = register_again(served.trained)
    with Load(served.server, 8) as load:
        served.promote(version)
        served.server.until(lambda health: health["version"] == version)
        while {reply.headers.get("x-model-version") for reply in load.replies[-16:]} != {version}:
            assert load.replies[-1].status == 200, load.replies[-1]
    assert {reply.status for reply in load.replies} == {200}
    assert {reply.headers["x-model-version"] for reply in load.replies} == {before, version}
    assert any(f"now {NAME} version {version}" in line for line in served.server.said)


def test_a_version_that_cannot_be_loaded_leaves_the_one_before_in_place(served: Served) -> None:
    good = served.server.health()["version"]
    client = MlflowClient(served.trained.uri)
    broken = client.create_model_version(NAME, source=f"file://{served.place.folder}/nowhere")
    served.promote(broken.version)
    health = served.server.until(lambda found: found["registry"] != "")
    assert health["version"] == good
    assert served.server.color(picture()).headers["x-model-version"] == good
    served.promote(good)
    assert served.server.until(lambda found: found["registry"] == "")["version"] == good


def test_a_replica_that_is_killed_under_load_comes_back_and_costs_no_request(
    served: Served,
) -> None:
    served.server.until(lambda health: health["replicas"].get("RUNNING") == 2)
    victim = served.server.processes("colorist")[0]
    with Load(served.server, 4) as load:
        while len(load.replies) < 8:
            assert not load.replies or load.replies[-1].status == 200
        victim.kill()
        victim.wait(30)
        served.server.until(lambda health: health["replicas"].get("RUNNING") != 2)
        served.server.until(lambda health: health["replicas"].get("RUNNING") == 2)
    assert {reply.status for reply in load.replies} == {200}


def test_when_the_interface_is_killed_it_comes_back(served: Served) -> None:
    (interface,) = served.server.processes("front")
    interface.kill()
    interface.wait(30)

    def answers() -> bool:
        reply = served.server.color(picture())
        assert reply.status in (200, 500, 503), reply
        return reply.status == 200

    for _ in range(300):
        if answers():
            break
        threading.Event().wait(0.2)
    else:
        raise AssertionError("it did not come back")


def test_hostile_requests_get_a_reason_and_the_server_goes_on(served: Served) -> None:
    server = served.server
    whole = picture()
    post = b"POST /api/colorize HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
    found = {
        "bomb": server.color(bomb(10_000)),
        "cut": server.color(whole[: len(whole) // 2]),
        "type": server.color(b"<html>", "text/html"),
        "lie": server.color(b"GIF89a nothing", "image/png"),
        "option": server.color(whole, saturation="9"),
        "draws": server.color(whole, samples=4),
        "above": server.ask("GET", "/../../etc/passwd"),
        "encoded": server.ask("GET", "/%2e%2e/%2e%2e/etc/passwd"),
        "host": server.ask("GET", "/api/model", headers={"Host": "evil.example"}),
        "large": server.color(bytes(3_000_000)),
    }
    statuses = {name: reply.status for name, reply in found.items()}
    assert statuses == {
        "bomb": 413, "cut": 422, "type": 415, "lie": 422, "option": 422, "draws": 422,
        "above": 404, "encoded": 404, "host": 400, "large": 413,
    }  # fmt: skip
    assert all(reply.json["error"] for name, reply in found.items() if name != "host")
    assert "10000 x 10000 pixels" in found["bomb"].json["error"]
    assert "draws nothing" in found["draws"].json["error"]
    announced = server.raw(post + b"Content-Length: 1000000000000\r\n\r\n", bytes(1000))
    assert b" 413 " in announced
    slow = server.raw(post + b"Content-Length: 1000\r\n\r\n", whole[:20])
    assert b" 408 " in slow
    assert b"too slow" in slow
    endless = b"Transfer-Encoding: chunked\r\n\r\n" + b"30000\r\n" + bytes(0x30000) + b"\r\n"
    assert b" 413 " in server.raw(post + endless, *[b"30000\r\n" + bytes(0x30000) + b"\r\n"] * 11)
    for _ in range(20):  # they go before there is an answer
        with socket.create_connection(("127.0.0.1", server.port)) as line:
            line.sendall(post + f"Content-Length: {len(whole)}\r\n\r\n".encode() + whole)
    reply = server.color(whole)
    assert reply.status == 200
    assert Image.open(BytesIO(reply.body)).size == (60, 40)
    assert server.until(lambda health: health["waiting"] == 0)["status"] == "ready"


def test_more_requests_than_may_wait_are_told_to_come_again(served: Served) -> None:
    large = picture(2000, 1500)
    with ThreadPoolExecutor(24) as pool:
        replies = list(pool.map(lambda _: served.server.color(large), range(24)))
    assert {reply.status for reply in replies} == {200, 503}
    assert {r.headers["retry-after"] for r in replies if r.status == 503} == {"5"}


def test_memory_stays_as_it_is_over_hundreds_of_requests(served: Served) -> None:
    def resident() -> int:
        kinds = ("colorist", "front")
        return sum(p.memory_info().rss for kind in kinds for p in served.server.processes(kind))

    def ask(count: int) -> None:
        with ThreadPoolExecutor(4) as pool:
            replies = list(pool.map(lambda _: served.server.color(picture(320, 240)), range(count)))
        assert {reply.status for reply in replies} == {200}

    ask(100)
    before = resident()
    ask(300)
    assert resident() - before < 60e6


def test_an_address_in_use_and_a_model_that_is_not_there_are_said_before_ray_starts(
    served: Served,
) -> None:
    with new_place(served.place.folder / "second") as place:
        run = str(served.trained.run)
        for words, message in [
            (["--model", run, "--port", str(served.server.port)], "is in use"),
            (["--model", run, "--host", "example.org"], "--host: found 'example.org'"),
            (["--model", run, "--batch", "0"], "--batch: found 0"),
            (["--model", "nowhere"], "nowhere: there is no such folder"),
            (
                ["--model", f"models:/{NAME}@nobody", "--tracking-uri", served.trained.uri],
                "has no such model",
            ),
            (
                ["--model", f"models:/{NAME}@champion", "--tracking-uri", "http://127.0.0.1:9"],
                "does not answer",
            ),
        ]:
            done = place.run("serve.py", "--port", "18765", *words)
            assert done.code == 2, done.output
            assert message in done.output
            assert "Traceback" not in done.output
        assert not list(place.ray.iterdir())


def test_on_a_cluster_where_something_is_served_another_server_is_refused_and_ends_nothing(
    served: Served,
) -> None:
    with (
        new_place(served.place.folder / "joined") as place,
        started_cluster(place) as address,
    ):
        words = ["--model", str(served.trained.run), "--replicas", "1"]
        env = {**ONE_THREAD, "RAY_ADDRESS": address}
        with serving(place, *words, env=env) as first:
            done = place.run("serve.py", *words, "--port", "18767", env=env)
            assert done.code == 2, done.output
            assert "Ray Serve runs on this cluster already" in done.output
            assert first.color(picture()).status == 200
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5):
            pass  # the cluster goes on


def test_sigterm_ends_it_and_leaves_no_process(served: Served) -> None:
    with new_place(served.place.folder / "third") as place:
        words = ["--model", str(served.trained.run), "--replicas", "1", "--port", "18766"]
        process = place.start("serve.py", *words, env=ONE_THREAD)
        assert process.stdout is not None
        said = next(line for line in process.stdout if "Ctrl-C ends it" in line)
        assert "trial-0003 on http://127.0.0.1:18766" in said
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(timeout=240) == 0
        nothing_is_left(place)
