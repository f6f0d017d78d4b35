"""What every model is to the trainer and to a user: players that take turns, and colorize()."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor, nn

from colorization.distributed import gradient_sync


class Turn(NamedTuple):
    """One player's move in a training step: its parameters descend this loss."""

    player: str  # name of the submodule whose optimizer steps
    loss: Tensor  # scalar
    terms: dict[str, Tensor]  # unweighted parts of the loss, for the log


class Progress(NamedTuple):
    """Where in its stage a training step stands."""

    turns: str  # which of the model's turns the stage plays, e.g. "adversarial"
    step: int  # optimizer steps of this stage so far, from 0
    steps: int  # how many the whole stage has


class Colorizer(nn.Module, ABC):
    """A network, or several, that gives a lightness picture its colors.

    `players` name the submodules that have an optimizer each; `colorizing` names those whose
    averaged weights (EMA) are used to colorize; `multiple` is what sides of pictures fed to
    `colorize` must be multiples of.
    """

    players: tuple[str, ...]
    colorizing: tuple[str, ...]
    multiple: int = 1

    def learning_rate_ratio(self, player: str) -> float:
        """Return the player's learning rate as a multiple of `train.learning_rate`."""
        del player
        return 1.0

    @abstractmethod
    def turns(self, lab: Tensor, progress: Progress) -> Iterator[Turn]:
        """Yield the moves of one training step on scaled Lab pictures (B, 3, H, W).

        The trainer steps the player before it asks for the next turn, so that later turns see
        earlier moves.
        """

    @abstractmethod
    def colorize(self, lightness: Tensor, samples: int = 1) -> Tensor:
        """Give (B, 1, H, W) lightness in [-1, 1] its ab: (samples, B, 2, H, W), ab/110.

        A model without randomness returns the same picture `samples` times.
        """


@contextmanager
def read_only(network: nn.Module) -> Iterator[None]:
    """Let gradients pass through a network without reaching its parameters.

    The opponent in another player's turn: its parameters need no gradient then, and under several
    ranks its reducer must not wait for any (the flag is read at forward).
    """
    trainable = [p for p in network.parameters() if p.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        with gradient_sync(network, enabled=False):
            yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
