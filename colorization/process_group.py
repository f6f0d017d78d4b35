"""The process group of the ranks that torchrun or Ray Train started."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from colorization.distributed import current_ranks
from colorization.meeting import (
    ARRIVAL,
    GLOO,
    NCCL,
    Unreachable,
    await_first_rank,
    meet,
    patience,
)

_LONGEST = timedelta(minutes=30)  # that a collective may take in training


_SAID = "said"


class Group(NamedTuple):
    """The processes that torchrun started together; without it, this one alone."""

    store: Store | None

    def say_once(self, say: Callable[[], None], patience: float = 5.0) -> None:
        """Say what more than one rank may have met: the first rank does at once.

        Another one waits so many seconds for it, since torchrun ends all ranks when one has ended,
        and says it where the first rank did not.
        """
        if self.store is None:
            say()
            return
        if dist.get_rank() > 0:
            with suppress(dist.DistStoreError):
                self.store.wait([_SAID], timedelta(seconds=patience))
        if not self.store.check([_SAID]):
            say()
            self.store.set(_SAID, "")

    def lost_another_rank(self, error: BaseException) -> bool:
        """Tell whether an error is only that a rank which said why has left."""
        return (
            type(error) in (RuntimeError, dist.DistBackendError, dist.DistNetworkError)
            and self.store is not None
            and self.store.check([_SAID])
        )


@contextmanager
def process_group(device: torch.device | str | None = None) -> Iterator[Group]:
    """Join the group that the environment describes as torchrun does, where there is one.

    `device` as for `current_ranks`: NCCL on GPUs, gloo on CPUs, over the interface by which the
    ranks reach each other, or which GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME names. Raises
    Unreachable, within COLORIZATION_CONNECT_SECONDS (30), where they do not.
    """
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield Group(None)
        return
    chosen = current_ranks(device).device
    on_gpus = chosen.type == "cuda"
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if (me := int(os.environ["RANK"])) > 0:
        await_first_rank(address, port, me)
    try:
        store, rank, size = next(rendezvous("env://", timeout=timedelta(seconds=ARRIVAL)))
    except dist.DistError as error:
        raise Unreachable(f"the ranks do not all come to rank 0 ({address}): {error}") from error
    variable = NCCL if on_gpus else GLOO
    network = meet(PrefixStore("meeting", store), rank, size, address, variable)
    if network.interface:
        os.environ.setdefault(GLOO, network.interface)
        if network.hosts > 1:  # within one NCCL has better ways than the network
            os.environ.setdefault(NCCL, network.interface)
    backend = "nccl" if on_gpus else "gloo"
    try:
        dist.init_process_group(
            backend,
            store=PrefixStore("group", store),
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=patience()),
        )
        # It makes the backend connect the ranks, where that has not been done yet.
        one = torch.ones(1, device=chosen)
        dist.all_reduce(one, async_op=True).wait(timedelta(seconds=patience()))
    except (RuntimeError, dist.DistError) as error:
        used = os.environ.get(variable) or "an interface of its own choice"
        raise Unreachable(
            f"the ranks reach each other, but their first sum by {backend} on {used} fails: {error}"
        ) from error
    _set_timeout(_LONGEST)
    yield Group(store)
    # Not after an error: NCCL would wait for what other ranks never send.
    dist.destroy_process_group()


def _set_timeout(timeout: timedelta) -> None:
    # torch 2.15 made it public.
    change = getattr(dist, "set_timeout", None) or distributed_c10d._set_pg_timeout
    change(timeout)
