"""The ranks of a run, and a network replicated over them."""

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

# Data parallelism without a wrapper: state-dict keys, and the module's own methods, stay as they
# are. torch keeps it on a private path, so that it is imported here and nowhere else.
from torch.distributed._composable.replicate import replicate as _replicate

T = TypeVar("T")


class Ranks(NamedTuple):
    """This process among those that train together."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Tell whether this process writes files and the log."""
        return self.rank == 0


def current_ranks(device: torch.device | str | None = None) -> Ranks:
    """Return this process's rank and device; without a process group it is the only one.

    Without `device`: the GPU whose number is LOCAL_RANK (as torchrun and Ray Train set it; Ray
    shows a worker only its own GPUs, hence the modulo), else the CPU.
    """
    if device is None and torch.cuda.is_available():
        local = int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    chosen = torch.device(device or "cpu")
    if dist.is_available() and dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size(), chosen)
    return Ranks(0, 1, chosen)


def barrier(ranks: Ranks) -> None:
    """Wait for the other ranks, where there are any."""
    if ranks.size > 1:
        dist.barrier()


def mean_over_ranks(values: Tensor, ranks: Ranks) -> Tensor:
    """Average a tensor over the ranks; the same on each of them afterwards."""
    if ranks.size == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / ranks.size


def gather(value: T, ranks: Ranks) -> list[T]:
    """Return every rank's value, of what pickle takes, in the order of ranks, on each of them."""
    if ranks.size == 1:
        return [value]
    found: list[Any] = [None] * ranks.size
    dist.all_gather_object(found, value)
    return found


def broadcast_weights(network: nn.Module, ranks: Ranks) -> None:
    """Give every rank the first one's weights and buffers."""
    if ranks.size > 1:
        for tensor in (*network.parameters(), *network.buffers()):
            dist.broadcast(tensor.detach(), src=0)


def replicate(network: nn.Module, ranks: Ranks) -> nn.Module:
    """Make the ranks average a network's gradients, in place; one rank: nothing to do.

    What is trainable is fixed here: a parameter thawed later would get other gradients on each
    rank. Buffers are not broadcast, since two forwards before a backward would then fail; batch
    statistics are shared by `share_batch_statistics`.
    """
    if ranks.size == 1 or not any(p.requires_grad for p in network.parameters()):
        return network
    broadcast_weights(network, ranks)
    # torch 2.15 gave the option a new name and warns of the old one.
    known = inspect.signature(nn.parallel.DistributedDataParallel).parameters
    sync = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {sync: False, "gradient_as_bucket_view": True}
    if ranks.device.type == "cuda":
        options["device_id"] = ranks.device
    _replicate(network, **options)
    # Not at the first forward: that may be one in which the network is read only.
    _replicate.state(network).lazy_init()  # pyright: ignore[reportFunctionMemberAccess]
    return network


@contextmanager
def gradient_sync(network: nn.Module, *, enabled: bool) -> Iterator[None]:
    """Switch the averaging of gradients for the forwards made inside; not replicated: no effect."""
    switch = getattr(network, "set_requires_gradient_sync", None)
    if switch is None:
        yield
        return
    switch(enabled)
    try:
        yield
    finally:
        switch(not enabled)


def share_batch_statistics(network: nn.Module, ranks: Ranks) -> nn.Module:
    """Make batch norm see the global batch: SyncBatchNorm on GPUs, its like on CPUs.

    Without it each rank normalizes by its own share, and running statistics drift apart.
    """
    if ranks.size == 1:
        return network
    if ranks.device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(network, name, _CPUSyncBatchNorm.from_batch_norm(child))
        else:
            share_batch_statistics(child, ranks)
    return network


class _SumOverRanks(torch.autograd.Function):
    """A sum over ranks whose gradient is the sum of the ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # By itself, and not by all_reduce, so that it has a gradient too (a gradient penalty's).
        return _sum_over_ranks(gradients[0].contiguous())


def _sum_over_ranks(values: Tensor) -> Tensor:
    return _SumOverRanks.apply(values)  # pyright: ignore[reportReturnType]


class _CPUSyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over the batches of all ranks; torch's own SyncBatchNorm needs a GPU."""

    @classmethod
    def from_batch_norm(cls, norm: nn.BatchNorm2d) -> "_CPUSyncBatchNorm":
        synced = cls(norm.num_features, norm.eps, norm.momentum, norm.affine)
        synced.load_state_dict(norm.state_dict())
        for ours, theirs in zip(synced.parameters(), norm.parameters(), strict=True):
            ours.requires_grad_(theirs.requires_grad)
        return synced.train(norm.training)

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        values = input.float()
        count = values.numel() // values.shape[1] * dist.get_world_size()
        # Twice over the ranks: the mean of squares less the square of the mean would cancel.
        mean = _sum_over_ranks(values.sum((0, 2, 3))) / count
        centered = values - mean.view(1, -1, 1, 1)
        variance = _sum_over_ranks(centered.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            momentum = 0.1 if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * count / (count - 1), momentum)
        shape = (1, -1, 1, 1)
        normalized = centered * (variance + self.eps).rsqrt().view(shape)
        return (normalized * self.weight.view(shape) + self.bias.view(shape)).to(input.dtype)
