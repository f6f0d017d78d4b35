"""Tells Ray Train's workers where they meet, and lets them form their process group themselves.

Ray Train's own way forms it before the function that trains is called: a host that cannot be
reached is then waited for up to half an hour, and what it failed of names nobody.
"""

import os
import socket
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
from ray.train.backend import Backend
from ray.train.torch import TorchConfig


@dataclass
class OwnProcessGroup(TorchConfig):
    """A torch_config of TorchTrainer whose workers call `process_group(device)`, as by torchrun."""

    @property
    def backend_cls(self) -> Any:
        """Return what sets the workers up."""
        return _Introduction


class _Introduction(Backend):
    share_cuda_visible_devices = True  # as Ray Train's own does, so that GPUs of a host may talk

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Set the variables that torchrun would, on all workers."""
        address, port = worker_group.execute_single(0, meeting_point)
        worker_group.execute(_introduce, address, port)


def meeting_point() -> tuple[str, int]:
    """Return the address by which other hosts know the first worker's, and a port free there."""
    address = ray.util.get_node_ip_address()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as free:
        return address, free.getsockname()[1]


def _introduce(address: str, port: int) -> None:
    context = ray.train.get_context()
    describe_group(
        address,
        port,
        RANK=context.get_world_rank(),
        WORLD_SIZE=context.get_world_size(),
        LOCAL_RANK=context.get_local_rank(),
        LOCAL_WORLD_SIZE=context.get_local_world_size(),
        NODE_RANK=context.get_node_rank(),
    )


def describe_group(address: str, port: int, **numbers: int) -> None:
    """Describe a group in this process's environment, as torchrun does, for `process_group`."""
    texts = {name: str(number) for name, number in numbers.items()}
    os.environ.update(MASTER_ADDR=address, MASTER_PORT=str(port), **texts)
