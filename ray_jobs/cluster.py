"""The Ray cluster: joined or started, and what fits into it."""

import json
import logging
import os
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from colorization.config import ConfigError

_LATE = 120.0  # seconds after which a start of Ray is worth a word; it may wait for ever


class Shape(NamedTuple):
    """What one trial asks for."""

    workers: int
    cpus_per_worker: float
    gpus_per_worker: float

    def __str__(self) -> str:
        """Write it for a person: `2 workers x (1 CPU + 1 GPU)`."""
        gpus = f" + {self.gpus_per_worker:g} GPU" if self.gpus_per_worker else ""
        plural = "s" if self.workers > 1 else ""
        return f"{self.workers} worker{plural} x ({self.cpus_per_worker:g} CPU{gpus})"


class Node(NamedTuple):
    """What one machine of the cluster has."""

    name: str
    cpus: float
    gpus: float
    id: str = ""  # Ray's; "" where Ray has not been asked

    def holds(self, shape: Shape) -> int:
        """Return how many workers of a shape fit."""
        fits = [int((self.cpus + 1e-6) / shape.cpus_per_worker)]
        if shape.gpus_per_worker:
            per_gpu = int((1 + 1e-6) / shape.gpus_per_worker)
            whole = int((self.gpus + 1e-6) / shape.gpus_per_worker)
            fits.append(int(self.gpus) * per_gpu if per_gpu else whole)
        return min(fits)


def find_running() -> str | None:
    """Return the address of a cluster that answers: RAY_ADDRESS, else one started on this machine.

    Ray's address file may outlive its cluster, and joining a dead one takes minutes to fail.
    """
    if address := os.environ.get("RAY_ADDRESS"):
        return address
    file = _folder() / "ray_current_cluster"
    if not file.exists():
        return None
    try:
        address = file.read_text().strip()
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=2):
            return address
    except (OSError, ValueError):
        return None


def this_machine() -> Node:
    """Return what a local Ray would have."""
    import torch

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Node("this machine", float(cpus or 1), float(torch.cuda.device_count()))


def connect(address: str | None) -> list[Node]:
    """Join the cluster at an address, or start a local one; return its machines.

    Raises ConfigError where none answers there, or none starts here in two tries.
    """
    # Ray Train's defaults wait for seconds where a study of small trials has none to lose.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
    os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # else it prints whatever `verbose` says
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    options: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "configure_logging": True,
    }
    with said_when_late("joining the cluster" if address else "starting Ray"):
        if address:
            try:
                ray.init(address=address, runtime_env=_where_modules_are(), **options)
            except ConnectionError as error:
                raise ConfigError(f"no Ray cluster answers at {address}: {error}") from error
        else:
            _start_local(options)
    for name in ("ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Tune prints the traceback of each attempt of a trial that fails; its trial.log has it too.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"ray\..*")
    return machines()


@contextmanager
def said_when_late(what: str) -> Iterator[None]:
    """Say on stderr, once, that what goes on here takes longer than it should."""

    def say() -> None:
        print(
            f"{what} takes more than {_LATE:g} s and may have hung: its logs are in "
            f"{_folder()}/session_latest/logs; Ctrl-C ends this, and nothing is lost",
            file=sys.stderr,
            flush=True,
        )

    timer = threading.Timer(_LATE, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def machines() -> list[Node]:
    """Return the machines of the cluster that was joined, as they are now."""
    import ray

    return [
        Node(
            node["NodeManagerAddress"],
            node["Resources"].get("CPU", 0.0),
            node["Resources"].get("GPU", 0.0),
            node["NodeID"],
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def _where_modules_are() -> dict[str, Any]:
    """Let workers of `ray job submit --working-dir` find this folder's modules in their copy of it.

    They look in the working directory alone; without one, in the folder of the driver's script.
    """
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    if "working_dir" not in (job.get("runtime_env") or {}):
        return {}
    return {"env_vars": {"PYTHONPATH": os.path.relpath(Path(__file__).parent)}}


def _start_local(options: dict[str, Any]) -> None:
    import ray

    # Nobody takes this machine back; on a cluster Ray Train looks out for machines that drain.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    here = this_machine()
    for is_last in (False, True):
        try:
            ray.init(
                address="local",
                num_cpus=int(here.cpus),
                num_gpus=int(here.gpus),
                # Tune frees the workers of a stopped trial through the dashboard.
                include_dashboard=True,
                dashboard_host="127.0.0.1",
                **options,
            )
            return
        # A port that was taken meanwhile, a process that came up too slowly: Ray raises many kinds.
        except Exception as error:
            ray.shutdown()
            if is_last:
                first_line = str(error).strip().partition("\n")[0]
                raise ConfigError(
                    f"Ray does not start on this machine, tried twice: {type(error).__name__}: "
                    f"{first_line}; its logs are in {_folder()}/session_latest/logs"
                ) from error


def _folder() -> Path:
    return Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray"


def trial_shape(
    nodes: list[Node], workers: int, gpus_per_worker: float | None, loader_workers: int
) -> Shape:
    """Work out what a trial asks for: a GPU a worker where there are any, a CPU and one a loader.

    On a machine without GPUs loaders and trainer share the CPU: there is nothing to overlap.
    """
    gpus = gpus_per_worker
    if gpus is None:
        gpus = 1.0 if any(node.gpus >= 1 for node in nodes) else 0.0
    return Shape(workers, 1.0 + (loader_workers if gpus else 0), gpus)


def at_once(nodes: list[Node], shape: Shape, concurrent: int | None) -> int:
    """Return how many trials run at once.

    Raises ConfigError with the arithmetic where not even one ever fits.
    """
    held = sum(node.holds(shape) for node in nodes)
    if held < shape.workers:
        sums = "; ".join(
            f"{node.name}: {node.cpus:g} CPU, {node.gpus:g} GPU hold {node.holds(shape)}"
            for node in nodes
        )
        raise ConfigError(
            f"a trial of {shape} never fits: {shape.workers} needed, the cluster holds {held} "
            f"({sums}); ask for fewer --workers, or a smaller --gpus-per-worker"
        )
    fits = held // shape.workers
    return min(fits, concurrent) if concurrent else fits
