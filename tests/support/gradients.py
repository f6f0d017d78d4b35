"""Which parameters a loss reaches."""

from torch import Tensor, nn


def untrained(network: nn.Module, pictures: Tensor) -> list[str]:
    """Name the parameters that the answer for these pictures does not depend on."""
    network(pictures).pow(3).mean().backward()
    return [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().max() > 0
    ]
