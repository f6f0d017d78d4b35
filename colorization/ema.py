"""Averaged weights (EMA) of the networks that colorize."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class AveragedWeights:
    """An exponential moving average of networks' weights, kept outside of them.

    The decay grows from 0.1 to `decay`, min(decay, (1 + t) / (10 + t)) after t updates, so that
    the start is soon forgotten. Buffers (running statistics) are copied, not averaged.
    """

    def __init__(self, networks: Mapping[str, nn.Module], decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._networks = dict(networks)
        self._averages = {name: tensor.detach().clone() for name, tensor in self._current().items()}

    def _current(self) -> dict[str, Tensor]:
        return {
            f"{name}.{key}": tensor
            for name, network in self._networks.items()
            for key, tensor in network.state_dict().items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now; to be called after each step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        trained = {
            f"{name}.{key}"
            for name, network in self._networks.items()
            for key, parameter in network.named_parameters()
            if parameter.requires_grad  # not what rests, nor constants kept as parameters (FrEIA)
        }
        for key, tensor in self._current().items():
            if key in trained:
                self._averages[key].lerp_(tensor, 1 - decay)
            else:
                self._averages[key].copy_(tensor)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the networks hold the averaged weights for a while."""
        current = self._current()
        backup = {key: tensor.detach().clone() for key, tensor in current.items()}
        _copy(self._averages, current)
        try:
            yield
        finally:
            _copy(backup, current)

    def state_dict(self) -> dict[str, object]:
        """Return what `load_state_dict` needs to go on."""
        return {"updates": self.updates, "averages": self._averages}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go on from another's `state_dict`."""
        averages, updates = state["averages"], state["updates"]
        assert isinstance(averages, dict)
        assert isinstance(updates, int)
        self.updates = updates
        _copy(averages, self._averages)


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for key, tensor in target.items():
        tensor.copy_(source[key])
