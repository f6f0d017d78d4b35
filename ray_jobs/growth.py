"""A cluster that grows: machines that its autoscaler may bring, and the wait for them."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from ray.util.placement_group import placement_group, remove_placement_group

from cluster import Node, Shape, machines
from colorization.config import ConfigError

_CLUSTER_FILE = Path("~/ray_bootstrap_config.yaml")  # where `ray up` leaves its file on the head
_PAUSE = 1.0  # seconds between two looks
_JOIN = 120.0  # seconds that machines which are always there may take to join
_BRING = 1200.0  # seconds that a cloud may take to bring what a trial needs

Say = Callable[[str], None]


class Growth(NamedTuple):
    """What a cluster's file promises."""

    always: int = 1  # machines that are always there, the head among them
    at_most: int = 0  # machines beside the head
    kinds: tuple[tuple[int, Node], ...] = ()  # how many of what, the preferred ones first

    def may_come(self, there: Sequence[Node]) -> list[Node]:
        """Return the machines that may still come beside those that are there."""
        left = self.at_most - (len(there) - 1)
        coming: list[Node] = []
        for count, node in self.kinds:
            coming += [node] * min(count, left - len(coming))
        return coming


def read_growth(file: Path = _CLUSTER_FILE) -> Growth:
    """Read the file of the cluster that this machine is the head of; none grows without one.

    Kinds whose size the file does not tell, as those of one's own machines, are not counted on.
    """
    path = file.expanduser()
    if not path.exists():
        return Growth()
    said: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    kinds = {
        name: kind
        for name, kind in said["available_node_types"].items()
        if name != said["head_node_type"] or said["provider"]["type"] == "local"
    }
    most = said["max_workers"]
    sized = sorted(
        ((name, kind) for name, kind in kinds.items() if kind.get("resources")),
        key=lambda one: -one[1].get("priority", 0),
    )
    return Growth(
        1 + sum(kind.get("min_workers", 0) for kind in kinds.values()),
        most,
        tuple((kind.get("max_workers", most), _node(name, kind)) for name, kind in sized),
    )


def wait_for_all(nodes: list[Node], always: int, say: Say, patience: float = _JOIN) -> list[Node]:
    """Wait for the machines that a cluster always has; go on without those that do not come."""
    if len(nodes) >= always:
        return nodes
    say(f"{len(nodes)} of {always} machines are there; waits {patience:g} s for the others")
    deadline = time.monotonic() + patience
    while len(nodes) < always and time.monotonic() < deadline:
        time.sleep(_PAUSE)
        nodes = machines()
    if len(nodes) < always:
        say(f"goes on with {len(nodes)} machines: {', '.join(node.name for node in nodes)}")
    return nodes


def wait_for_room(
    nodes: list[Node], shape: Shape, say: Say, patience: float = _BRING
) -> list[Node]:
    """Have the autoscaler bring what one trial needs, unless it is there; return all machines.

    Raises ConfigError where it does not come.
    """
    if _fits(nodes, shape):
        return nodes
    say(f"waits for machines that hold {shape} (`ray status` tells how they come)")
    started = time.monotonic()
    resources = {"CPU": shape.cpus_per_worker}
    if shape.gpus_per_worker:
        resources["GPU"] = shape.gpus_per_worker
    # A reservation asks as a trial does, and ends with its job; `request_resources` is one for the
    # whole cluster, which another job overwrites and a killed one leaves behind.
    wanted = placement_group([resources] * shape.workers)
    try:
        while not _fits(nodes, shape):
            if time.monotonic() - started > patience:
                raise ConfigError(
                    f"no machines for {shape} came within {patience / 60:g} minutes: `ray status` "
                    "on the head, and its log monitor.out, tell why (quota, capacity, credentials)"
                )
            time.sleep(_PAUSE)
            nodes = machines()
    finally:
        remove_placement_group(wanted)
    say(f"{len(nodes)} machines after {time.monotonic() - started:.0f} s")
    return nodes


def _fits(nodes: Sequence[Node], shape: Shape) -> bool:
    return sum(node.holds(shape) for node in nodes) >= shape.workers


def _node(name: str, kind: Mapping[str, Any]) -> Node:
    resources = kind["resources"]
    return Node(f"{name} (to come)", resources.get("CPU", 0), resources.get("GPU", 0))
