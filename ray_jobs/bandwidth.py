"""How fast the cluster's machines add up numbers: all-reduces over one process on each."""

import statistics
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from failure import failure_of
from introduction import describe_group, meeting_point

SIZES = (4_000_000, 64_000_000)  # bytes
_TINY = 4
_REPEATS = {_TINY: 20, **dict.fromkeys(SIZES, 3)}


class Speed(NamedTuple):
    """Of all-reduces over one process a machine."""

    machines: int
    latency: float  # seconds that one of four bytes takes
    rates: dict[int, float]  # bytes -> bytes a second that each machine sends, and receives

    def __str__(self) -> str:
        """Write it for a person."""
        rates = ", ".join(
            f"{rate / 1e6:.0f} MB/s at {size / 1e6:g} MB" for size, rate in self.rates.items()
        )
        return f"{rates}, {1000 * self.latency:.1f} ms at least"


class _Member:
    def meeting_point(self) -> tuple[str, int]:
        return meeting_point()

    def measure(self, rank: int, size: int, address: str, port: int) -> dict[int, float]:
        """Return the seconds of an all-reduce by its bytes. Raises Unreachable."""
        import torch
        import torch.distributed as dist

        from colorization.process_group import process_group

        describe_group(address, port, RANK=rank, WORLD_SIZE=size, LOCAL_RANK=0)
        device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
        found: dict[int, float] = {}
        with process_group(device):
            for count, repeats in _REPEATS.items():
                values = torch.zeros(count // 4, device=device)
                taken: list[float] = []
                for _ in range(repeats + 1):  # the first one warms up
                    dist.barrier()
                    _wait(device)
                    started = time.perf_counter()
                    dist.all_reduce(values)
                    _wait(device)
                    taken.append(time.perf_counter() - started)
                found[count] = statistics.median(taken[1:])
        return found


def _wait(device: Any) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize()


def measure(machines: Mapping[str, str], gpus: bool, patience: float) -> Speed | str:
    """Measure over the machines of these node ids (and names), by gloo, or NCCL with a GPU on each.

    Returns why it could not be, after so many seconds at most.
    """
    nodes = [*machines]
    options: dict[str, Any] = {"num_cpus": 0, "num_gpus": int(gpus)}
    member_class: Any = ray.remote(**options)(_Member)
    members: dict[str, Any] = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        members[node] = member_class.options(scheduling_strategy=there).remote()
    deadline = time.monotonic() + patience
    try:
        first = _within({nodes[0]: members[nodes[0]].meeting_point.remote()}, deadline)[nodes[0]]
        found = _within(
            {
                node: member.measure.remote(rank, len(nodes), *first)
                for rank, (node, member) in enumerate(members.items())
            },
            deadline,
        )
    except TimeoutError as error:
        silent = ", ".join(machines[node] for node in error.args)
        return f"no answer in {patience:g} s from {silent}"
    except RayError as error:
        return failure_of(error).reason
    finally:
        for member in members.values():
            ray.kill(member)
    # All ranks wait for the slowest: the first one's clock is as good as any.
    seconds: dict[int, float] = found[nodes[0]]
    share = 2 * (len(nodes) - 1) / len(nodes)
    rates = {size: share * size / seconds[size] for size in SIZES}
    return Speed(len(nodes), seconds[_TINY], rates)


def _within(tasks: Mapping[str, Any], deadline: float) -> dict[str, Any]:
    """Return the answers; raise TimeoutError with the nodes that are silent, RayError of any."""
    waiting = {task: node for node, task in tasks.items()}
    while waiting:
        ready, _ = ray.wait([*waiting], timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError(*waiting.values())
        for task in ready:
            del waiting[task]
            ray.get(task)  # one that failed does not wait for the others
    return {node: ray.get(task) for node, task in tasks.items()}
