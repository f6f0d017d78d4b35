"""Whether the ranks of a run still hold the same weights."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from colorization.distributed import Ranks


class RanksDiffer(RuntimeError):
    """The ranks train different networks: names the rank and the first parameter that differs."""


def require_equal_weights(network: nn.Module, ranks: Ranks, when: str) -> None:
    """Raise RanksDiffer, on all ranks, where their weights are not the same bit for bit.

    A parameter whose gradient is not averaged, or another version of torch on one machine, makes
    the ranks drift apart without a word, and the first one's weights are what is kept. One number
    for each parameter goes over the network. `when` is written into the error.
    """
    if ranks.size == 1:
        return
    parameters = dict(network.named_parameters())
    own = torch.stack([_checksum(parameter) for parameter in parameters.values()])
    first = own.clone()
    dist.broadcast(first, src=0)
    differing = torch.nonzero(own != first)
    # Of each rank the first parameter that differs, or the number of them all.
    found = torch.full((ranks.size,), len(own), dtype=torch.int64, device=own.device)
    if len(differing):
        found[ranks.rank] = differing[0, 0]
    dist.all_reduce(found, dist.ReduceOp.MIN)
    for rank, index in enumerate(found.tolist()):
        if index < len(own):
            raise RanksDiffer(
                f"{when}, {[*parameters][index]} of rank {rank} is not that of rank 0: the ranks "
                "train different networks. Are the versions of torch the same on all machines?"
            )


def _checksum(parameter: Tensor) -> Tensor:
    """Add up a parameter's bits as whole numbers: the same in whatever order."""
    bits = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    values = parameter.detach().contiguous().view(bits[parameter.element_size()])
    return values.sum(dtype=torch.int64)
