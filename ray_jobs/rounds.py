"""Asks each machine of a cluster for its report, and waits for none that is silent."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import ray
from ray import cloudpickle
from ray.core.generated import common_pb2
from ray.exceptions import RayError

import node_report
import shared_folder
from diagnosis import Machine
from failure import failure_of
from on_nodes import ended, on_node

# Why a node may be gone that somebody gave back.
_MEANT = ("EXPECTED_TERMINATION", "AUTOSCALER_DRAIN_PREEMPTED", "AUTOSCALER_DRAIN_IDLE")
_REASONS: Any = common_pb2


def ask_machines(folder: Path, patience: float) -> list[Machine]:
    """Let each machine report, and meet the driver in a folder; the driver's own comes first.

    A machine that is lost, or has not answered after so many seconds, has its problem in place of a
    report. Raises OSError where the driver cannot write into the folder.
    """
    for module in (node_report, shared_folder):
        cloudpickle.register_pickle_by_value(module)
    me = ray.get_runtime_context().get_node_id()
    nodes = listed(ray.nodes())
    with shared_folder.meeting_place(folder) as (meeting, token):
        tasks = {
            node["NodeID"]: on_node(node["NodeID"], node_report.report, num_cpus=0).remote(
                str(meeting), token, node["NodeID"]
            )
            for node in nodes
            if node["Alive"]
        }
        answered = ended(tasks, patience)
        machines: list[Machine] = []
        for node in nodes:
            key = node["NodeID"]
            report: dict[str, Any] | None = None
            problem, arrived = "", True
            if not node["Alive"]:
                problem = f"lost: {node.get('DeathReasonMessage') or 'it does not answer Ray'}"
            elif key not in answered:
                problem = f"no answer in {patience:g} s"
            else:
                try:
                    report = cast(dict[str, Any], ray.get(tasks[key]))
                    met = not report["folder_fault"]
                    arrived = not met or shared_folder.came(meeting / key, token)
                except RayError as error:
                    problem = failure_of(error).reason
            sizes: Mapping[str, float] = node.get("Resources") or {}
            name = node["NodeManagerAddress"]
            if host := node.get("NodeManagerHostname"):
                name = f"{name} ({host})"
            machines.append(
                Machine(
                    key, name, sizes.get("CPU", 0), sizes.get("GPU", 0), report, problem, arrived
                )
            )
    return sorted(machines, key=lambda machine: machine.id != me)


def listed(nodes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the living of `ray.nodes()`, and those lost that nobody gave back or replaced."""
    living = [node for node in nodes if node["Alive"]]
    addresses = {node["NodeManagerAddress"] for node in living}
    meant = {_REASONS.NodeDeathInfo.Reason.Value(reason) for reason in _MEANT}
    lost = {
        node["NodeManagerAddress"]: node
        for node in nodes
        if not node["Alive"] and node.get("DeathReason") not in meant
    }
    return [*living, *(node for address, node in lost.items() if address not in addresses)]
