"""Tasks on machines of the cluster that are named, and waited for no longer than one cares to."""

from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


def on_node(node: str, function: Callable[..., Any], **resources: float) -> Any:
    """Make a task of a function: on this machine, once, and in a process that ends with it."""
    options: dict[str, Any] = {
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
        "max_retries": 0,
        "max_calls": 1,
        **resources,
    }
    return ray.remote(**options)(function)


def ended(tasks: Mapping[str, Any], patience: float) -> set[str]:
    """Wait for tasks, all of them together as long as for one; end those that are late."""
    _, late = ray.wait([*tasks.values()], num_returns=len(tasks), timeout=patience)
    for task in late:
        ray.cancel(task, force=True)
    return {name for name, task in tasks.items() if task not in late}
