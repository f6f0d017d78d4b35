"""A server of pictures on Ray Serve: started, kept to its model's alias, ended."""

import errno
import ipaddress
import logging
import signal
import socket
import threading
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from rich.console import Console
from rich.text import Text

from cluster import Node, Shape, connect, find_running
from colorization.config import ConfigError
from model_source import Follower, ModelSource, read_first
from web_limits import Limits

_LOOK_EVERY = 3.0  # seconds between looks at the alias
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SPARE = 100  # requests for the page, health and metrics beside those that wait for colors


@dataclass(frozen=True)
class ServingJob:
    """What is served where, by how many."""

    model: str
    tracking_uri: str
    host: str = "127.0.0.1"
    port: int = 8000
    replicas: int | None = None
    gpus: float | None = None
    batch: int = 1
    limits: Limits = field(default_factory=Limits)


def serve_model(job: ServingJob) -> int:
    """Serve until Ctrl-C or SIGTERM; return 0.

    Raises ConfigError for what cannot work, before Ray is started where it is known by then.
    """
    console = Console(highlight=False, soft_wrap=True)
    loopback = _is_loopback(job.host)
    _refuse_taken(job.host, job.port)
    source = ModelSource(job.model, job.tracking_uri)
    address, model = read_first(source)
    follower = Follower(source, address, model)
    ending, joined = _Ending(), None
    try:
        joined = find_running()
        nodes = connect(joined)
        ending.catch_signals()  # Ray has a handler of its own
        shelf = _start(job, nodes, follower, loopback, ending)
        shown = f"[{job.host}]" if ":" in job.host else job.host
        console.print(f"{model.about.label} on http://{shown}:{job.port} (Ctrl-C ends it)")
        for option, why in _lacking(shelf).items():
            console.print(Text(f"{option} is not offered: {why}", style="yellow"))
        if not loopback:
            console.print(_WARNING.format(host=job.host), style="yellow")
        ending.raises = False
        _follow(follower, shelf, ending.came, console)
    except KeyboardInterrupt:
        console.print("ended before it was ready")
    finally:
        ending.raises = False
        _stop(joined is not None and ending.serves)
        ending.give_back()
    return 0


_WARNING = (
    "--host {host}: whoever reaches this machine can have pictures colored; nothing is encrypted "
    "and nobody is asked who they are. Put a server that does both in front of it."
)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ConfigError(
            f"--host: found {host!r}; needed is an address of this machine: 127.0.0.1, or 0.0.0.0 "
            "for all that can be reached from elsewhere"
        ) from None


def _refuse_taken(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                reason = f"--port: {port} is in use by another program on {host}: choose another"
            else:
                reason = f"--host, --port: {host}:{port}: {error.strerror}"
            raise ConfigError(reason) from error


def _shape(job: ServingJob, nodes: list[Node]) -> tuple[int, Shape]:
    """Return how many replicas there are to be, and what each asks for."""
    gpus = job.gpus
    if gpus is None:
        gpus = 1.0 if any(node.gpus >= 1 for node in nodes) else 0.0
    shape = Shape(1, 1.0, gpus)
    held = sum(node.holds(shape) for node in nodes)
    replicas = job.replicas or (max(1, held) if gpus else min(2, max(1, held)))
    if replicas > held:
        raise ConfigError(
            f"--replicas: {replicas} of 1 CPU and {gpus:g} GPU each never fit, the cluster holds "
            f"{held}: ask for fewer, or a smaller --gpus-per-replica"
        )
    return replicas, shape


def _start(
    job: ServingJob, nodes: list[Node], follower: Follower, loopback: bool, ending: "_Ending"
) -> Any:
    replicas, shape = _shape(job, nodes)
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions
    from ray.serve.schema import LoggingConfig

    from colorist import Colorist
    from front import APPLICATION, COLORIST, FRONT, front
    from shelf import Shelf

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    if serve.status().applications:
        raise ConfigError(
            "Ray Serve runs on this cluster already, and has one address only: end what it serves "
            "(serve shutdown), or unset RAY_ADDRESS to serve from this machine alone"
        )
    shelf: Any = Shelf.remote()  # pyright: ignore[reportFunctionMemberAccess]
    ray.get(shelf.put.remote(follower.model, 0))
    quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
    ending.serves = True
    serve.start(
        proxy_location="HeadOnly",
        http_options=HTTPOptions(host=job.host, port=job.port),
        logging_config=quiet,
    )
    colorists = serve.deployment(
        name=COLORIST,
        num_replicas=replicas,
        max_ongoing_requests=2 * job.batch + 2,
        ray_actor_options={"num_cpus": shape.cpus_per_worker, "num_gpus": shape.gpus_per_worker},
        health_check_period_s=2,
        graceful_shutdown_wait_loop_s=0.2,
        graceful_shutdown_timeout_s=5,
    )(Colorist)
    interface = serve.deployment(
        name=FRONT,
        num_replicas=1,
        max_ongoing_requests=job.limits.uploads + job.limits.waiting + _SPARE,
        max_queued_requests=_SPARE,
        ray_actor_options={"num_cpus": 0},
        health_check_period_s=2,
        graceful_shutdown_wait_loop_s=0.2,
        graceful_shutdown_timeout_s=5,
    )(front(shelf, job.limits, loopback, job.host))
    bound = colorists.bind(shelf, job.batch, job.limits.megapixels)
    try:
        serve.run(interface.bind(bound), name=APPLICATION, route_prefix="/", logging_config=quiet)
    except RuntimeError as error:  # what a replica's constructor raised
        raise ConfigError(f"the server does not start: {str(error).strip()[-2000:]}") from error
    return shelf


def _lacking(shelf: Any) -> dict[str, str]:
    """Return the options that this server's replicas cannot follow, and why."""
    import ray

    standing: Any = ray.get(shelf.standing.remote())
    return dict(standing.lacks)


def _follow(follower: Follower, shelf: Any, ended: threading.Event, console: Console) -> None:
    """Bring each model that the alias moves to until the end, and say so."""
    import ray
    from ray.exceptions import RayActorError

    number, said = 0, ""
    while not ended.wait(_LOOK_EVERY):
        newer = follower.look()
        try:
            held = ray.get(shelf.tell.remote(follower.fault))
            if newer or not held:
                number += 1
                ray.get(shelf.put.remote(follower.model, number))
        except RayActorError:  # it is being started again
            continue
        if newer:
            console.print(f"now {newer.about.label}", markup=False)
        if follower.fault != said:
            said = follower.fault
            line = (
                f"{follower.model.about.label} stays: {said}"
                if said
                else "the alias is followed again"
            )
            console.print(Text(line, style="yellow"))


class _Ending:
    """Ctrl-C and SIGTERM: they interrupt what starts the server, and let it end when it runs."""

    def __init__(self) -> None:
        self.came = threading.Event()
        self.raises = True
        self.serves = False  # whether Ray Serve is this command's, and so its to shut down
        self._before = self.catch_signals()

    def catch_signals(self) -> dict[int, Any]:
        """Take both; return what they did before."""
        return {number: signal.signal(number, self._end) for number in _SIGNALS}

    def give_back(self) -> None:
        """Let them do what they did before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.came.set()
        if self.raises:
            self.raises = False
            raise KeyboardInterrupt


def _stop(serves: bool) -> None:
    """End what this command serves on a cluster that was joined, and its Ray.

    What others serve there goes on; a Ray of one's own ends altogether.
    """
    import ray

    if not ray.is_initialized():
        return
    if serves:
        from ray import serve

        serve.shutdown()
    ray.shutdown()
